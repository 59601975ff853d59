package store_test

import (
	"bytes"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

func closedAs(actor version.Actor, ranges ...store.Range) store.Ending {
	return store.Ending{Actor: actor, Closed: true, Dots: ranges}
}

func mustEnd(t testing.TB, s *store.Store, ends ...store.Ending) {
	t.Helper()
	if err := s.End(1, ends, 0); err != nil {
		t.Fatalf("end: %v", err)
	}
}

func dot(actor version.Actor, n uint64) version.Dot { return version.Dot{Actor: actor, Seq: n} }

// nth is a record of its own, with the n-th dot of an actor.
func nth(actor version.Actor, n uint64, k string) version.Record {
	return (&elsewhere{actor: actor, last: n - 1}).put(key(k), "v")
}

func encoded(r version.Record) []byte { return r.Append(nil) }

func sendRecord(s *store.Store, p ring.Partition, r version.Record) error {
	return startMerge(s, p, encoded(r)).wait()
}

func TestClosingClaimsWhatIsVoidAndRefusesItWhole(t *testing.T) {
	d := disk.New(1)
	s := open(t, d.Open(), small())
	mustMerge(t, s, 1, nth(9, 1, "a"))
	mustMerge(t, s, 1, nth(9, 3, "c"))
	kept := nth(8, 1, "k")
	mustMerge(t, s, 1, kept)
	mustEnd(t, s, closedAs(9, store.Range{First: 1, Last: 1}, store.Range{First: 3, Last: 4}))
	check := func() {
		t.Helper()
		wantClaims(t, s, 1, true, dot(9, 1), dot(9, 2), dot(9, 3))
		wantClaims(t, s, 1, false, dot(9, 4)) // it is real, and not here yet
		// The void write had replaced what is kept: that stays.
		late := (&elsewhere{actor: 9, last: 1}).put(kept, "void")
		wantError(t, startMerge(s, 1, late.Append(nil)).wait(), store.ErrEnded)
		wantError(t, sendVerdict(s, 1, late, version.Context{dot(9, 3)}).wait(), store.ErrEnded)
		wantError(t, sendRecord(s, 1, nth(9, 5, "e")), store.ErrEnded)
		wantError(t, startStandIn(s, 3, 1, encoded(nth(9, 2, "b"))).wait(), store.ErrEnded)
		wantValues(t, get(t, s, 1, "k"), "v")
		if err := sendRecord(s, 2, nth(9, 2, "b")); err != nil {
			t.Fatalf("in another partition: %v", err)
		}
	}
	check()
	d.PowerCut()
	_ = s.Close() // of a dead disk
	s = open(t, d.Open(), small())
	check()
	if err := s.DeclareLossOf(1, "test"); err != nil {
		t.Fatal(err)
	}
	wantError(t, sendRecord(s, 1, nth(9, 2, "b")), store.ErrEnded)
	mustMerge(t, s, 1, nth(9, 4, "d"))
}

func TestClosingFenceTakesWhatIsHeldOrKnown(t *testing.T) {
	d := disk.New(1)
	s := open(t, d.Open(), small())
	two := nth(9, 2, "b")
	mustMerge(t, s, 1, two)
	mustEnd(t, s, store.Ending{Actor: 9, Dots: []store.Range{{First: 5, Last: 5}}})
	check := func() {
		t.Helper()
		mustMerge(t, s, 1, two)
		mustMerge(t, s, 1, (&elsewhere{actor: 8}).put(two, "over it"))
		mustMerge(t, s, 1, nth(9, 5, "e"))
		wantError(t, sendRecord(s, 1, nth(9, 3, "c")), store.ErrEnding)
		wantError(t, startStandIn(s, 3, 1, encoded(nth(9, 3, "c"))).wait(), store.ErrEnding)
		mustStandIn(t, s, 3, 1, encoded(nth(9, 5, "e")))
	}
	check()
	d.PowerCut()
	_ = s.Close() // of a dead disk
	s = open(t, d.Open(), small())
	check()
	// It becomes only more, until it is closed, and then it is what it is.
	mustEnd(t, s, store.Ending{Actor: 9, Dots: []store.Range{{First: 3, Last: 3}}})
	mustMerge(t, s, 1, nth(9, 3, "c"))
	mustMerge(t, s, 1, nth(9, 5, "e"))
	mustEnd(t, s, closedAs(9, store.Range{First: 2, Last: 3}, store.Range{First: 5, Last: 5}))
	mustEnd(t, s, store.Ending{Actor: 9, Dots: []store.Range{{First: 7, Last: 7}}})
	mustEnd(t, s, closedAs(9, store.Range{First: 1, Last: 9}))
	all, changed := s.Endings(1)
	if want := []store.Ending{closedAs(9, store.Range{First: 2, Last: 3}, store.Range{First: 5, Last: 5})}; !reflect.DeepEqual(all, want) || changed == 0 {
		t.Fatalf("known are %v, changed %d", all, changed)
	}
	if _, now := s.ClocksChanged(0); changed > now {
		t.Fatalf("changed %d, now %d", changed, now)
	}
}

// A fence has on disk what was minted before it, and nothing is minted after it.
func TestClosingFenceEndsMintingBehindWhatIsOnItsWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		mine := mustPut(t, s, 1, "k", "v").dot.Actor
		if actor, err := s.Minting(1); actor != mine || err != nil {
			t.Fatalf("minting %x, %v", actor, err)
		}
		slow(d, time.Second)
		second := start(s, blind(1, "k", "w"))
		synctest.Wait()
		mustEnd(t, s, store.Ending{Actor: mine})
		if !second.isDone() || second.err != nil {
			t.Fatal("the fence overtook a write")
		}
		wantClaims(t, s, 1, true, dot(mine, 1), dot(mine, 2))
		if third := mustPut(t, s, 1, "k", "x"); third.dot.Actor == mine {
			t.Fatal("minted with a fenced actor")
		}
	})
}

