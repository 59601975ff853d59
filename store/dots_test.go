package store_test

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// dots is the slow model of clocks and sets of dots.
type dots map[version.Dot]bool

// numbers are few, and of both ends: sums of the largest ones wrap.
func genSeq() *rapid.Generator[uint64] {
	return rapid.OneOf(rapid.Uint64Range(1, 24), rapid.Uint64Range(math.MaxUint64-8, math.MaxUint64))
}

func genDots() *rapid.Generator[dots] {
	return rapid.Custom(func(t *rapid.T) dots {
		out := dots{}
		for range rapid.IntRange(0, 40).Draw(t, "count") {
			out[version.Dot{Actor: version.Actor(rapid.Uint64Range(1, 3).Draw(t, "actor")), Seq: genSeq().Draw(t, "seq")}] = true
		}
		return out
	})
}

func (m dots) clock() store.Clock {
	var c store.Clock
	for d := range m {
		c.Add(d, false)
	}
	return c
}

// set is the same as a DotSet: what a clock of it has and an empty one lacks.
func (m dots) set() store.DotSet {
	c := m.clock()
	return c.Minus(&store.Clock{})
}

// universe is every dot that the generators can draw.
func universe() (out []version.Dot) {
	for actor := version.Actor(1); actor <= 4; actor++ {
		for n := uint64(1); n <= 25; n++ {
			out = append(out, version.Dot{Actor: actor, Seq: n}, version.Dot{Actor: actor, Seq: math.MaxUint64 - n + 1})
		}
	}
	return out
}

// check says where a set differs from the model, and whether it is one at all.
func (m dots) check(s store.DotSet) error {
	for i, a := range s {
		if len(a.Ranges) == 0 || i > 0 && a.Actor <= s[i-1].Actor {
			return fmt.Errorf("actor %d is empty or out of order: %v", a.Actor, s)
		}
		for j, r := range a.Ranges {
			if r.First == 0 || r.Last < r.First || j > 0 && r.First-1 <= a.Ranges[j-1].Last {
				return fmt.Errorf("range %v of actor %d: %v", r, a.Actor, s)
			}
		}
	}
	for _, d := range universe() {
		if s.Has(d) != m[d] {
			return fmt.Errorf("has %v: %v, want %v", d, s.Has(d), m[d])
		}
	}
	return m.equal(s)
}

// equal says where a set differs from the model.
func (m dots) equal(s store.DotSet) error {
	for d := range m {
		if !s.Has(d) {
			return fmt.Errorf("lacks %v", d)
		}
	}
	if s.Count() != uint64(len(m)) {
		return fmt.Errorf("counts %d of %d dots", s.Count(), len(m))
	}
	return nil
}

func (m dots) filter(keep func(d version.Dot) bool) dots {
	out := dots{}
	for d := range m {
		if keep(d) {
			out[d] = true
		}
	}
	return out
}

func TestDotSetsAreSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genDots().Draw(t, "a"), genDots().Draw(t, "b")
		ca, cb, sa := a.clock(), b.clock(), a.set()
		inB, notInB := a.filter(func(d version.Dot) bool { return b[d] }), a.filter(func(d version.Dot) bool { return !b[d] })
		for what, c := range map[string]struct {
			want dots
			got  store.DotSet
		}{
			"all":     {a, sa},
			"Minus":   {notInB, ca.Minus(&cb)},
			"Without": {notInB, sa.Without(&cb)},
			"And":     {inB, sa.And(&cb)},
		} {
			if err := c.want.check(c.got); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		if err := a.check(ca.Minus(&store.Clock{})); err != nil {
			t.Fatalf("an operation changed its operand: %v", err)
		}
	})
}

// Adding a set at once is adding its dots one by one.
func TestAddAllIsAddOfEach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genDots().Draw(t, "a"), genDots().Draw(t, "b")
		at := a.clock()
		before := at.Append(nil)
		changed := at.AddAll(b.set())
		one := a.clock()
		for d := range b {
			one.Add(d, false)
		}
		if !bytes.Equal(at.Append(nil), one.Append(nil)) {
			t.Fatalf("%v, one by one %v", at, one)
		}
		if changed == bytes.Equal(before, at.Append(nil)) {
			t.Fatalf("says that it changed: %v", changed)
		}
		if again, err := store.ParseClock(at.Append(nil)); err != nil || !bytes.Equal(again.Append(nil), at.Append(nil)) {
			t.Fatalf("%v is not read again: %v", at, err)
		}
	})
}

func TestCoversMeansBelowTheBases(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := genDots().Draw(t, "a")
		c := a.clock()
		d := version.Dot{Actor: version.Actor(rapid.Uint64Range(1, 4).Draw(t, "actor")), Seq: genSeq().Draw(t, "seq")}
		want := d.Seq < 1000
		for n := d.Seq; want && n > 0; n-- {
			want = a[version.Dot{Actor: d.Actor, Seq: n}]
		}
		if got := c.Covers(version.Context{d}); got != want || c.Bases().Covers(d) != want {
			t.Fatalf("covers %v: %v, bases %v, want %v", d, got, c.Bases(), want)
		}
		if !c.Covers(nil) || !c.Covers(c.Bases()) {
			t.Fatal("a clock does not cover its bases")
		}
	})
}

func TestCountStopsAtTheLargestNumber(t *testing.T) {
	all := []store.Range{{First: 1, Last: math.MaxUint64}}
	for _, s := range []store.DotSet{{{Actor: 1, Ranges: all}}, {{Actor: 1, Ranges: all}, {Actor: 2, Ranges: all}}} {
		if n := s.Count(); n != math.MaxUint64 {
			t.Fatalf("counts %d", n)
		}
	}
}
