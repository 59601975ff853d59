package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
)

// rotten is a store on a disk whose tables rot, and what it has acknowledged.
type rotten struct {
	*store.Store
	t     *testing.T
	r     *rand.Rand
	d     *disk.Disk
	acked map[string]*outcome
	under map[string]*outcome
}

const rottenPartitions = 16

// rottenKeys are fewer under the race detector, which takes ten times as long.
var rottenKeys = map[bool]int{false: 20_000, true: 4000}[raceBuild]

func partitionOfKey(key string) ring.Partition {
	n := 0
	for _, c := range key {
		n = n*31 + int(c)
	}
	return ring.Partition(n & (rottenPartitions - 1))
}

func newRotten(t *testing.T, seed uint64, keys int) *rotten {
	h := &rotten{t: t, r: rand.New(rand.NewPCG(seed, 14)), d: disk.New(seed),
		acked: map[string]*outcome{}, under: map[string]*outcome{}}
	h.Store = open(t, h.d.Open(), small())
	ringOf(t, h.Store, rottenPartitions)
	for i := range keys {
		h.put(fmt.Sprintf("k%05d", i))
		if i%200 == 199 {
			h.settle()
		}
	}
	h.settle()
	// What a block held is forgotten by all caches.
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h.Store = open(t, h.d.Open(), small())
	return h
}

func (h *rotten) put(key string) {
	if h.under[key] == nil {
		h.under[key] = start(h.Store, blind(partitionOfKey(key), key, strings.Repeat("v", 20+h.r.IntN(200))))
	}
}

// settle waits for all puts. One that was refused over damage may be tried again.
func (h *rotten) settle() {
	for key, o := range h.under {
		switch err := o.wait(); {
		case err == nil:
			h.acked[key] = o
		case !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrFailed) && !errors.Is(err, store.ErrUncertain):
			h.t.Fatal(err)
		}
	}
	clear(h.under)
}

// flip changes one bit of any table.
func (h *rotten) flip() {
	fds := h.d.Files(storage.TypeTable)
	fd := fds[h.r.IntN(len(fds))]
	if n := h.d.Size(fd); n > 0 {
		h.d.Flip(fd, h.r.IntN(n), 1<<h.r.IntN(8))
	}
}

// pass scrubs everything once.
func (h *rotten) pass() {
	var after []byte
	for {
		next, _, _, err := h.ScrubPiece(after, 64<<10)
		switch {
		case errors.Is(err, store.ErrFailed):
			serving(h.t, h.Store)
			continue
		case err != nil:
			h.t.Fatal(err)
		case next == nil:
			return
		}
		after = next
	}
}

// calm scrubs until nothing is found any more.
func (h *rotten) calm() {
	for range 20 {
		before := h.Stats().Rotten
		h.pass()
		time.Sleep(5 * time.Second)
		serving(h.t, h.Store)
		if h.Stats().Rotten == before {
			return
		}
	}
	h.t.Fatalf("rot is found for ever: %d", h.Stats().Rotten)
}

// check reads and scans everything: it is right, or its partition is lossy; and
// nothing is in the way.
func (h *rotten) check() (gone int) {
	h.t.Helper()
	for key, o := range h.acked {
		p := partitionOfKey(key)
		if get(h.t, h.Store, p, key).Seen.Covers(o.dot) {
			continue
		}
		gone++
		if c := h.ClockOf(p); h.CountsForRead(p) || c.Has(o.dot) {
			h.t.Fatalf("%s is gone: its partition %d counts %v, its clock claims it %v", key, p, h.CountsForRead(p), c.Has(o.dot))
		}
	}
	for p := range ring.Partition(rottenPartitions) {
		wantTree(h.t, h.Store, p)
	}
	return gone
}

// TestFault33_RotIsPutOutOfTheWay flips bits all over the tables of a store that
// is being written to, scrubbed and read. Afterwards every key is right, or in a
// partition that is named as lossy; all can be read, scanned, written and
// compacted again.
func TestFault33_RotIsPutOutOfTheWay(t *testing.T) {
	rot, gone := int64(0), 0
	for seed := range uint64(runs(1, 200)) {
		bubble(t, func(t *testing.T) {
			h := newRotten(t, seed, rottenKeys)
			for range 50 {
				h.flip()
				switch h.r.IntN(4) {
				case 0:
					h.pass()
				case 1:
					for range 200 {
						key := fmt.Sprintf("k%05d", h.r.IntN(rottenKeys))
						_, _ = tryGet(h.Store, partitionOfKey(key), key)
					}
				case 2:
					_ = h.Scan(ring.Partition(h.r.IntN(rottenPartitions)), nil, 0, func(_, _ []byte) bool { return true })
				}
				for range h.r.IntN(200) {
					h.put(fmt.Sprintf("k%05d", h.r.IntN(rottenKeys)))
				}
				if h.r.IntN(2) == 0 {
					h.settle()
					time.Sleep(time.Second)
				}
			}
			h.settle()
			h.calm()
			gone += h.check()
			rot += h.Stats().Rotten
			if hl := h.Health(); hl.Failed != nil || len(hl.Losses) == 0 && h.Stats().Rotten > 0 {
				t.Fatalf("%d rotten, health %+v", h.Stats().Rotten, hl)
			}
			h.rewriteAll()
			stop3(h.d, h.Store, h.r.IntN(3))
			lossy := h.Health()
			h.Store = open(t, h.d.Open(), small())
			if now := h.Health(); now.LossyAll != lossy.LossyAll || fmt.Sprint(now.Lossy) != fmt.Sprint(lossy.Lossy) {
				t.Fatalf("losses were forgotten or invented: %+v, were %+v", now, lossy)
			}
			h.check()
		})
	}
	t.Logf("%d rotten blocks and records, %d keys lost with them", rot, gone)
	if rot == 0 || gone == 0 {
		t.Error("the test does not bite")
	}
}

