package store_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// setOf is the set of some dots.
func setOf(dots []version.Dot) (set store.DotSet) {
	for _, d := range slices.SortedFunc(slices.Values(dots), version.Dot.Compare) {
		if n := len(set); n == 0 || set[n-1].Actor != d.Actor {
			set = append(set, store.ActorDots{Actor: d.Actor})
		}
		ranges := &set[len(set)-1].Ranges
		if n := len(*ranges); n > 0 && (*ranges)[n-1].Last+1 >= d.Seq {
			(*ranges)[n-1].Last = d.Seq
		} else {
			*ranges = append(*ranges, store.Range{First: d.Seq, Last: d.Seq})
		}
	}
	return set
}

// Every dot that is asked for is found under its key, or named as unknown.
func TestKeysOfFindsEveryDotOrNamesIt(t *testing.T) {
	for seed := range uint64(runs(10, 500)) {
		bubble(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 12))
			d := disk.New(seed)
			o := small()
			o.LogBlocksMax = 1 + r.IntN(3)
			s := open(t, d.Open(), o)
			keys := map[version.Dot]string{}
			crashed := false
			for round := range 4 {
				var under []*outcome
				var names []string
				for range r.IntN(700) {
					key := fmt.Sprintf("k%d", r.IntN(50))
					under, names = append(under, start(s, blind(1, key, fmt.Sprint(round)))), append(names, key)
				}
				for i, o := range under {
					if err := o.wait(); err != nil {
						t.Fatal(err)
					}
					keys[o.dot] = names[i]
				}
				checkKeysOf(t, s, r, keys, crashed)
				how := r.IntN(3)
				crashed = crashed || how > 0
				stop3(d, s, how)
				s = open(t, d.Open(), o)
			}
			checkKeysOf(t, s, r, keys, crashed)
		})
	}
}

func checkKeysOf(t *testing.T, s *store.Store, r *rand.Rand, keys map[version.Dot]string, crashed bool) {
	t.Helper()
	var wanted []version.Dot
	for _, d := range slices.SortedFunc(maps.Keys(keys), version.Dot.Compare) {
		if r.IntN(3) > 0 {
			wanted = append(wanted, d)
		}
	}
	// And some that nobody ever minted.
	for range 3 {
		wanted = append(wanted, version.Dot{Actor: 7, Seq: 1 + uint64(r.IntN(9))})
	}
	set := setOf(wanted)
	found, unknown, err := s.KeysOf(1, set)
	if err != nil {
		t.Fatal(err)
	}
	if !unknown.Has(wanted[len(wanted)-1]) {
		t.Fatal("a dot that was never minted is known")
	}
	there := map[string]bool{}
	for i, k := range found {
		if i > 0 && string(k.Key) <= string(found[i-1].Key) {
			t.Fatalf("keys are not in order: %q, %q", found[i-1].Key, k.Key)
		}
		if keys[k.Dot] != string(k.Key) || !set.Has(k.Dot) {
			t.Fatalf("%v under %q, was written to %q", k.Dot, k.Key, keys[k.Dot])
		}
		there[string(k.Key)] = true
	}
	missing := 0
	for _, d := range wanted {
		switch {
		case unknown.Has(d):
			missing++
		case !there[keys[d]]:
			t.Fatalf("%v is neither unknown nor found under %q", d, keys[d])
		}
	}
	if unknown.Count() > set.Count() {
		t.Fatalf("%d of %d are unknown", unknown.Count(), set.Count())
	}
	if !crashed && len(keys) < 250 && missing > 3 {
		t.Fatalf("%d of %d dots are unknown though nothing was lost", missing, len(wanted))
	}
}

// The newest dots are found from memory and from blocks on disk, also after a
// clean close, and the log has its bounds.
func TestDotLogKeepsTheNewestWithinItsBound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		o := small()
		o.LogBlocksMax = 4
		s := open(t, d.Open(), o)
		var all []*outcome
		for i := range 3000 {
			all = append(all, mustPut(t, s, 1, fmt.Sprintf("k%d", i), "v"))
		}
		newest := func(n int) store.DotSet {
			var dots []version.Dot
			for _, o := range all[len(all)-n:] {
				dots = append(dots, o.dot)
			}
			return setOf(dots)
		}
		for range 2 {
			found, unknown, err := s.KeysOf(1, newest(4*256))
			if err != nil || len(unknown) > 0 || len(found) != 4*256 {
				t.Fatalf("%d found, unknown %v, %v", len(found), unknown, err)
			}
			_, unknown, err = s.KeysOf(1, newest(3000))
			if n := unknown.Count(); err != nil || n < 3000-6*256 {
				t.Fatalf("%d of 3000 are unknown, %v: the log has no bound", n, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, d.Open(), o)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if n := len(blocksOf(t, d, 1)); n > 5 {
			t.Fatalf("%d blocks are on disk", n)
		}
	})
}

