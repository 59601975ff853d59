package store

import (
	"slices"

	"github.com/kithdb/kith/store/version"
)

// Fill is the record in, as it comes to a home, without what that home had before
// and holds no longer: siblings that its clock claims, and that the stored record
// lacks, were replaced or forgotten there. claimed is that clock. What is left may
// be merged with the stored record. It allocates only where something is dropped.
//
// A dropped value that the stored record has not seen is not seen by what is left
// either. Else the clock's word, which is wrong where the value was lost without
// notice, would turn into that of a record, which ends the value wherever it still is.
// Beside a later write of its actor that the home does not claim it stays seen: a
// context cannot leave out a dot and cover the next one.
func Fill(stored, in *version.Record, claimed func(version.Dot) bool) version.Record {
	out := without(in, func(s *version.Sibling) bool { return claimed(s.Dot) && !holds(stored, s.Dot) })
	if len(out.Siblings) == len(in.Siblings) {
		return out
	}
	for i := range in.Siblings {
		s := &in.Siblings[i]
		if !s.Tombstone && !stored.Seen.Covers(s.Dot) && !holds(&out, s.Dot) && !heldLater(in, s.Dot, claimed) {
			out.Seen = unseen(out.Seen, s.Dot, stored.Seen, out.Siblings)
		}
	}
	return out
}

// heldLater says that a record names a later write of the actor that minted one of
// its siblings, which the clock does not claim.
func heldLater(r *version.Record, d version.Dot, claimed func(version.Dot) bool) bool {
	last := r.Seen.Max(d.Actor)
	if last == d.Seq {
		return false
	}
	if !claimed(version.Dot{Actor: d.Actor, Seq: last}) {
		return true
	}
	return slices.ContainsFunc(r.Siblings, func(s version.Sibling) bool {
		return s.Actor == d.Actor && s.Seq > d.Seq && !claimed(s.Dot)
	})
}

// unseen is a context without a dot. Of its actor, that leaves the last one before
// it that is known to be of this key: what a context names, the clock will claim.
func unseen(seen version.Context, d version.Dot, stored version.Context, left []version.Sibling) version.Context {
	last := stored.Max(d.Actor)
	for i := range left {
		if s := &left[i]; s.Actor == d.Actor && s.Seq < d.Seq {
			last = max(last, s.Seq)
		}
	}
	out := slices.Clone(seen)
	i := slices.IndexFunc(out, func(s version.Dot) bool { return s.Actor == d.Actor })
	switch {
	case i < 0:
	case last == 0:
		out = slices.Delete(out, i, i+1)
	default:
		out[i].Seq = min(out[i].Seq, last)
	}
	return out
}

// holds says that the dot is that of one of the record's siblings.
func holds(r *version.Record, d version.Dot) bool {
	_, ok := slices.BinarySearchFunc(r.Siblings, d, func(s version.Sibling, d version.Dot) int { return s.Dot.Compare(d) })
	return ok
}

// without is the record without some of its siblings; it has seen them still.
func without(r *version.Record, drop func(s *version.Sibling) bool) version.Record {
	out := *r
	for i := range r.Siblings {
		if drop(&r.Siblings[i]) {
			out.Siblings = slices.Clone(r.Siblings)
			out.Siblings = slices.DeleteFunc(out.Siblings, func(s version.Sibling) bool { return drop(&s) })
			return out
		}
	}
	return out
}