// One flipped bit costs the partitions that its block had records of, and no other.
func TestFault33_OneFlipCostsItsPartitionsOnly(t *testing.T) {
	few, none := 0, 0
	for seed := range uint64(runs(15, 2000)) {
		bubble(t, func(t *testing.T) {
			h := newRotten(t, seed, 1500)
			h.flip()
			h.calm()
			h.check()
			switch hl := h.Health(); {
			case hl.Failed != nil:
				t.Fatalf("health: %+v", hl)
			case !hl.LossyAll && len(hl.Lossy) == 0:
				none++
			case !hl.LossyAll && len(hl.Lossy) <= 3:
				few++
			}
		})
	}
	t.Logf("%d without a loss, %d with few lossy partitions", none, few)
	if few < runs(15, 2000)/2 {
		t.Errorf("%d of %d flips cost a few partitions only", few, runs(15, 2000))
	}
}

// rewriteAll writes every key again, all of which must work: also the compactions
// that follow.
func (h *rotten) rewriteAll() {
	reopenings := h.Stats().Reopenings
	for i := range rottenKeys {
		h.put(fmt.Sprintf("k%05d", i))
		if i%500 == 499 {
			h.settle()
		}
	}
	synctest.Wait()
	for key, o := range h.acked {
		if !get(h.t, h.Store, partitionOfKey(key), key).Seen.Covers(o.dot) {
			h.t.Fatalf("%s was written again, and is lost", key)
		}
	}
	if h.Stats().Reopenings != reopenings {
		h.t.Fatalf("damage was still in the way: %+v", h.Health())
	}
}

// A damaged filter block costs nothing but time.
func TestFault33_DamagedFilterIsNoLoss(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newRotten(t, 3, 3000)
		fd := h.d.Files(storage.TypeTable)[0]
		b := string(h.d.Read(fd))
		// The meta block names the filter block, which lies right before it.
		h.d.Flip(fd, strings.LastIndex(b, "filter.")-20, 1)
		h.calm()
		reopened(t, h.Store, 1)
		if hl := h.Health(); len(hl.Losses) > 0 {
			t.Fatalf("health: %+v", hl)
		}
		if gone := h.check(); gone > 0 {
			t.Fatalf("%d keys are gone", gone)
		}
	})
}

// A crash between the naming of a loss and the mending of the table leaves both to
// be done again, and one in the middle of the mending too.
func TestFault33_CrashWhileRotIsPutOutOfTheWay(t *testing.T) {
	for seed := range uint64(runs(12, 500)) {
		bubble(t, func(t *testing.T) {
			h := newRotten(t, seed, 2000)
			for range 3 {
				h.flip()
			}
			// The process ends at some write of the quarantine.
			slow(h.d, 10*time.Millisecond)
			h.pass()
			time.Sleep(time.Duration(h.r.IntN(200)) * time.Millisecond)
			stop3(h.d, h.Store, 1+h.r.IntN(2))
			slow(h.d, 0)
			h.Store = open(t, h.d.Open(), small())
			h.calm()
			h.check()
		})
	}
}

// Scrubbing sees every record on disk once a pass, and says how many.
func TestScrubReadsEveryRecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newRotten(t, 5, 5000)
		var after []byte
		records, size, pieces := 0, 0, 0
		for {
			next, n, bytes, err := h.ScrubPiece(after, 10_000)
			if err != nil {
				t.Fatal(err)
			}
			if bytes > 10_000+10_000 {
				t.Fatalf("a piece of %d bytes", bytes)
			}
			records, size, pieces = records+n, size+bytes, pieces+1
			if next == nil {
				break
			}
			after = next
		}
		if records < 5000 || records > 6000 || pieces < size/20_000 || h.Stats().Scrubbed != int64(records) {
			t.Fatalf("%d records of 5000 in %d bytes, %d pieces", records, size, pieces)
		}
		if _, _, _, err := h.ScrubPiece([]byte("nonsense"), 1); err == nil {
			t.Fatal("a place that is none was taken")
		}
		if st := h.Stats(); st.Rotten > 0 || st.Reopenings > 0 {
			t.Fatalf("stats: %+v", st)
		}
	})
}

// The scrub reads the disk and not what a cache still holds.
func TestFault37_ScrubPassesByTheCaches(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newRotten(t, 6, 2000)
		for key := range h.acked {
			get(t, h.Store, partitionOfKey(key), key)
		}
		fd := h.d.Files(storage.TypeTable)[0]
		h.d.Zero(fd, h.d.Size(fd)/2, 100)
		h.pass()
		reopened(t, h.Store, 1)
		if hl := h.Health(); len(hl.Lossy) == 0 && !hl.LossyAll || h.Stats().Rotten == 0 {
			t.Fatalf("health %+v", hl)
		}
		h.check()
	})
}

// A table that has one block only has nothing left without it.
func TestFault33_TableOfOneRottenBlock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newRotten(t, 7, 5)
		for _, fd := range h.d.Files(storage.TypeTable) {
			h.d.Flip(fd, 20, 1)
		}
		h.calm()
		if st := h.Stats(); st.Rotten == 0 || st.Reopenings == 0 {
			t.Fatalf("stats %+v, health %+v", st, h.Health())
		}
		if gone := h.check(); gone == 0 {
			t.Fatal("the damage does not show")
		}
		mustPut(t, h.Store, 1, "k", "v")
	})
}
