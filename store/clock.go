package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/kithdb/kith/store/version"
)

// Bounds of a clock. Beyond them it forgets: to claim too little is safe.
const (
	// ClockActorsMax is how many actors a clock has at most.
	ClockActorsMax = 1 << 16
	// clockOpenMax is how many of them are there beside those that were closed:
	// these come to an end, while the others may be anybody's invention.
	clockOpenMax   = 4096
	clockRangesMax = 64 // per actor
)

// Range is the numbers First to Last, both included.
type Range struct{ First, Last uint64 }

// ActorClock is what a clock holds of one actor: the numbers 1 to Base, and
// Ranges above it, sorted, with gaps between them.
type ActorClock struct {
	Actor version.Actor
	// Mine says that this store drew the actor.
	Mine   bool
	Base   uint64
	Ranges []Range
}

// Clock says which dots a home has incorporated in one partition: the records
// on its disk hold the write, or have seen one that replaced it. Actors are
// sorted. The zero Clock claims nothing.
type Clock struct {
	Actors []ActorClock

	room int // for actors beyond clockOpenMax: so many were closed
}

// full says that the clock takes no further actor.
func (c *Clock) full() bool { return len(c.Actors) >= min(ClockActorsMax, clockOpenMax+c.room) }

// Has says that the dot is claimed.
func (c *Clock) Has(d version.Dot) bool {
	i, ok := c.find(d.Actor)
	if !ok {
		return false
	}
	a := &c.Actors[i]
	if d.Seq <= a.Base {
		return d.Seq > 0
	}
	for _, r := range a.Ranges {
		if d.Seq <= r.Last {
			return d.Seq >= r.First
		}
	}
	return false
}

// Add claims a dot. It says whether the clock changed.
func (c *Clock) Add(d version.Dot, mine bool) bool {
	i, ok := c.find(d.Actor)
	if !ok {
		if c.full() {
			return false
		}
		c.Actors = slices.Insert(c.Actors, i, ActorClock{Actor: d.Actor})
	}
	a := &c.Actors[i]
	changed := mine && !a.Mine
	a.Mine = a.Mine || mine
	return a.add(d.Seq) || changed || !ok
}

// AddAll claims all dots of the set. It says whether the clock changed.
func (c *Clock) AddAll(s DotSet) bool {
	changed := false
	for _, dots := range s {
		i, ok := c.find(dots.Actor)
		if !ok {
			if c.full() {
				continue
			}
			c.Actors = slices.Insert(c.Actors, i, ActorClock{Actor: dots.Actor})
		}
		changed = c.Actors[i].addRanges(dots.Ranges) || changed
	}
	return changed
}

// HasSiblings says that every sibling of a record is claimed: each is held where the
// clock is from, or what has replaced it, if it was not forgotten since.
func (c *Clock) HasSiblings(r *version.Record) bool {
	return !slices.ContainsFunc(r.Siblings, func(s version.Sibling) bool { return !c.Has(s.Dot) })
}

// Covers says that the clock claims every dot of each actor in ctx up to the one
// that ctx names: nothing that is older than ctx can be missing.
func (c *Clock) Covers(ctx version.Context) bool {
	for _, d := range ctx {
		i, ok := c.find(d.Actor)
		if !ok || c.Actors[i].Base < d.Seq {
			return false
		}
	}
	return true
}

func (c *Clock) find(actor version.Actor) (int, bool) {
	return slices.BinarySearchFunc(c.Actors, actor, func(a ActorClock, actor version.Actor) int {
		return compareActors(a.Actor, actor)
	})
}