// A store that is often closed keeps its tail as one.
func TestDotLogJoinsTailsOfManyCloses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		var dots []version.Dot
		for round := range 30 {
			s := open(t, d.Open(), small())
			for i := range 5 {
				dots = append(dots, mustPut(t, s, 1, fmt.Sprintf("k%d.%d", round, i), "v").dot)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(blocksOf(t, d, 1)); n != 1 {
			t.Fatalf("%d blocks are on disk", n)
		}
		s := open(t, d.Open(), small())
		if found, unknown, err := s.KeysOf(1, setOf(dots)); err != nil || len(found) != 150 || len(unknown) > 0 {
			t.Fatalf("%d found, unknown %v, %v", len(found), unknown, err)
		}
	})
}

// Merges are in the log too, with all that they claim.
func TestDotLogKnowsMerges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := open(t, disk.New(1).Open(), small())
		a := version.Record{Key: []byte("k")}
		a = a.Put(nil, version.NewSibling(version.Dot{Actor: 9, Seq: 4}, 1, 0, []byte("a")))
		b := a.Put(a.Seen, version.NewSibling(version.Dot{Actor: 8, Seq: 2}, 2, 0, []byte("b")))
		if err := startMerge(s, 1, b.Append(nil)).wait(); err != nil {
			t.Fatal(err)
		}
		// Late: it changes nothing, and is claimed already.
		if err := startMerge(s, 1, a.Append(nil)).wait(); err != nil {
			t.Fatal(err)
		}
		want := setOf([]version.Dot{{Actor: 8, Seq: 2}, {Actor: 9, Seq: 4}})
		found, unknown, err := s.KeysOf(1, want)
		if err != nil || len(unknown) > 0 || len(found) != 1 || string(found[0].Key) != "k" {
			t.Fatalf("found %v, unknown %v, %v", found, unknown, err)
		}
	})
}

// A damaged block is as good as none: what was in it is unknown, and that is no
// loss.
func TestDotLogLosesADamagedBlockAndNothingElse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		var dots []version.Dot
		for i := range 700 {
			dots = append(dots, mustPut(t, s, 1, fmt.Sprintf("k%d", i), "v").dot)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		blocks := blocksOf(t, d, 1)
		if len(blocks) < 3 {
			t.Fatalf("%d blocks", len(blocks))
		}
		replaceQuietly(t, d, []byte(blocks[1]), []byte("not a block"))
		s = open(t, d.Open(), small())
		found, unknown, err := s.KeysOf(1, setOf(dots))
		if n := unknown.Count(); err != nil || n == 0 || int(n)+len(found) != 700 || len(found) < 256 {
			t.Fatalf("%d found, %d unknown, %v", len(found), unknown.Count(), err)
		}
		if h := s.Health(); len(h.Losses) > 0 || !s.CountsForRead(1) {
			t.Fatalf("health: %+v", h)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if n := len(blocksOf(t, d, 1)); n != len(blocks)-1 {
			t.Fatalf("%d blocks are left of %d", n, len(blocks))
		}
	})
}

// Long keys fill a tail sooner: it has a bound in bytes.
func TestDotLogBoundsKeysInMemory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		for i := range 200 {
			mustPut(t, s, 1, strings.Repeat("k", 4000)+fmt.Sprint(i), "v")
		}
		d.Kill() // forgets the tail
		_ = s.Close()
		if n := len(blocksOf(t, d, 1)); n < 16 {
			t.Fatalf("%d blocks: keys of 800 kB were in memory", n)
		}
	})
}

// blocksOf lists the database keys of a partition's blocks.
func blocksOf(t *testing.T, d *disk.Disk, p ring.Partition) (keys []string) {
	t.Helper()
	db, err := leveldb.Open(d.Open(), nil)
	if err != nil {
		t.Fatal(err)
	}
	it := db.NewIterator(util.BytesPrefix([]byte{'l', '/', byte(p >> 8), byte(p)}), nil)
	for it.Next() {
		keys = append(keys, string(it.Key()))
	}
	it.Release()
	if err := errors.Join(it.Error(), db.Close()); err != nil {
		t.Fatal(err)
	}
	return keys
}