func TestClosingIsRefusedByANewerFence(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	ringOf(t, s, 4)
	if err := s.End(1, []store.Ending{closedAs(9)}, 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Adopt([]byte("ring"), func(ring.Partition) uint64 { return 7 }, 4, nil); err != nil {
		t.Fatal(err)
	}
	wantError(t, s.End(1, []store.Ending{closedAs(8)}, 6), store.ErrFenced)
	if all, _ := s.Endings(1); len(all) != 1 {
		t.Fatalf("known are %v", all)
	}
}

// Seen dots above the last one of a closed actor leave no hole: they were shown by a
// disk that has lost them since.
func TestClosingLeavesNoHoleAboveTheLastDot(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	mustMerge(t, s, 1, nth(9, 1, "a"))
	mustEnd(t, s, closedAs(9, store.Range{First: 1, Last: 1}))
	r := key("k").Put(version.Context{dot(9, 5)}, version.NewSibling(dot(8, 1), version.StampAt(time.Now()), 0, []byte("v")))
	mustMerge(t, s, 1, r)
	c := s.ClockOf(1)
	if !c.Covers(version.Context{dot(8, 1), dot(9, 5)}) {
		t.Fatalf("the clock is %v", c)
	}
}

// A clock is full of open actors at 4,096, and closing makes room.
func TestClosingMakesRoomInAFullClock(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	const full = 4096
	var all store.DotSet
	for a := range version.Actor(full) {
		all = append(all, store.ActorDots{Actor: a + 1, Ranges: []store.Range{{First: 1, Last: 1}}})
	}
	if err := s.Incorporate(1, all, s.Era()); err != nil {
		t.Fatal(err)
	}
	one := nth(full+1, 1, "k")
	mustMerge(t, s, 1, one)
	wantClaims(t, s, 1, false, dot(full+1, 1))
	var ends []store.Ending
	for a := range version.Actor(256) {
		ends = append(ends, closedAs(a+1, store.Range{First: 1, Last: 1}))
	}
	mustEnd(t, s, ends...)
	for n := range version.Actor(256) {
		mustMerge(t, s, 1, nth(full+1+n, 1, "k"))
		wantClaims(t, s, 1, true, dot(full+1+n, 1))
	}
	mustMerge(t, s, 1, nth(full+300, 1, "k"))
	wantClaims(t, s, 1, false, dot(full+300, 1))
	c := s.ClockOf(1)
	again, err := store.ParseClock(c.Append(nil))
	if err != nil || len(again.Actors) != full+256 {
		t.Fatalf("%d actors, %v", len(again.Actors), err)
	}
}

func genEnding(t *rapid.T) store.Ending {
	var c store.Clock
	for range rapid.IntRange(0, 30).Draw(t, "dots") {
		c.Add(version.Dot{Actor: 1, Seq: rapid.Uint64Range(1, 60).Draw(t, "seq")}, false)
	}
	e := store.Ending{Actor: version.Actor(rapid.Uint64Range(1, 1<<64-1).Draw(t, "actor")), Closed: rapid.Bool().Draw(t, "closed")}
	for _, d := range c.Minus(new(store.Clock)) {
		e.Dots = d.Ranges
	}
	return e
}

func TestClosingEndsHaveOneMeaningInBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genEnding(t)
		b := e.Append(nil)
		if again, err := store.ParseEnding(b); err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("%v became %v: %v", e, again, err)
		}
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		b[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := store.ParseEnding(b); err == nil {
			t.Fatalf("damage at %d is not seen", at)
		}
		holes := store.DotSet{{Actor: e.Actor, Ranges: e.Holes()}}
		for n := uint64(1); n <= e.Last(); n++ {
			if holes.Has(version.Dot{Actor: e.Actor, Seq: n}) == e.Has(n) {
				t.Fatalf("%d of %v", n, e)
			}
		}
	})
}

func FuzzParseEnding(f *testing.F) {
	for _, e := range []store.Ending{{Actor: 1}, closedAs(7, store.Range{First: 1, Last: 5}, store.Range{First: 9, Last: 9})} {
		f.Add(e.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := store.ParseEnding(b)
		if err != nil {
			return
		}
		again, err := store.ParseEnding(e.Append(nil))
		if err != nil || !bytes.Equal(again.Append(nil), e.Append(nil)) {
			t.Fatalf("%v: %v", e, err)
		}
	})
}
