// Package version knows which write has seen which.
//
// It owns dots, contexts, siblings and their merge, the one encoding of a record,
// the tokens that carry contexts to clients and back, and the arithmetic of
// hybrid logical clocks. It promises that merging is commutative, associative
// and idempotent, and that a record has one encoding, in which any damage is
// found. It reads no disk, network or wall clock; a Clock is handed one.
//
// The algorithm is that of dotted version vectors with server-minted dots
// (Preguiça, Baquero, Almeida, Fonte, Gonçalves, "Dotted Version Vectors",
// 2010), with one set of siblings under one common causal past.
package version

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"slices"
)

// Actor mints dots. It is 64 random bits, drawn for one partition by one
// process, and never outlives that process: no crash, restored backup or lying
// disk can make it mint a dot twice.
type Actor uint64

// Dot names one write for ever: the Seq-th that its actor minted in a
// partition, counted from 1 without gaps.
type Dot struct {
	Actor Actor
	Seq   uint64
}

// Compare orders dots by actor, then by number.
func (d Dot) Compare(e Dot) int {
	if c := cmp.Compare(d.Actor, e.Actor); c != 0 {
		return c
	}
	return cmp.Compare(d.Seq, e.Seq)
}

// Context says what somebody has seen of one key: for each actor, its dots up
// to and including the named one. It is sorted by actor, names each actor once
// and holds no zero numbers. The nil Context has seen nothing.
type Context []Dot

// Max returns the highest number seen of an actor, 0 for none.
func (c Context) Max(a Actor) uint64 {
	// Contexts are short: a scan beats a binary search.
	for i := range c {
		if c[i].Actor >= a {
			if c[i].Actor == a {
				return c[i].Seq
			}
			return 0
		}
	}
	return 0
}

// Covers says that d has been seen.
func (c Context) Covers(d Dot) bool { return d.Seq <= c.Max(d.Actor) }

// Includes says that everything that other has seen, c has seen too.
func (c Context) Includes(other Context) bool {
	for _, d := range other {
		if !c.Covers(d) {
			return false
		}
	}
	return true
}

// Union returns what c or other have seen, in a new Context.
func (c Context) Union(other Context) Context {
	if len(c)+len(other) == 0 {
		return nil
	}
	return c.union(other, make(Context, 0, len(c)+len(other)))
}

// unionWith returns what c, other or d have seen, in one new Context.
func (c Context) unionWith(other Context, d Dot) Context {
	out := c.union(other, make(Context, 0, len(c)+len(other)+1))
	i := 0
	for i < len(out) && out[i].Actor < d.Actor {
		i++
	}
	if i < len(out) && out[i].Actor == d.Actor {
		out[i].Seq = max(out[i].Seq, d.Seq)
		return out
	}
	return slices.Insert(out, i, d)
}

func (c Context) union(other, out Context) Context {
	i, j := 0, 0
	for i < len(c) && j < len(other) {
		switch {
		case c[i].Actor < other[j].Actor:
			out = append(out, c[i])
			i++
		case c[i].Actor > other[j].Actor:
			out = append(out, other[j])
			j++
		default:
			out = append(out, Dot{c[i].Actor, max(c[i].Seq, other[j].Seq)})
			i++
			j++
		}
	}
	out = append(out, c[i:]...)
	return append(out, other[j:]...)
}

// With returns c and d, in a new Context.
func (c Context) With(d Dot) Context { return c.unionWith(nil, d) }

func (c Context) valid() bool {
	for i := range c {
		if c[i].Seq == 0 || i > 0 && c[i].Actor <= c[i-1].Actor {
			return false
		}
	}
	return true
}

// Digest is the first half of a SHA-256 sum.
type Digest [16]byte

// DigestOf hashes a value.
func DigestOf(value []byte) Digest {
	sum := sha256.Sum256(value)
	return Digest(sum[:16])
}

// Sibling is one write that no other sibling of its record has seen.
type Sibling struct {
	Dot
	// Tombstone says that the write was a delete; it has no value.
	Tombstone bool
	// Stamp orders concurrent writes for readers who want one winner.
	Stamp Stamp
	// Expiry is when the value stops to be readable, in milliseconds since
	// 1970 by the cluster's clocks; 0 is never.
	Expiry uint64
	// Value is nil for a tombstone, and nil with ValueSize > 0 where only
	// the header of a record was read.
	Value       []byte
	ValueSize   uint32
	ValueDigest Digest
}

// NewSibling makes the sibling of a put, hashing its value.
func NewSibling(d Dot, s Stamp, expiry uint64, value []byte) Sibling {
	return Sibling{Dot: d, Stamp: s, Expiry: expiry, Value: value,
		ValueSize: uint32(len(value)), ValueDigest: DigestOf(value)}
}

// NewTombstone makes the sibling of a delete.
func NewTombstone(d Dot, s Stamp) Sibling {
	return Sibling{Dot: d, Stamp: s, Tombstone: true}
}

