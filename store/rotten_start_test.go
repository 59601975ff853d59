package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
)

// pausing is a disk under a machine on which whoever logs a line that begins so
// is held up for a second of a bubble's time, while others go on.
type pausing struct {
	storage.Storage
	line string
}

func (p pausing) Log(line string) {
	p.Storage.Log(line)
	if strings.HasPrefix(line, p.line) {
		time.Sleep(time.Second)
	}
}

// compactsFirst lets the compaction that LevelDB begins with its opening end, or
// fail, before the store goes on; compactsLate holds it up until the store is open.
func compactsFirst(d *disk.Disk) storage.Storage { return pausing{d.Open(), "db@open done"} }
func compactsLate(d *disk.Disk) storage.Storage  { return pausing{d.Open(), "table@compaction L"} }

// toCompact is a disk with so many tables that the next opening compacts them, of
// a store that was killed.
func toCompact(t *testing.T, seed uint64) *rotten {
	h := &rotten{t: t, d: disk.New(seed), acked: map[string]*outcome{}}
	for life := range 8 { // each but the first begins with a new table
		h.Store = mustOpen(t, h.d.Open(), small())
		if life == 0 {
			ringOf(t, h.Store, rottenPartitions)
		}
		for i := range 40 {
			key := fmt.Sprintf("k%d.%02d", life, i)
			h.acked[key] = mustPut(t, h.Store, partitionOfKey(key), key, strings.Repeat("v", 400))
		}
		stop3(h.d, h.Store, 1)
	}
	if n := len(h.d.Files(storage.TypeTable)); n != 7 {
		t.Fatalf("%d tables, want 7", n)
	}
	return h
}

// flipEach damages a block of records in each of so many tables.
func (h *rotten) flipEach(tables int) {
	for _, fd := range h.d.Files(storage.TypeTable)[:tables] {
		h.d.Flip(fd, h.d.Size(fd)/3, 1)
	}
}

// A compaction that meets rot before the store has opened does not end the start.
// What is lost is named by partition, and stays so.
func TestFault33_StartOverRottenTables(t *testing.T) {
	for _, tables := range []int{1, 7} {
		bubble(t, func(t *testing.T) {
			h := toCompact(t, 1)
			h.flipEach(tables)
			h.Store = open(t, compactsFirst(h.d), small())
			hl, st := h.Health(), h.Stats()
			if hl.Failed != nil || hl.LossyAll || hl.MetaLost || len(hl.Lossy) == 0 || st.Rotten != int64(tables) || st.Reopenings != 0 {
				t.Fatalf("%d tables: health %+v, stats %+v", tables, hl, st)
			}
			if h.Boot() != 9 {
				t.Errorf("boot %d, want 9", h.Boot())
			}
			if gone := h.check(); gone == 0 {
				t.Error("the damage does not show")
			}
			mustPut(t, h.Store, 1, "k", "v")
			stop3(h.d, h.Store, 2)
			h.Store = open(t, compactsFirst(h.d), small())
			if again := h.Health(); !slices.Equal(again.Lossy, hl.Lossy) || again.LossyAll || again.MetaLost {
				t.Fatalf("the loss was forgotten: %+v, now %+v", hl, again)
			}
			h.check()
		})
	}
}

// A crash while a start takes rot out of the tables leaves the losses to be found
// again, or named: they are the same as without it.
func TestFault33_CrashWhileAStartMendsTables(t *testing.T) {
	ended := 0
	for seed := range uint64(runs(20, 2000)) {
		bubble(t, func(t *testing.T) {
			h := toCompact(t, seed)
			h.flipEach(1 + int(seed%7))
			before := h.d.Snapshot()
			h.Store = mustOpen(t, compactsFirst(h.d), small())
			want := h.lossy()
			stop3(h.d, h.Store, 1)
			h.d.Restore(before)

			slow(h.d, 10*time.Millisecond)
			opened := make(chan *store.Store, 1)
			go func() {
				s, _ := store.Open(compactsFirst(h.d), small())
				opened <- s
			}()
			// The first try takes a second, and so does the naming.
			time.Sleep(time.Second + time.Duration(rand.New(rand.NewPCG(seed, 33)).IntN(1500))*time.Millisecond)
			if seed%2 == 0 {
				h.d.Kill()
			} else {
				h.d.PowerCut()
			}
			if s := <-opened; s != nil {
				_ = s.Close()
			} else {
				ended++
			}
			slow(h.d, 0)
			h.Store = open(t, compactsFirst(h.d), small())
			if now := h.lossy(); !slices.Equal(now, want) {
				t.Fatalf("seed %d: lossy are %v, want %v: %+v", seed, now, want, h.Health())
			}
			h.check()
		})
	}
	if ended == 0 {
		t.Error("no start was ended: that proves nothing")
	}
}

// lossy are the lossy partitions, sorted, none of which is lossy for metadata.
func (h *rotten) lossy() []ring.Partition {
	hl := h.Health()
	if hl.Failed != nil || hl.LossyAll || hl.MetaLost || len(hl.Lossy) == 0 {
		h.t.Fatalf("health %+v", hl)
	}
	return slices.Sorted(slices.Values(hl.Lossy))
}

// Rot that is met right after the start is in the way of no metadata: a node reads
// and writes some before anything else.
func TestFault33_MetadataIsStoredWhileRotIsPutOutOfTheWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := toCompact(t, 3)
		h.flipEach(7)
		h.Store = open(t, compactsLate(h.d), small())
		slow(h.d, 10*time.Millisecond)
		for n := range 300 {
			want := fmt.Sprint(n)
			if err := h.SetMeta("node", []byte(want)); err != nil {
				t.Fatalf("set metadata: %v", err)
			}
			if b, err := h.Meta("node"); err != nil || string(b) != want {
				t.Fatalf("metadata is %q, %v, want %q", b, err, want)
			}
		}
		if n := h.Stats().Reopenings; n == 0 {
			t.Fatal("the rot was in nobody's way")
		}
		h.lossy()
		h.check()
	})
}
