package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// dropStory is a partition that is dropped twice, with writes between, and what was
// acknowledged of it. Its steps go on after a failure as a node does.
type dropStory struct {
	s     *store.Store
	epoch uint64 // of the last adoption that was acknowledged
	// writes are those since the first drop, by key.
	writes map[string]*dropWrite
	noted  bool
	ended  chan struct{}
}

type dropWrite struct {
	epoch uint64
	acked bool
}

const dropOldKeys = 2300 // three pieces

// beforeDrops is a disk with a partition to drop and another one, and the dots of the
// first.
func beforeDrops(t *testing.T) (disk.Snapshot, []version.Dot) {
	var copied disk.Snapshot
	var dots []version.Dot
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		var all []*outcome
		for i := range dropOldKeys {
			all = append(all, start(s, blind(1, fmt.Sprintf("old%d", i), "v")))
		}
		for i := range 20 {
			all = append(all, start(s, blind(2, fmt.Sprintf("other%d", i), "v")))
		}
		for _, o := range all {
			if err := o.wait(); err != nil {
				t.Fatal(err)
			}
		}
		for _, o := range all[:dropOldKeys] {
			dots = append(dots, o.dot)
		}
		if err := errors.Join(adopt(s, 1), s.Close()); err != nil {
			t.Fatal(err)
		}
		copied = d.Snapshot()
	})
	return copied, dots
}

var dropNote = ring.Pulled{By: ring.NodeID{1}, Since: 5, From: []ring.NodeID{{2}, {3}}}

func (h *dropStory) tell() {
	defer close(h.ended)
	_ = h.adopt(5, 1) && h.put(5, "old7") && h.put(5, "new0") && h.note() && h.adopt(6) && h.put(6, "new1") && h.adopt(7, 1) && h.put(7, "newest")
}

