package store_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// A record that was lost without notice, while the clock claims it, comes back
// beside a newer sibling. The newer one is taken; nothing says from then on that
// the lost one was replaced, so that others, who hold it, will be asked.
func TestFillNeverShowsAsReplacedWhatOnlyTheClockClaims(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	a, b := &elsewhere{actor: 8}, &elsewhere{actor: 9}
	lost := a.put(key("k"), "lost")
	claim(t, s, lost)
	both := version.Merge(lost, b.put(key("k"), "new"))
	mustMerge(t, s, 1, both)
	r := get(t, s, 1, "k")
	wantValues(t, r, "new")
	if d := lost.Siblings[0].Dot; r.Seen.Covers(d) {
		t.Fatalf("it has seen %v: %v", d, r.Seen)
	}
	// What has really replaced it says so.
	mustMerge(t, s, 1, b.put(both, "last"))
	r = get(t, s, 1, "k")
	wantValues(t, r, "last")
	if d := lost.Siblings[0].Dot; !r.Seen.Covers(d) {
		t.Fatalf("it has not seen %v: %v", d, r.Seen)
	}
}

// A write that was on its way while what stood beside it was replaced, deleted and
// forgotten comes alone: what its record holds besides stays dead.
func TestFillBringsNothingBackBesideALateWrite(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	a, b := &elsewhere{actor: 8}, &elsewhere{actor: 9}
	first := a.put(key("k"), "first")
	late := first.Put(nil, version.NewSibling(version.Dot{Actor: 8, Seq: 2}, 2, 0, []byte("late")))
	gone := b.put(first, "")
	mustMerge(t, s, 1, first)
	mustMerge(t, s, 1, gone)
	mustPurge(t, s, 1, gone)
	mustMerge(t, s, 1, late)
	wantValues(t, get(t, s, 1, "k"), "late")
}

// claim has a store claim what it does not hold, as after a loss that nobody noticed.
func claim(t *testing.T, s *store.Store, r version.Record) {
	t.Helper()
	if err := s.Incorporate(1, contextSet(r.Seen), s.Era()); err != nil {
		t.Fatal(err)
	}
}

// fillWorld is some homes' records of one key, and all that was ever written to it.
type fillWorld struct {
	records []version.Record
	minted  []uint64
}

func drawFillWorld(t *rapid.T) *fillWorld {
	w := &fillWorld{records: make([]version.Record, 3), minted: make([]uint64, 3)}
	for i := range w.records {
		w.records[i] = key("k")
	}
	for range rapid.IntRange(1, 12).Draw(t, "steps") {
		i, j := rapid.IntRange(0, 2).Draw(t, "home"), rapid.IntRange(0, 2).Draw(t, "other")
		if rapid.Bool().Draw(t, "merge") {
			w.records[i] = version.Merge(w.records[i], w.records[j])
			continue
		}
		w.minted[i] += uint64(rapid.IntRange(1, 2).Draw(t, "step")) // the others are of other keys
		d := version.Dot{Actor: version.Actor(i + 1), Seq: w.minted[i]}
		x := version.NewSibling(d, 1, 0, []byte(fmt.Sprint(d)))
		if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
			x = version.NewTombstone(d, 1)
		}
		var ctx version.Context
		if rapid.Bool().Draw(t, "sees") {
			ctx = w.records[j].Seen
		}
		w.records[i] = w.records[i].Put(ctx, x)
	}
	return w
}

// dotsOfRecord are those that a record names.
func dotsOfRecord(r *version.Record) []version.Dot {
	out := slices.Clone(r.Seen)
	for i := range r.Siblings {
		out = append(out, r.Siblings[i].Dot)
	}
	return out
}

// laterUnclaimed says that a record names a later write of an actor which is not
// claimed: a context that covers it covers what was before it, too.
func laterUnclaimed(r *version.Record, d version.Dot, claimed func(version.Dot) bool) bool {
	for _, later := range dotsOfRecord(r) {
		if later.Actor == d.Actor && later.Seq > d.Seq && !claimed(later) {
			return true
		}
	}
	return false
}

func TestFillLawsHoldForAnyRecordsAndClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawFillWorld(t)
		stored, in := w.records[0], w.records[1]
		if rapid.Bool().Draw(t, "lost") {
			stored = key("k")
		}
		claims := map[version.Dot]bool{}
		for a, last := range w.minted {
			for n := range last {
				d := version.Dot{Actor: version.Actor(a + 1), Seq: n + 1}
				claims[d] = rapid.Bool().Draw(t, fmt.Sprint("claims ", d))
			}
		}
		for _, d := range dotsOfRecord(&stored) {
			claims[d] = true // as every store does
		}
		claimed := func(d version.Dot) bool { return claims[d] }
		out := store.Fill(&stored, &in, claimed)
		next := version.Merge(out, stored)
		next.Key = in.Key
		if len(next.Siblings) > 0 {
			if _, err := version.Parse(next.Append(nil)); err != nil {
				t.Fatalf("%v and %v make %v: %v", stored, in, next, err)
			}
		}
		has := func(r *version.Record, d version.Dot) bool {
			return slices.ContainsFunc(r.Siblings, func(s version.Sibling) bool { return s.Dot == d })
		}
		for i := range in.Siblings {
			s := &in.Siblings[i]
			switch d := s.Dot; {
			case !claims[d] && !has(&out, d):
				t.Fatalf("%v was dropped, and nobody claims it", d)
			case !s.Tombstone && !has(&next, d) && next.Seen.Covers(d) && !stored.Seen.Covers(d) && !laterUnclaimed(&in, d, claimed):
				t.Fatalf("%v was dropped by the clock's word, and %v covers it", d, next.Seen)
			}
		}
		// It takes away what the incoming record takes away, and no more.
		for _, s := range stored.Siblings {
			if gone := in.Seen.Covers(s.Dot) && !has(&in, s.Dot); has(&next, s.Dot) == gone {
				t.Fatalf("%v was replaced: %v; it is left: %v", s.Dot, gone, !gone)
			}
		}
		// A context names dots of its own key only.
		for _, d := range out.Seen {
			if !slices.Contains(append(dotsOfRecord(&stored), dotsOfRecord(&in)...), d) {
				t.Fatalf("%v is seen, and nobody named it", d)
			}
		}
		if again := store.Fill(&next, &in, claimed); !next.Dominates(&again) {
			t.Fatalf("coming again it changes %v to %v", next, version.Merge(next, again))
		}
	})
}
