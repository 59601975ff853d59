package ring

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

const (
	// ForcedMax is the most times that a ring can be forced.
	ForcedMax = 16
	// ForcedGap bounds the random gap before the epoch of a forced record: two that
	// are forced apart from each other shall have no epochs in common.
	ForcedGap = 1 << 40
)

// ErrSplit says that two records come from two histories of one cluster: a majority of
// the keepers was given up that had not gone, or the ring was forced on both sides of a
// cut. Neither may take the other's place.
var ErrSplit = errors.New("the ring is split into two histories")

// Forced is one time that the ring was changed without a majority of its keepers, which
// was gone for good, by all of some survivors together.
type Forced struct {
	// Epoch is that of the record that was forced. It is above all that its
	// survivors had seen, by a gap.
	Epoch uint64
	// Base and Digest name the record that it was made from. Of the records of its
	// history, those behind it do not count.
	Base   uint64
	Digest [sha256.Size]byte
	// Time is when, in milliseconds since 1970, by the clock of By.
	Time uint64
	// By is the survivor that was asked, Who the one who asked, at most NameMax
	// bytes, for people.
	By  NodeID
	Who string
	// Survivors are those who all agreed, sorted by ID.
	Survivors []NodeID
	// Apart are the members of that time that were no survivors, sorted by ID. They
	// are no keepers until they are readmitted.
	Apart []NodeID
}

// same says that both are the same event; who is apart may have changed since.
func (f *Forced) same(o *Forced) bool {
	return f.Epoch == o.Epoch && f.Base == o.Base && f.Digest == o.Digest && f.Time == o.Time &&
		f.By == o.By && f.Who == o.Who && slices.Equal(f.Survivors, o.Survivors)
}

// LastForced is the latest time that the ring was forced; nil for never. It is shared:
// do not change it.
func (r *Record) LastForced() *Forced {
	if len(r.Forced) == 0 {
		return nil
	}
	return &r.Forced[len(r.Forced)-1]
}

// IsApart says that the member was not among the survivors when the ring was forced
// last, and may not be a keeper since.
func (r *Record) IsApart(id NodeID) bool {
	f := r.LastForced()
	if f == nil {
		return false
	}
	_, found := slices.BinarySearchFunc(f.Apart, id, NodeID.Compare)
	return found
}

// electable are the members who may be keepers.
func (r *Record) electable() []Member {
	if r.LastForced() == nil {
		return r.Members
	}
	return slices.DeleteFunc(slices.Clone(r.Members), func(m Member) bool { return r.IsApart(m.ID) })
}

// keptByNobody names the rule that r would break if nobody were left who can be elected
// as a keeper: those who are would never be free to go.
func (r *Record) keptByNobody() error {
	if f := r.LastForced(); f != nil && !slices.ContainsFunc(r.electable(), func(m Member) bool { return m.State == Active }) {
		return fmt.Errorf("nobody would be left who may vote on the ring: it was forced at epoch %d, and the other members were not among the survivors; first readmit one of them (kith join)", f.Epoch)
	}
	return nil
}

// WithForced makes the record with which survivors go on without a majority of r's
// keepers. f names them, sorted, with the epoch, the time, and who has asked; its Base,
// Digest and Apart are filled in. Members, homes and moves stay as they are, and all
// fences rise, so that what the others may have agreed on since counts nowhere. The
// keepers are chosen among the survivors, at least one of whom must be active. It
// follows r by no rule of agreement: see Split for who may adopt it.
func (r *Record) WithForced(f Forced) (*Record, error) {
	fail := func(format string, args ...any) (*Record, error) {
		return nil, fmt.Errorf("force epoch %d after %d: "+format, append([]any{f.Epoch, r.Epoch}, args...)...)
	}
	if len(r.Forced) == ForcedMax {
		return fail("the ring was forced %d times already, which is the most", ForcedMax)
	}
	if f.Epoch <= r.Epoch {
		return fail("want a later epoch")
	}
	if id, ok := sortedOnce(f.Survivors); !ok {
		return fail("survivor %s is twice there or not sorted by ID", id.Short())
	}
	next := r.successor()
	next.Epoch = f.Epoch
	f.Base, f.Digest, f.Apart, f.Survivors = r.Epoch, r.Digest(), nil, slices.Clone(f.Survivors)
	for i := range r.Members {
		if id := r.Members[i].ID; !slices.Contains(f.Survivors, id) {
			f.Apart = append(f.Apart, id)
		}
	}
	next.Forced = append(next.Forced, f)
	if err := next.keptByNobody(); err != nil {
		return fail("no survivor is active: %w", err)
	}
	next.Keepers = chooseKeepers(next.electable(), r.Keepers)
	for p := range next.Since {
		next.Since[p] = next.Epoch
	}
	for i := range next.Moves {
		next.Moves[i].Got = 0 // told of a time that may not have been the last
	}
	next.seal()
	if err := next.Validate(); err != nil {
		return fail("%w", err)
	}
	return next, nil
}

