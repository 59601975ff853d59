package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

func standInFor(home byte, p ring.Partition, encoded []byte) *store.StandIn {
	r, err := version.Parse(encoded)
	if err != nil {
		panic(err)
	}
	return &store.StandIn{Home: ring.NodeID{home}, Partition: p, Record: r, Encoded: encoded}
}

func startStandIn(s *store.Store, home byte, p ring.Partition, encoded []byte) *outcome {
	in, o := standInFor(home, p, encoded), newOutcome()
	in.Sink = o
	s.StandIn(in)
	return o
}

func mustStandIn(t testing.TB, s *store.Store, home byte, p ring.Partition, encoded []byte) {
	t.Helper()
	if err := startStandIn(s, home, p, encoded).wait(); err != nil {
		t.Fatalf("stand-in: %v", err)
	}
}

// keptFor reads all stand-ins of a home.
func keptFor(t testing.TB, s *store.Store, home byte, limit int) (out []store.StandIn) {
	t.Helper()
	var p ring.Partition
	var after []byte
	for {
		some, err := s.StandIns(ring.NodeID{home}, p, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(some) == 0 {
			return out
		}
		out = append(out, some...)
		last := some[len(some)-1]
		p, after = last.Partition, last.Record.Key
	}
}

// A stand-in is on disk when it is acknowledged, and is no copy of this store: no
// read, tree, clock or count shows it.
func TestStandInIsKeptAndIsNoCopy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		enc := recordFrom(9, "k", "v")
		mustStandIn(t, s, 3, 5, enc)
		if r := get(t, s, 5, "k"); len(r.Siblings) > 0 || s.Stats().Keys != 0 || len(s.ClockOf(5).Actors) > 0 {
			t.Fatal("a stand-in shows as a record")
		}
		if tree, _, _ := s.TreeOf(5); tree.Leaves != (store.Tree{}).Leaves {
			t.Fatal("a stand-in is in the tree")
		}
		d.PowerCut()
		_ = s.Close() // of a dead disk
		s = open(t, d.Open(), small())
		kept := keptFor(t, s, 3, 0)
		if len(kept) != 1 || kept[0].Home != (ring.NodeID{3}) || kept[0].Partition != 5 || string(kept[0].Encoded) != string(enc) {
			t.Fatalf("kept: %+v", kept)
		}
		synctest.Wait()
		if st := s.Stats(); st.StandIns != 1 || st.StandInBytes < int64(len(enc)) {
			t.Fatalf("stats after a crash: %+v", st)
		}
		if err := s.DropStandIn(&kept[0]); err != nil {
			t.Fatal(err)
		}
		if st := s.Stats(); st.StandIns != 0 || st.StandInBytes != 0 {
			t.Fatalf("stats after the drop: %+v", st)
		}
	})
}

// Stand-ins of a key merge as records do, also with those that are not on disk
// yet.
func TestStandInsOfAKeyMerge(t *testing.T) {
	for seed := range uint64(runs(20, 1000)) {
		bubble(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 13))
			d := disk.New(seed)
			s := open(t, d.Open(), small())
			model := map[string]version.Record{}
			var under []*outcome
			for i := range 100 {
				home, key := byte(1+r.IntN(2)), fmt.Sprintf("k%d", r.IntN(4))
				name := fmt.Sprint(home, key)
				rec := model[name]
				var ctx version.Context
				if r.IntN(2) == 0 {
					ctx = rec.Seen
				}
				in := version.Record{Key: []byte(key), Seen: ctx}
				in = in.Put(ctx, version.NewSibling(version.Dot{Actor: version.Actor(1 + r.IntN(3)), Seq: uint64(i + 1)}, 1, 0, []byte(fmt.Sprint(i))))
				rec.Key = in.Key
				model[name] = version.Merge(rec, in)
				under = append(under, startStandIn(s, home, 2, in.Append(nil)))
				if r.IntN(20) == 0 {
					for _, o := range under {
						if err := o.wait(); err != nil {
							t.Fatal(err)
						}
					}
					stop3(d, s, r.IntN(3))
					s = open(t, d.Open(), small())
				}
			}
			for _, o := range under {
				if err := o.wait(); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			n := 0
			for home := byte(1); home <= 2; home++ {
				for _, in := range keptFor(t, s, home, 1+r.IntN(3)) {
					n++
					want := model[fmt.Sprint(home, string(in.Record.Key))]
					if string(want.Append(nil)) != string(in.Encoded) {
						t.Fatalf("seed %d: %s for %d: %+v, want %+v", seed, in.Record.Key, home, in.Record, want)
					}
				}
			}
			if n != len(model) || s.Stats().StandIns != int64(n) {
				t.Fatalf("seed %d: %d stand-ins, counted %d, want %d", seed, n, s.Stats().StandIns, len(model))
			}
		})
	}
}