func (a *ActorClock) add(n uint64) bool {
	switch {
	case n <= a.Base:
		return false
	case n == a.Base+1:
		a.Base = n
		if len(a.Ranges) > 0 && a.Ranges[0].First == n+1 {
			a.Base = a.Ranges[0].Last
			a.Ranges = slices.Delete(a.Ranges, 0, 1)
		}
		return true
	}
	// i is the first range that ends at n-1 or later. Here n is 2 at least, and
	// so is what a range begins with: n-1 and First-1 do not wrap, as the sums
	// would at the largest number.
	i := 0
	for i < len(a.Ranges) && a.Ranges[i].Last < n-1 {
		i++
	}
	switch {
	case i == len(a.Ranges) || n < a.Ranges[i].First-1:
		if i == clockRangesMax {
			return false
		}
		a.Ranges = slices.Insert(a.Ranges, i, Range{n, n})
		a.trim()
	case n == a.Ranges[i].First-1:
		a.Ranges[i].First = n
	case n-1 == a.Ranges[i].Last:
		a.Ranges[i].Last = n
		if i+1 < len(a.Ranges) && a.Ranges[i+1].First-1 == n {
			a.Ranges[i].Last = a.Ranges[i+1].Last
			a.Ranges = slices.Delete(a.Ranges, i+1, i+2)
		}
	default:
		return false // inside
	}
	return true
}

// addRanges claims ranges that are sorted, with gaps between them.
func (a *ActorClock) addRanges(ranges []Range) bool {
	before := ActorClock{Base: a.Base, Ranges: a.Ranges}
	all := union(a.ranges(), ranges)
	a.Base, a.Ranges = 0, all
	if len(all) > 0 && all[0].First == 1 {
		a.Base, a.Ranges = all[0].Last, all[1:]
	}
	a.trim()
	return a.Base != before.Base || !slices.Equal(a.Ranges, before.Ranges)
}

// trim forgets the highest ranges beyond the bound.
func (a *ActorClock) trim() { a.Ranges = a.Ranges[:min(len(a.Ranges), clockRangesMax)] }

// Clone copies the clock.
func (c *Clock) Clone() Clock {
	out := Clock{Actors: slices.Clone(c.Actors), room: c.room}
	for i := range out.Actors {
		out.Actors[i].Ranges = slices.Clone(out.Actors[i].Ranges)
	}
	return out
}

// Append encodes the clock behind b: a CRC32C of what follows, a count, and for
// each actor 8 bytes, a flag byte, the base, and its ranges as distances.
func (c *Clock) Append(b []byte) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.AppendUvarint(b, uint64(len(c.Actors)))
	for i := range c.Actors {
		a := &c.Actors[i]
		b = binary.BigEndian.AppendUint64(b, uint64(a.Actor))
		flag := byte(0)
		if a.Mine {
			flag = 1
		}
		b = append(b, flag)
		b = binary.AppendUvarint(b, a.Base)
		b = appendRanges(b, a.Base, a.Ranges)
	}
	binary.BigEndian.PutUint32(b[start:], crc32.Checksum(b[start+4:], castagnoli))
	return b
}

var errClock = errors.New("corrupt partition clock")

// ParseClock reads what Append wrote.
func ParseClock(b []byte) (Clock, error) {
	if len(b) < 5 || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return Clock{}, fmt.Errorf("%w: checksum of %d bytes", errClock, len(b))
	}
	f := fields{b: b[4:]}
	var c Clock
	n := f.uvarint()
	f.bad = f.bad || n > ClockActorsMax
	for i := 0; i < int(n) && !f.bad; i++ {
		if len(f.b) < 9 || f.b[8] > 1 {
			f.bad = true
			break
		}
		a := ActorClock{Actor: version.Actor(binary.BigEndian.Uint64(f.b)), Mine: f.b[8] == 1}
		if i > 0 && a.Actor <= c.Actors[i-1].Actor {
			f.bad = true
		}
		f.b = f.b[9:]
		a.Base = f.uvarint()
		a.Ranges = f.ranges(a.Base, clockRangesMax)
		// A range that touches what lies below it would be part of it.
		at := a.Base
		for _, r := range a.Ranges {
			f.bad = f.bad || r.First-at < 2
			at = r.Last
		}
		c.Actors = append(c.Actors, a)
	}
	if f.bad || len(f.b) > 0 {
		return Clock{}, fmt.Errorf("%w: content", errClock)
	}
	return c, nil
}
