package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/storage"
	"pgregory.net/rapid"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
)

// Strays finds every partition of those asked for that has records, and no other.
func TestStraysAreFoundWhereverTheyAre(t *testing.T) {
	rapidChecks(t, runs(60, 3000))
	rapid.Check(t, func(rt *rapid.T) {
		bubble(t, func(t *testing.T) {
			some := func(name string) []ring.Partition {
				all := rapid.SliceOfNDistinct(rapid.OneOf(rapid.IntRange(0, 12), rapid.IntRange(ring.SlotCount-12, ring.SlotCount-1), rapid.IntRange(250, 260)), 0, 12,
					rapid.ID[int]).Draw(rt, name)
				var out []ring.Partition
				for _, p := range slices.Sorted(slices.Values(all)) {
					out = append(out, ring.Partition(p))
				}
				return out
			}
			s := open(t, disk.New(1).Open(), handingOver())
			full, gone, busy, among := some("full"), some("dropped"), some("dropping"), some("among")
			for _, p := range slices.Concat(full, gone, busy) {
				mustPut(t, s, p, "k", "v")
			}
			if err := adopt(s, 5, gone...); err != nil {
				t.Fatal(err)
			}
			handOverAll(s)
			dropped(t, s)
			for _, p := range full {
				if o := start(s, putAt(p, 5, "again", "v")); o.wait() != nil {
					t.Fatal(o.err)
				}
			}
			if err := adopt(s, 6, busy...); err != nil {
				t.Fatal(err)
			}
			var want []ring.Partition
			for _, p := range among {
				if slices.Contains(full, p) && !slices.Contains(busy, p) {
					want = append(want, p)
				}
			}
			if got, err := s.Strays(among); err != nil || !slices.Equal(got, want) {
				t.Fatalf("among %v: %v, %v; want %v", among, got, err, want)
			}
		})
	})
}

// strays is a store of which three partitions were dropped, long ago as it seems: their
// records lie in one table, and their deletions in a later one.
func strays(t *testing.T, seed uint64, o store.Options) *rotten {
	h := &rotten{t: t, r: rand.New(rand.NewPCG(seed, 41)), d: disk.New(seed), acked: map[string]*outcome{}, under: map[string]*outcome{}}
	h.Store = mustOpen(t, h.d.Open(), o)
	ringOf(t, h.Store, rottenPartitions)
	for i := range 300 {
		h.put(fmt.Sprintf("k%05d", i))
	}
	h.settle()
	again := func() {
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		h.Store = open(t, h.d.Open(), o)
	}
	again()
	if err := adoptAll(h.Store, 2, 3, 4, 5); err != nil {
		t.Fatal(err)
	}
	handOverAll(h.Store)
	dropped(t, h.Store)
	again()
	return h
}

func adoptAll(s *store.Store, epoch uint64, drops ...ring.Partition) error {
	return s.Adopt(fmt.Append(nil, "record ", epoch), func(ring.Partition) uint64 { return epoch }, rottenPartitions, drops)
}

// Rot brings records of dropped partitions back. They are found once the files are open
// again, and dropped once more; nothing else goes with them.
func TestFault33_WhatRotBringsBackIsFoundAndDroppedOnceMore(t *testing.T) {
	came, kept := 0, 0
	for seed := range uint64(runs(12, 600)) {
		bubble(t, func(t *testing.T) {
			o := small()
			o.HandOver = seed%2 == 0
			h := strays(t, seed, o)
			reopened := h.Reopened()
			gone := []ring.Partition{3, 4, 5}
			if found, err := h.Strays(gone); err != nil || len(found) > 0 {
				t.Fatalf("before any damage: %v, %v", found, err)
			}
			tables := h.d.Files(storage.TypeTable)
			newest := tables[len(tables)-1]
			for range 1 + h.r.IntN(3) {
				h.d.Flip(newest, h.r.IntN(h.d.Size(newest)), 1<<h.r.IntN(8))
			}
			h.calm()
			found, err := h.Strays(gone)
			if err != nil {
				t.Fatal(err)
			}
			var want []ring.Partition
			for _, p := range gone {
				if n, err := countOf(h.Store, p); err != nil {
					t.Fatal(err)
				} else if n > 0 {
					want = append(want, p)
				}
			}
			if !slices.Equal(found, want) {
				t.Fatalf("seed %d: found %v, there are records of %v", seed, found, want)
			}
			if len(found) > 0 {
				came++
				select {
				case <-reopened:
				default:
					t.Fatalf("seed %d: %v came back, and nobody was told", seed, found)
				}
			}
			if err := adoptAll(h.Store, 2, found...); err != nil {
				t.Fatal(err)
			}
			handOverAll(h.Store)
			dropped(t, h.Store)
			if found, err := h.Strays(gone); err != nil || len(found) > 0 {
				t.Fatalf("seed %d: after the drop: %v, %v", seed, found, err)
			}
			kept += h.wantOthers(gone)
		})
	}
	if came == 0 || kept == 0 {
		t.Fatalf("rot brought something back %d times; %d keys are right", came, kept)
	}
}

func countOf(s *store.Store, p ring.Partition) (n int, err error) {
	err = s.Scan(p, nil, 0, func(_, _ []byte) bool { n++; return true })
	return n, err
}

// wantOthers wants every key of the other partitions to be there, or its partition to
// count for nothing. It says how many are there.
func (h *rotten) wantOthers(gone []ring.Partition) (right int) {
	h.t.Helper()
	for key, o := range h.acked {
		p := partitionOfKey(key)
		if slices.Contains(gone, p) {
			continue
		}
		if get(h.t, h.Store, p, key).Seen.Covers(o.dot) {
			right++
		} else if h.CountsForRead(p) {
			h.t.Fatalf("%s is gone, and its partition %d counts", key, p)
		}
	}
	return right
}

// A disk that gives nothing is no disk without strays.
func TestStraysThatCannotBeLookedForAreAnError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := tables(t, d, 400)
		for _, fd := range d.Files(storage.TypeTable) {
			d.Zero(fd, 0, d.Size(fd))
		}
		if found, err := s.Strays([]ring.Partition{0, 1, 2, 3}); err == nil {
			t.Fatalf("found %v in tables of zeros", found)
		}
		_, err := s.Strays([]ring.Partition{ring.SlotCount})
		if err == nil || !strings.Contains(err.Error(), "partition 16384") {
			t.Fatalf("got %v", err)
		}
	})
}