// WithReadmitted makes the record in which a member who was not among the survivors may
// be a keeper again. It is r itself if the member is not apart.
func (r *Record) WithReadmitted(id NodeID) (*Record, error) {
	m := r.Member(id)
	switch {
	case m == nil:
		return nil, fmt.Errorf("readmit member %s: it is not a member", id.Short())
	case m.State == Lost:
		return nil, fmt.Errorf("readmit member %s: it is lost", id.Short())
	case !r.IsApart(id):
		return r, nil
	}
	next := r.successor()
	next.readmit(id)
	next.Keepers = chooseKeepers(next.electable(), r.Keepers)
	return next.checked(r)
}

// readmit lets a member be a keeper in a successor that is not sealed yet.
func (r *Record) readmit(id NodeID) {
	if r.IsApart(id) {
		last := &r.Forced[len(r.Forced)-1]
		last.Apart = slices.DeleteFunc(slices.Clone(last.Apart), func(a NodeID) bool { return a == id })
	}
}

// followsForced checks that a record that is agreed on hides nothing of what was forced
// before.
func (r *Record) followsForced(prev *Record) error {
	if len(r.Forced) != len(prev.Forced) {
		return fmt.Errorf("forced %d times became %d times", len(prev.Forced), len(r.Forced))
	}
	for i := range r.Forced {
		is, was := &r.Forced[i], &prev.Forced[i]
		if !is.same(was) {
			return fmt.Errorf("forced epoch %d became another one, %d", was.Epoch, is.Epoch)
		}
		if slices.Equal(is.Apart, was.Apart) {
			continue
		}
		if i < len(r.Forced)-1 || len(is.Apart) > len(was.Apart) || slices.ContainsFunc(is.Apart, func(id NodeID) bool { return !slices.Contains(was.Apart, id) }) {
			return fmt.Errorf("forced epoch %d: others are apart than before", was.Epoch)
		}
	}
	return nil
}

// Split is nil if one of two decided records of a cluster may be an ancestor of the
// other, and otherwise wraps ErrSplit and says where their histories part. The one with
// the later epoch is then news to whoever holds the earlier one, and may be adopted.
func (r *Record) Split(other *Record) error {
	older, newer := r, other
	if older.Epoch > newer.Epoch {
		older, newer = newer, older
	}
	for i := range older.Forced {
		was := &older.Forced[i]
		if i >= len(newer.Forced) {
			return fmt.Errorf("%w: epoch %d was forced %s, of which epoch %d knows nothing", ErrSplit, was.Epoch, was.words(older), newer.Epoch)
		}
		if is := &newer.Forced[i]; !is.same(was) {
			return fmt.Errorf("%w: epoch %d was forced %s, and epoch %d was forced apart from it %s",
				ErrSplit, was.Epoch, was.words(older), is.Epoch, is.words(newer))
		}
	}
	if len(newer.Forced) == len(older.Forced) {
		return nil
	}
	next := &newer.Forced[len(older.Forced)]
	if older.Epoch > next.Base || older.Epoch == next.Base && older.Digest() != next.Digest {
		return fmt.Errorf("%w: epoch %d was forced on top of epoch %d %s, and epoch %d was agreed on without them",
			ErrSplit, next.Epoch, next.Base, next.words(newer), older.Epoch)
	}
	return nil
}

func (r *Record) validateForced() error {
	if n := len(r.Forced); n > ForcedMax {
		return fmt.Errorf("forced %d times, at most %d", n, ForcedMax)
	}
	before := uint64(0) // the epoch that was forced last
	for i := range r.Forced {
		f := &r.Forced[i]
		if f.Base < max(before, 1) || f.Epoch <= f.Base || f.Epoch > r.Epoch {
			return fmt.Errorf("forced epoch %d on top of %d, behind %d and up to %d", f.Epoch, f.Base, before, r.Epoch)
		}
		before = f.Epoch
		if err := f.validate(); err != nil {
			return fmt.Errorf("forced epoch %d: %w", f.Epoch, err)
		}
	}
	for _, id := range r.Keepers {
		if r.IsApart(id) {
			return fmt.Errorf("keeper %s was not among the survivors of epoch %d", id.Short(), before)
		}
	}
	return nil
}

func (f *Forced) validate() error {
	if err := validateName(f.Who); err != nil {
		return fmt.Errorf("who asked: %w", err)
	}
	if n := len(f.Survivors); n < 1 || n > MembersMax || len(f.Apart) > MembersMax {
		return fmt.Errorf("%d survivors and %d others, want 1 to %d and at most as many", n, len(f.Apart), MembersMax)
	}
	for _, list := range [][]NodeID{f.Survivors, f.Apart} {
		if id, ok := sortedOnce(list); !ok {
			return fmt.Errorf("%s is twice there or not sorted by ID", id.Short())
		}
	}
	if !slices.Contains(f.Survivors, f.By) {
		return fmt.Errorf("%s was asked and is no survivor", f.By.Short())
	}
	for _, id := range f.Apart {
		if slices.Contains(f.Survivors, id) {
			return fmt.Errorf("%s is a survivor and is not", id.Short())
		}
	}
	return nil
}
