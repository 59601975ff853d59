package store_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// adopt adopts a record under which every partition has the fence epoch.
func adopt(s *store.Store, epoch uint64, drops ...ring.Partition) error {
	return s.Adopt(fmt.Append(nil, "record ", epoch), func(ring.Partition) uint64 { return epoch }, 8, drops)
}

// dropped waits for the end of all drops.
func dropped(t rapid.TB, s *store.Store) {
	t.Helper()
	eventually(t, "dropped", func() bool { return len(s.Dropping()) == 0 })
}

func putAt(p ring.Partition, epoch uint64, key, value string) *store.Put {
	put := blind(p, key, value)
	put.Epoch = epoch
	return put
}

// wantGone looks for anything that is left of a partition.
func wantGone(t testing.TB, s *store.Store, p ring.Partition, keys []string, dots []version.Dot) {
	t.Helper()
	for _, key := range keys {
		if b, err := s.Get(p, []byte(key)); b != nil || err != nil {
			t.Fatalf("key %q of a dropped partition: %d bytes, %v", key, len(b), err)
		}
	}
	if err := s.Scan(p, nil, 0, func(key, _ []byte) bool { t.Fatalf("scan finds %q", key); return false }); err != nil {
		t.Fatal(err)
	}
	if found, unknown, err := s.KeysOf(p, setOf(dots)); err != nil || len(found) > 0 || int(unknown.Count()) != len(dots) {
		t.Fatalf("log finds %v, unknown %v, %v", found, unknown, err)
	}
	if c := s.ClockOf(p); len(c.Actors) > 0 {
		t.Fatalf("clock %v", c)
	}
	wantTree(t, s, p)
	if note := s.Pulled(p); note.Since != 0 {
		t.Fatalf("note %v", note)
	}
}

// What is dropped is found nowhere, before and after a restart, and everything else
// stays.
func TestDroppedPartitionLeavesNothing(t *testing.T) {
	for _, stop := range []int{-1, 0, 1, 2} {
		bubble(t, func(t *testing.T) {
			d := disk.New(1)
			s := open(t, d.Open(), small())
			var keys []string
			var dots []version.Dot
			for i := range 700 {
				keys = append(keys, fmt.Sprintf("k%d", i))
				dots = append(dots, mustPut(t, s, 1, keys[i], "v").dot)
			}
			other := mustPut(t, s, 2, "k1", "other")
			mustStandIn(t, s, 7, 1, recordFrom(9, "k1", "kept"))
			if err := errors.Join(adopt(s, 5), s.NotePulled(1, ring.Pulled{By: ring.NodeID{1}, Since: 5, From: []ring.NodeID{{2}}})); err != nil {
				t.Fatal(err)
			}
			if err := adopt(s, 6, 1); err != nil {
				t.Fatal(err)
			}
			if stop < 0 {
				dropped(t, s)
			} else {
				stop3(d, s, stop)
				s = open(t, d.Open(), small())
				dropped(t, s)
			}
			for range 2 {
				wantGone(t, s, 1, keys, dots)
				wantValues(t, get(t, s, 2, "k1"), "other")
				if c := s.ClockOf(2); !c.Has(other.dot) {
					t.Fatal("another partition's clock was emptied")
				}
				if kept, err := s.StandIns(ring.NodeID{7}, 1, nil, 0); err != nil || len(kept) != 1 {
					t.Fatalf("stand-ins: %v, %v", kept, err)
				}
				eventually(t, "counted", func() bool { return s.Stats().Keys == 1 })
				if s.Fence(1) != 6 {
					t.Fatalf("fence %d", s.Fence(1))
				}
				stop3(d, s, max(stop, 0))
				s = open(t, d.Open(), small())
			}
			if o := start(s, putAt(1, 6, "new", "v")); o.wait() != nil || o.dot.Seq != 1 || o.dot.Actor == dots[0].Actor {
				t.Fatalf("first put after the drop: %v, %v", o.err, o.dot)
			}
		})
	}
}

// While a partition is being dropped nothing of it is read or written, and everything
// else is.
func TestPartitionThatIsBeingDroppedGivesAndTakesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		for i := range 1500 {
			mustPut(t, s, 1, fmt.Sprintf("k%d", i), "v")
		}
		slow(d, time.Second)
		adopted := make(chan error, 1)
		go func() { adopted <- adopt(s, 5, 1) }()
		synctest.Wait()
		look := func() {
			t.Helper()
			_, err := s.Get(1, []byte("k1"))
			wantError(t, err, store.ErrDropping)
			read := newOutcome()
			s.Read(1, []byte("k1"), read)
			wantError(t, read.wait(), store.ErrDropping)
			wantError(t, s.Scan(1, nil, 0, func(_, _ []byte) bool { return true }), store.ErrDropping)
			wantError(t, startMerge(s, 1, recordFrom(9, "x", "v")).wait(), store.ErrDropping)
			wantError(t, start(s, putAt(1, 5, "x", "v")).wait(), store.ErrDropping)
			_, _, err = s.KeysOf(1, nil)
			wantError(t, err, store.ErrDropping)
			wantError(t, s.Incorporate(1, nil, s.Era()), store.ErrDropping)
			if _, _, ok := s.TreeOf(1); ok || s.CountsForRead(1) || len(s.ClockOf(1).Actors) > 0 {
				t.Fatal("a partition that is being dropped counts")
			}
		}
		look()
		if err := <-adopted; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		look()
		if err := start(s, putAt(2, 5, "x", "v")).wait(); err != nil {
			t.Fatal(err)
		}
		slow(d, 0)
		dropped(t, s)
		if err := start(s, putAt(1, 5, "x", "v")).wait(); err != nil || !s.CountsForRead(1) {
			t.Fatal(err, s.CountsForRead(1))
		}
	})
}