// Expired says that the value can no longer be read at the given time, in
// milliseconds since 1970.
func (s *Sibling) Expired(now uint64) bool { return s.Expiry != 0 && s.Expiry <= now }

// Record is all that a home knows of one key. The zero Record but for its Key
// is that of a key never written.
type Record struct {
	Key []byte
	// Seen covers the dot of every sibling and of every write that one of
	// them replaced.
	Seen Context
	// Siblings are sorted by dot. None has seen another one.
	Siblings []Sibling
}

// Put returns the record after a write d-> sibling that had seen ctx: it
// replaces the siblings that ctx covers and stands beside the others.
// s.Dot must be new to the record.
func (r Record) Put(ctx Context, s Sibling) Record {
	out := Record{Key: r.Key, Seen: r.Seen.unionWith(ctx, s.Dot)}
	out.Siblings = make([]Sibling, 0, len(r.Siblings)+1)
	at := 0 // where s belongs, by its dot
	for i := range r.Siblings {
		o := &r.Siblings[i]
		if ctx.Covers(o.Dot) {
			continue
		}
		out.Siblings = append(out.Siblings, *o)
		if o.Dot.Compare(s.Dot) < 0 {
			at = len(out.Siblings)
		}
	}
	out.Siblings = slices.Insert(out.Siblings, at, s)
	return out
}

// Merge returns what two records of one key know together. It is commutative,
// associative and idempotent.
func Merge(a, b Record) Record {
	out := Record{Key: a.Key, Seen: a.Seen.Union(b.Seen)}
	out.Siblings = make([]Sibling, 0, len(a.Siblings)+len(b.Siblings))
	i, j := 0, 0
	for i < len(a.Siblings) || j < len(b.Siblings) {
		var c int
		switch {
		case i == len(a.Siblings):
			c = 1
		case j == len(b.Siblings):
			c = -1
		default:
			c = a.Siblings[i].Dot.Compare(b.Siblings[j].Dot)
		}
		switch {
		case c == 0: // both hold it
			out.Siblings = append(out.Siblings, a.Siblings[i])
			i++
			j++
		case c < 0: // b may have replaced it
			if !b.Seen.Covers(a.Siblings[i].Dot) {
				out.Siblings = append(out.Siblings, a.Siblings[i])
			}
			i++
		default:
			if !a.Seen.Covers(b.Siblings[j].Dot) {
				out.Siblings = append(out.Siblings, b.Siblings[j])
			}
			j++
		}
	}
	return out
}

// Dominates says that merging other into r would change nothing.
func (r *Record) Dominates(other *Record) bool {
	if !r.Seen.Includes(other.Seen) {
		return false
	}
	// other has seen no more. It changes r only where it knows that one of
	// r's siblings was replaced.
	for i := range r.Siblings {
		if other.Seen.Covers(r.Siblings[i].Dot) && !other.has(r.Siblings[i].Dot) {
			return false
		}
	}
	return true
}

func (r *Record) has(d Dot) bool {
	_, ok := slices.BinarySearchFunc(r.Siblings, d, func(s Sibling, d Dot) int { return s.Dot.Compare(d) })
	return ok
}

// Winner returns the index of the sibling that a reader gets who wants one: the
// latest stamp, then the highest actor and number; -1 without siblings. It is
// chosen over all siblings: if it is a tombstone or has expired, the key reads
// as not found.
func (r *Record) Winner() int {
	best := -1
	for i := range r.Siblings {
		if best < 0 || r.Siblings[i].after(&r.Siblings[best]) {
			best = i
		}
	}
	return best
}

func (s *Sibling) after(o *Sibling) bool {
	if s.Stamp != o.Stamp {
		return s.Stamp > o.Stamp
	}
	return s.Dot.Compare(o.Dot) > 0
}

// Equal says that both hold the same siblings under the same key. What they
// have seen beyond that does not count.
func (r *Record) Equal(other *Record) bool {
	return bytes.Equal(r.Key, other.Key) && slices.EqualFunc(r.Siblings, other.Siblings, func(a, b Sibling) bool {
		return a.Dot == b.Dot && a.Tombstone == b.Tombstone && a.Stamp == b.Stamp &&
			a.Expiry == b.Expiry && a.ValueDigest == b.ValueDigest
	})
}

func (r *Record) valid() bool {
	if !r.Seen.valid() {
		return false
	}
	for i := range r.Siblings {
		s := &r.Siblings[i]
		if s.Seq == 0 || !r.Seen.Covers(s.Dot) || i > 0 && s.Dot.Compare(r.Siblings[i-1].Dot) <= 0 ||
			s.Tombstone && (s.ValueSize != 0 || s.Expiry != 0 || s.ValueDigest != Digest{}) {
			return false
		}
	}
	return true
}
