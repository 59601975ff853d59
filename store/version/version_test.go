package version

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A dot has one content everywhere, so the generators derive it from the dot.
func contentOf(d Dot) Sibling {
	stamp := Stamp(uint64(d.Actor)*7+d.Seq*3) % 11
	if (uint64(d.Actor)+d.Seq)%5 == 0 {
		return NewTombstone(d, stamp)
	}
	return NewSibling(d, stamp, d.Seq%3*1000, fmt.Appendf(nil, "value %d of %d", d.Seq, d.Actor))
}

func genContext() *rapid.Generator[Context] {
	return rapid.Custom(func(t *rapid.T) Context {
		seen := rapid.MapOfN(rapid.Uint64Range(0, 5), rapid.Uint64Range(1, 6), 0, 5).Draw(t, "seen")
		var c Context
		for _, a := range slices.Sorted(maps.Keys(seen)) {
			c = append(c, Dot{Actor(a), seen[a]})
		}
		return c
	})
}

func genRecord() *rapid.Generator[Record] {
	return rapid.Custom(func(t *rapid.T) Record {
		r := Record{Key: []byte("k"), Seen: genContext().Draw(t, "seen")}
		for _, top := range r.Seen {
			for seq := uint64(1); seq <= top.Seq; seq++ {
				if rapid.Bool().Draw(t, "alive") {
					r.Siblings = append(r.Siblings, contentOf(Dot{top.Actor, seq}))
				}
			}
		}
		return r
	})
}

// same compares all that a record holds.
func same(a, b Record) bool {
	return a.Equal(&b) && slices.Equal(a.Seen, b.Seen)
}

// plain is a record as DESIGN writes it down: V and D as maps.
type plain struct {
	V map[Actor]uint64
	D map[Dot]Sibling
}

func plainOf(r Record) plain {
	p := plain{map[Actor]uint64{}, map[Dot]Sibling{}}
	for _, d := range r.Seen {
		p.V[d.Actor] = d.Seq
	}
	for _, s := range r.Siblings {
		p.D[s.Dot] = s
	}
	return p
}

func (p plain) put(ctx Context, s Sibling) plain {
	c := plainOf(Record{Seen: ctx}).V
	out := plain{maps.Clone(p.V), map[Dot]Sibling{}}
	for d, x := range p.D {
		if d.Seq > c[d.Actor] {
			out.D[d] = x
		}
	}
	for a, n := range c {
		out.V[a] = max(out.V[a], n)
	}
	out.V[s.Actor] = s.Seq
	out.D[s.Dot] = s
	return out
}

func (p plain) merge(q plain) plain {
	out := plain{maps.Clone(p.V), map[Dot]Sibling{}}
	keep := func(from, other plain) {
		for d, x := range from.D {
			if _, both := other.D[d]; both || d.Seq > other.V[d.Actor] {
				out.D[d] = x
			}
		}
	}
	keep(p, q)
	keep(q, p)
	for a, n := range q.V {
		out.V[a] = max(out.V[a], n)
	}
	return out
}

func (p plain) is(r Record) bool {
	q := plainOf(r)
	return r.valid() && len(q.D) == len(r.Siblings) && maps.Equal(p.V, q.V) &&
		maps.EqualFunc(p.D, q.D, func(a, b Sibling) bool { return a.Dot == b.Dot && a.ValueDigest == b.ValueDigest })
}

func TestMergeIsCommutativeAssociativeIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := genRecord().Draw(t, "a"), genRecord().Draw(t, "b"), genRecord().Draw(t, "c")
		if !same(Merge(a, b), Merge(b, a)) {
			t.Fatal("order changes the merge")
		}
		if !same(Merge(Merge(a, b), c), Merge(a, Merge(b, c))) {
			t.Fatal("grouping changes the merge")
		}
		if !same(Merge(a, a), a) {
			t.Fatal("a record merged with itself changes")
		}
		if ab := Merge(a, b); !same(Merge(ab, b), ab) {
			t.Fatal("merging twice changes the merge")
		}
	})
}

func TestMergeIsWhatTheFormulaSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genRecord().Draw(t, "a"), genRecord().Draw(t, "b")
		if m := Merge(a, b); !plainOf(a).merge(plainOf(b)).is(m) {
			t.Fatalf("Merge gives %+v", m)
		}
	})
}

func TestPutIsWhatTheFormulaSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, ctx := genRecord().Draw(t, "r"), genContext().Draw(t, "ctx")
		a := Actor(rapid.Uint64Range(0, 6).Draw(t, "actor"))
		s := contentOf(Dot{a, max(r.Seen.Max(a), ctx.Max(a)) + rapid.Uint64Range(1, 3).Draw(t, "gap")})
		if got := r.Put(ctx, s); !plainOf(r).put(ctx, s).is(got) {
			t.Fatalf("Put gives %+v", got)
		}
	})
}

func TestPutAndMergeLeaveTheirInputsAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genRecord().Draw(t, "a"), genRecord().Draw(t, "b")
		ctx := genContext().Draw(t, "ctx")
		before := a.Append(nil)
		Merge(a, b)
		Merge(b, a)
		a.Put(ctx, contentOf(Dot{9, 1}))
		a.Seen.With(Dot{1, 99})
		if after := a.Append(nil); string(after) != string(before) {
			t.Fatalf("was %x, is %x", before, after)
		}
	})
}

func TestDominatesMeansThatMergeChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genRecord().Draw(t, "a"), genRecord().Draw(t, "b")
		if rapid.Bool().Draw(t, "related") {
			a = Merge(a, b)
		}
		if got, want := a.Dominates(&b), same(Merge(a, b), a); got != want {
			t.Fatalf("Dominates says %v, the merge %v", got, want)
		}
	})
}

func TestContextUnionIsTheLeastThatIncludesBoth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genContext().Draw(t, "a"), genContext().Draw(t, "b")
		u := a.Union(b)
		if !u.valid() || !u.Includes(a) || !u.Includes(b) {
			t.Fatalf("union %v", u)
		}
		for _, d := range u {
			if d.Seq != max(a.Max(d.Actor), b.Max(d.Actor)) {
				t.Fatalf("union claims %v", d)
			}
		}
		d := Dot{Actor(rapid.Uint64Range(0, 6).Draw(t, "actor")), rapid.Uint64Range(1, 8).Draw(t, "seq")}
		if w := a.With(d); !slices.Equal(w, a.Union(Context{d})) || !w.Covers(d) {
			t.Fatalf("with %v: %v", d, w)
		}
	})
}

func TestWinnerIsTheSameInEveryOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genRecord().Draw(t, "r")
		w := r.Winner()
		if (w < 0) != (len(r.Siblings) == 0) {
			t.Fatalf("winner %d of %d siblings", w, len(r.Siblings))
		}
		for i := range r.Siblings {
			s, best := &r.Siblings[i], &r.Siblings[w]
			if s.Stamp > best.Stamp || s.Stamp == best.Stamp && s.Dot.Compare(best.Dot) > 0 {
				t.Fatalf("winner %+v, but %+v is later", best, s)
			}
		}
	})
}

func TestExpiryIsTheFirstMomentThatCannotRead(t *testing.T) {
	s := NewSibling(Dot{1, 1}, 1, 1000, nil)
	if s.Expired(999) || !s.Expired(1000) {
		t.Fatal("a value with expiry 1000 is readable up to 999")
	}
	if s.Expiry = 0; s.Expired(1<<64 - 1) {
		t.Fatal("a value without expiry expired")
	}
}

func TestParseTakesARecordAtItsBoundsAndNoneAbove(t *testing.T) {
	full := Record{Key: []byte("k")}
	for i := range SeenMax {
		full.Seen = append(full.Seen, Dot{Actor(i + 1), 1})
	}
	for i := range SiblingsMax {
		full.Siblings = append(full.Siblings, NewTombstone(Dot{Actor(i + 1), 1}, 1))
	}
	if _, err := Parse(full.Append(nil)); err != nil {
		t.Fatalf("a record at its bounds: %v", err)
	}
	for name, r := range map[string]Record{
		"no key":   {},
		"key":      {Key: make([]byte, KeySizeMax+1)},
		"context":  {Key: full.Key, Seen: full.Seen.With(Dot{SeenMax + 1, 1})},
		"siblings": {Key: full.Key, Seen: full.Seen, Siblings: append(full.Siblings[:SiblingsMax:SiblingsMax], contentOf(Dot{SiblingsMax + 1, 1}))},
	} {
		if _, err := Parse(r.Append(nil)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
