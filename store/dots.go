package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/kithdb/kith/store/version"
)

// ActorDots are dots of one actor: ranges of numbers, sorted, with gaps between
// them.
type ActorDots struct {
	Actor  version.Actor
	Ranges []Range
}

// DotSet is a set of dots, sorted by actor; no actor stands in it without a
// range. The nil DotSet is empty.
type DotSet []ActorDots

// Has says that the dot is in the set.
func (s DotSet) Has(d version.Dot) bool {
	i, ok := slices.BinarySearchFunc(s, d.Actor, func(a ActorDots, actor version.Actor) int {
		return compareActors(a.Actor, actor)
	})
	if !ok {
		return false
	}
	r := s[i].Ranges
	at, _ := slices.BinarySearchFunc(r, d.Seq, func(r Range, n uint64) int {
		if r.Last < n {
			return -1
		}
		return 1
	})
	return at < len(r) && d.Seq >= r[at].First
}

// Count is how many dots the set has, up to the largest number there is.
func (s DotSet) Count() uint64 {
	n := uint64(0)
	for i := range s {
		for _, r := range s[i].Ranges {
			length := r.Last - r.First // and one more
			if n+length < n || n+length == 1<<64-1 {
				return 1<<64 - 1
			}
			n += length + 1
		}
	}
	return n
}

// check refuses what is no set: dots out of order, empty, or numbered zero.
func (s DotSet) check() error {
	for i := range s {
		if i > 0 && s[i].Actor <= s[i-1].Actor || len(s[i].Ranges) == 0 {
			return fmt.Errorf("%w: actor %016x", errDots, s[i].Actor)
		}
		for j, r := range s[i].Ranges {
			if r.First == 0 || r.Last < r.First || j > 0 && r.First-1 <= s[i].Ranges[j-1].Last {
				return fmt.Errorf("%w: actor %016x: %d to %d", errDots, s[i].Actor, r.First, r.Last)
			}
		}
	}
	return nil
}

var errDots = errors.New("bad set of dots")

// ranges are all that the clock claims of the actor.
func (a *ActorClock) ranges() []Range {
	out := make([]Range, 0, len(a.Ranges)+1)
	if a.Base > 0 {
		out = append(out, Range{1, a.Base})
	}
	return append(out, a.Ranges...)
}

// Minus returns the dots that c claims and other does not.
func (c *Clock) Minus(other *Clock) DotSet {
	var out DotSet
	for i := range c.Actors {
		a := &c.Actors[i]
		mine := a.ranges()
		if j, ok := other.find(a.Actor); ok {
			mine = subtract(mine, other.Actors[j].ranges())
		}
		if len(mine) > 0 {
			out = append(out, ActorDots{a.Actor, mine})
		}
	}
	return out
}

// And returns the dots of the set that the clock claims.
func (s DotSet) And(c *Clock) DotSet {
	var out DotSet
	for i := range s {
		j, ok := c.find(s[i].Actor)
		if !ok {
			continue
		}
		if both := intersect(s[i].Ranges, c.Actors[j].ranges()); len(both) > 0 {
			out = append(out, ActorDots{s[i].Actor, both})
		}
	}
	return out
}

// Without returns the dots of the set that the clock does not claim.
func (s DotSet) Without(c *Clock) DotSet {
	var out DotSet
	for i := range s {
		left := s[i].Ranges
		if j, ok := c.find(s[i].Actor); ok {
			left = subtract(left, c.Actors[j].ranges())
		}
		if len(left) > 0 {
			out = append(out, ActorDots{s[i].Actor, left})
		}
	}
	return out
}

// Bases are the numbers up to which the clock claims every dot of an actor.
func (c *Clock) Bases() version.Context {
	var out version.Context
	for i := range c.Actors {
		if a := &c.Actors[i]; a.Base > 0 {
			out = append(out, version.Dot{Actor: a.Actor, Seq: a.Base})
		}
	}
	return out
}

// subtract returns what a has and b lacks.
func subtract(a, b []Range) []Range {
	var out []Range
	for _, r := range a {
		for len(b) > 0 && b[0].Last < r.First {
			b = b[1:]
		}
		out = appendRest(out, r, b)
	}
	return out
}

// appendRest appends what r has and b lacks. No range of b ends before r begins.
func appendRest(out []Range, r Range, b []Range) []Range {
	for _, hole := range b {
		if hole.First > r.Last {
			break
		}
		if hole.First > r.First {
			out = append(out, Range{r.First, hole.First - 1})
		}
		if hole.Last >= r.Last {
			return out
		}
		r.First = hole.Last + 1
	}
	return append(out, r)
}

// union returns what either has, with gaps between the ranges.
func union(a, b []Range) []Range {
	out := make([]Range, 0, len(a)+len(b))
	for len(a) > 0 || len(b) > 0 {
		if len(a) == 0 || len(b) > 0 && b[0].First < a[0].First {
			a, b = b, a
		}
		if last := len(out) - 1; last >= 0 && a[0].First-1 <= out[last].Last {
			out[last].Last = max(out[last].Last, a[0].Last)
		} else {
			out = append(out, a[0])
		}
		a = a[1:]
	}
	return out
}

// intersect returns what both have.
func intersect(a, b []Range) []Range {
	var out []Range
	for i, j := 0, 0; i < len(a) && j < len(b); {
		if first, last := max(a[i].First, b[j].First), min(a[i].Last, b[j].Last); first <= last {
			out = append(out, Range{first, last})
		}
		if a[i].Last < b[j].Last {
			i++
		} else {
			j++
		}
	}
	return out
}

func compareActors(a, b version.Actor) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// appendRanges encodes ranges that are sorted and lie above a number: a count, and
// each as its distance from what lies below it, and its length.
func appendRanges(b []byte, above uint64, ranges []Range) []byte {
	b = binary.AppendUvarint(b, uint64(len(ranges)))
	for _, r := range ranges {
		b = binary.AppendUvarint(b, r.First-above)
		b = binary.AppendUvarint(b, r.Last-r.First)
		above = r.Last
	}
	return b
}

// ranges reads what appendRanges wrote, up to most of them. Those that touch each
// other, or what lies below, are the caller's to refuse.
func (f *fields) ranges(above, most uint64) (all []Range) {
	n := f.uvarint()
	f.bad = f.bad || n > most
	for ; n > 0 && !f.bad; n-- {
		distance, length := f.uvarint(), f.uvarint()
		r := Range{above + distance, above + distance + length}
		if f.bad || r.First < above || r.Last < r.First {
			f.bad = true
			return nil
		}
		all = append(all, r)
		above = r.Last
	}
	return all
}