// again does something until it works. It is false once the store is dead.
func (h *dropStory) again(do func() error) bool {
	for range 20 {
		err := do()
		if err == nil {
			return true
		}
		if errors.Is(err, store.ErrClosed) || errors.Is(err, disk.ErrDead) {
			return false
		}
		// Nobody waits for a dead store.
		for range 200 {
			if h.s.Health().Failed == nil && len(h.s.Dropping()) == 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return false
}

func (h *dropStory) adopt(epoch uint64, drops ...ring.Partition) bool {
	return h.again(func() error {
		// The fence of partition 1 rises with its moves only.
		err := h.s.Adopt(fmt.Append(nil, "record ", epoch), func(p ring.Partition) uint64 {
			if p == 1 && epoch == 6 {
				return 5
			}
			return epoch
		}, 8, drops)
		if err == nil {
			h.epoch = epoch
		}
		return err
	})
}

func (h *dropStory) put(epoch uint64, key string) bool {
	w := &dropWrite{epoch: epoch}
	h.writes[key] = w
	return h.again(func() error {
		err := start(h.s, putAt(1, epoch, key, "after")).wait()
		w.acked = err == nil
		return err
	})
}

func (h *dropStory) note() bool {
	return h.again(func() error {
		err := h.s.NotePulled(1, dropNote)
		h.noted = err == nil
		return err
	})
}

// check looks at a store that was opened after the story broke off.
func (h *dropStory) check(t *testing.T, s *store.Store, old []version.Dot) {
	t.Helper()
	if health := s.Health(); len(health.Losses) > 0 {
		t.Fatalf("losses: %+v", health)
	}
	var epoch uint64
	if b, err := s.Meta("ring"); err != nil {
		t.Fatal(err)
	} else if _, err := fmt.Sscanf(string(b), "record %d", &epoch); err != nil || epoch < h.epoch {
		t.Fatalf("record %q, %d was acknowledged: %v", b, h.epoch, err)
	}
	dropped(t, s)
	for p := range ring.Partition(3) {
		wantTree(t, s, p) // all is read by then
	}
	var found []string
	clock := s.ClockOf(1)
	err := s.Scan(1, nil, 0, func(key, record []byte) bool {
		found = append(found, string(key))
		rec, err := version.Parse(record)
		if err != nil || !clock.Has(rec.Siblings[0].Dot) {
			t.Fatalf("key %q: %v, and the clock claims it: %v", key, err, clock.Has(rec.Siblings[0].Dot))
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if epoch == 1 {
		if len(found) != dropOldKeys {
			t.Fatalf("%d of %d records are left under the old record", len(found), dropOldKeys)
		}
	} else {
		h.checkAfter(t, s, epoch, found)
		for _, d := range old {
			if clock.Has(d) {
				t.Fatalf("the clock claims %v, which was dropped", d)
			}
		}
	}
	eventually(t, "keys are counted", func() bool { return s.Stats().Keys == int64(len(found)+20) })
	o := start(s, putAt(1, 7, "last", "after"))
	if err := o.wait(); err != nil || slices.ContainsFunc(old, func(d version.Dot) bool { return d.Actor == o.dot.Actor }) {
		t.Fatalf("put after all: %v, %v", err, o.dot)
	}
}

// checkAfter looks at partition 1 after its first drop.
func (h *dropStory) checkAfter(t *testing.T, s *store.Store, epoch uint64, found []string) {
	t.Helper()
	for _, key := range found {
		w := h.writes[key]
		if w == nil || epoch == 7 && w.epoch < 7 {
			t.Fatalf("key %q is there under record %d, and was dropped", key, epoch)
		}
		wantValues(t, get(t, s, 1, key), "after")
	}
	for key, w := range h.writes {
		if w.acked && (epoch < 7 || w.epoch == 7) && !slices.Contains(found, key) {
			t.Fatalf("key %q of epoch %d was acknowledged, and is gone under record %d; there are %q", key, w.epoch, epoch, found)
		}
	}
	switch note := s.Pulled(1); {
	case epoch == 7 && note.Since != 0:
		t.Fatalf("note %v has outlived the drop", note)
	case epoch < 7 && h.noted && (note.By != dropNote.By || note.Since != 5 || !slices.Equal(note.From, dropNote.From)):
		t.Fatalf("note %v, want %v", note, dropNote)
	}
}

// A crash at every sync of every kind of file leaves the old record with all of the
// data, or the new one without it and with all that came after.
func TestCrashAtEveryStepOfADropLosesAndKeepsTheRightThings(t *testing.T) {
	copied, old := beforeDrops(t)
	steps := 0
	for _, how := range []string{"kill", "power", "tear", "pages"} {
		for n := int64(1); ; n++ {
			if (testing.Short() || raceBuild) && n%3 != 0 {
				continue
			}
			over := false
			bubble(t, func(t *testing.T) {
				d := disk.New(uint64(n))
				d.Restore(copied)
				d.SetTear(map[string]disk.Tear{"power": disk.TearAll, "pages": disk.TearPages}[how])
				h := &dropStory{s: open(t, d.Open(), small()), writes: map[string]*dropWrite{}, ended: make(chan struct{})}
				var syncs atomic.Int64
				hangs := make(chan struct{})
				d.SetSyncDelay(func() time.Duration {
					if syncs.Add(1) == n {
						close(hangs)
						return time.Minute
					}
					return 0
				})
				go h.tell()
				select {
				case <-hangs:
				case <-h.ended:
					over = true
				}
				if how == "kill" {
					d.Kill()
				} else {
					d.PowerCut()
				}
				_ = h.s.Close() // of a dead disk
				<-h.ended
				d.SetSyncDelay(nil)
				h.check(t, open(t, d.Open(), small()), old)
			})
			if t.Failed() {
				t.Fatalf("%s at sync %d", how, n)
			}
			if over {
				break
			}
			steps++
		}
	}
	if steps < 12 {
		t.Fatalf("only %d crashes", steps)
	}
}

// A sync that fails at any step is like a crash to the store, and the story goes on.
func TestFault31_FailedSyncAtEveryStepOfADrop(t *testing.T) {
	copied, old := beforeDrops(t)
	for n := int64(1); n < 60; n++ {
		failed := false
		bubble(t, func(t *testing.T) {
			d := disk.New(uint64(n))
			d.Restore(copied)
			h := &dropStory{s: open(t, d.Open(), small()), writes: map[string]*dropWrite{}, ended: make(chan struct{})}
			var syncs atomic.Int64
			d.FailSync(func(fd storage.FileDesc) bool { return fd.Type == storage.TypeJournal && syncs.Add(1) >= n }, 1, n%2 == 0, syscall.EIO)
			h.tell()
			failed = h.s.Stats().Reopenings > 0
			if h.epoch != 7 || !h.writes["newest"].acked {
				t.Fatalf("the story broke off: %+v", h)
			}
			d.Heal()
			h.check(t, h.s, old)
			d.PowerCut()
			_ = h.s.Close() // of a dead disk
			s := open(t, d.Open(), small())
			h.writes["last"] = &dropWrite{epoch: 7, acked: true}
			h.check(t, s, old)
		})
		if t.Failed() {
			t.Fatalf("the sync that failed is number %d", n)
		}
		if !failed {
			if n < 8 {
				t.Fatalf("only %d syncs", n)
			}
			return
		}
	}
}

// Nothing of a drop shows to others: puts elsewhere wait for no more than the batch
// before theirs, and no batch is large.
func TestDropOfALargePartitionHoldsUpNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		o := small()
		o.WriteBuffer = 16 << 20 // no table is written meanwhile
		s := open(t, d.Open(), o)
		var all []*outcome
		for i := range 12_000 {
			all = append(all, start(s, blind(1, strings.Repeat("k", 100)+fmt.Sprint(i), strings.Repeat("v", 200))))
			if len(all) == 1000 {
				for _, o := range all {
					if err := o.wait(); err != nil {
						t.Fatal(err)
					}
				}
				all = all[:0]
			}
		}
		const sync = 10 * time.Millisecond
		slow(d, sync)
		if err := adopt(s, 5, 1); err != nil {
			t.Fatal(err)
		}
		puts := 0
		for ; len(s.Dropping()) > 0; puts++ {
			before, written, began := d.Counts().Written, s.Stats().Batches, time.Now()
			if err := start(s, putAt(2, 5, "k", "v")).wait(); err != nil {
				t.Fatal(err)
			}
			// The batch before it, its own, and the marks.
			if took := time.Since(began); took > 4*sync {
				t.Fatalf("a put beside a drop took %v of %v syncs", took, sync)
			}
			if batches, n := s.Stats().Batches-written, d.Counts().Written-before; n > (batches+1)*(300<<10) {
				t.Fatalf("%d batches wrote %d bytes", batches, n)
			}
		}
		if puts < 8 {
			t.Fatalf("all was dropped beside %d puts", puts)
		}
	})
}