// What changed since it was sent home is not dropped.
func TestStandInIsDroppedOnlyUnchanged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		mustStandIn(t, s, 3, 5, recordFrom(9, "k", "v"))
		sent := keptFor(t, s, 3, 0)[0]
		slow(d, time.Second)
		later := startStandIn(s, 3, 5, recordFrom(8, "k", "w")) // not on disk yet
		if err := s.DropStandIn(&sent); err != nil {
			t.Fatal(err)
		}
		if err := later.wait(); err != nil {
			t.Fatal(err)
		}
		kept := keptFor(t, s, 3, 0)
		if len(kept) != 1 || len(kept[0].Record.Siblings) != 2 {
			t.Fatalf("kept: %+v", kept)
		}
		if err := s.DropStandIn(&kept[0]); err != nil {
			t.Fatal(err)
		}
		if kept := keptFor(t, s, 3, 0); len(kept) > 0 {
			t.Fatalf("kept: %+v", kept)
		}
		if err := s.DropStandIn(&sent); err != nil {
			t.Fatalf("dropped twice: %v", err)
		}
	})
}

func TestStandInHomesAreListedInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		if homes, err := s.StandInHomes(); err != nil || len(homes) > 0 {
			t.Fatalf("%v, %v", homes, err)
		}
		for _, home := range []byte{255, 3, 7, 3} {
			for i := range 20 {
				mustStandIn(t, s, home, ring.Partition(i), recordFrom(9, fmt.Sprint("k", home, i), "v"))
			}
		}
		homes, err := s.StandInHomes()
		if err != nil || !slices.Equal(homes, []ring.NodeID{{3}, {7}, {255}}) {
			t.Fatalf("%v, %v", homes, err)
		}
		kept := keptFor(t, s, 7, 3)
		if len(kept) != 20 || !slices.IsSortedFunc(kept, func(a, b store.StandIn) int { return int(a.Partition) - int(b.Partition) }) {
			t.Fatalf("%d kept for 7, or not in order", len(kept))
		}
		// From a partition on, and behind a key.
		some, err := s.StandIns(ring.NodeID{7}, 18, nil, 10)
		if err != nil || len(some) != 2 || some[0].Partition != 18 {
			t.Fatalf("from partition 18: %+v, %v", some, err)
		}
	})
}

// What is kept has a bound in bytes, which the refusal names; what is dropped makes
// room.
func TestStandInsHaveABound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := small()
		o.StandInBytesMax = 10_000
		s := open(t, disk.New(1).Open(), o)
		value := strings.Repeat("x", 1000)
		var all []*outcome
		for i := range 30 {
			all = append(all, startStandIn(s, 3, 1, recordFrom(9, fmt.Sprintf("k%02d", i), value)))
		}
		kept := 0
		for _, o := range all {
			switch err := o.wait(); {
			case err == nil:
				kept++
			case !errors.Is(err, store.ErrStandInsFull) || !strings.Contains(err.Error(), "limit 10000"):
				t.Fatal(err)
			}
		}
		if n := s.Stats().StandInBytes; kept < 8 || n > 10_000 || n < 9_000 {
			t.Fatalf("%d kept, %d bytes", kept, n)
		}
		in := keptFor(t, s, 3, 0)[0]
		if err := s.DropStandIn(&in); err != nil {
			t.Fatal(err)
		}
		mustStandIn(t, s, 3, 1, recordFrom(9, "later", value[:500]))
	})
}

// A damaged stand-in is named and dropped; it does not hide the others.
func TestFault33_DamagedStandInIsNamed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		for i := range 3 {
			mustStandIn(t, s, 3, 1, recordFrom(9, fmt.Sprint("k", i), "v"))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		home := ring.NodeID{3}
		replaceQuietly(t, d, []byte("h/"+string(home[:])+"\x00\x01k1"), []byte("not a record"))
		s = open(t, d.Open(), small())
		if kept := keptFor(t, s, 3, 0); len(kept) != 2 {
			t.Fatalf("%d are left", len(kept))
		}
		h := s.Health()
		if len(h.Losses) != 1 || !strings.Contains(h.Losses[0], `"k1"`) || h.LossyAll || len(h.Lossy) > 0 {
			t.Fatalf("health: %+v", h)
		}
		if kept := keptFor(t, s, 3, 0); len(kept) != 2 || len(s.Health().Losses) != 1 {
			t.Fatalf("%d are left, health %+v", len(kept), s.Health())
		}
		mustStandIn(t, s, 3, 1, recordFrom(9, "k1", "again"))
		if kept := keptFor(t, s, 3, 0); len(kept) != 3 {
			t.Fatalf("%d are left", len(kept))
		}
	})
}

// Stand-ins are refused as merges are: by a store that is closed or has failed.
func TestFault31_StandInOfAFailedBatchIsUncertain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		d.FailSync(disk.Of(storage.TypeJournal), 1, false, syscall.EIO)
		wantError(t, startStandIn(s, 3, 1, recordFrom(9, "k", "v")).wait(), store.ErrUncertain)
		serving(t, s)
		mustStandIn(t, s, 3, 1, recordFrom(9, "l", "v"))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		wantError(t, startStandIn(s, 3, 1, recordFrom(9, "k", "v")).wait(), store.ErrClosed)
		if _, err := s.StandIns(ring.NodeID{3}, 0, nil, 0); !errors.Is(err, store.ErrClosed) {
			t.Fatal(err)
		}
		in := standInFor(3, 1, recordFrom(9, "l", "v"))
		wantError(t, s.DropStandIn(in), store.ErrClosed)
	})
}
