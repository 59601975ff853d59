package ring

import (
	"fmt"
	"slices"
)

// A member whose disk is lost is replaced in two records. In the first it is
// Lost: everybody who has adopted that refuses what the lost one, or who has not
// heard of it, still does for its partitions. In the second a newcomer has its
// slots. Between them lies the fence: enough other homes must hold the first
// record before the second is proposed, or a lost member that is only cut off
// could still make up a quorum that the newcomer's writes do not meet.

// WithLost makes the record in which a member is Lost: it keeps its slots, but
// fulfils nothing for them, and never comes back. The fences of all its partitions
// rise. It is r itself if the member is Lost already.
func (r *Record) WithLost(old NodeID) (*Record, error) {
	m := r.Member(old)
	switch {
	case m == nil:
		return nil, fmt.Errorf("give up member %s: it is not a member", old.Short())
	case m.State == Lost:
		return r, nil
	case !r.Founded():
		return nil, fmt.Errorf("give up member %s: the cluster is not founded yet", old.Short())
	}
	next := r.successor()
	next.Members[next.index(old)].State = Lost
	for p := range next.Since {
		if r.HomeIndex(Partition(p), old) >= 0 {
			next.Since[p] = next.Epoch
		}
	}
	return next.checked(r)
}

// WithReplacement makes the record in which m, active and with the weight of the
// lost member, has every slot of old, and its place as a keeper. Old, which must
// be Lost and have slots, is no member any more and banned. All other slots and members stay as
// they are; moves that name old are given up, and the fences of old's partitions
// and of those moves rise.
//
// m is a newcomer or on standby. It is refused with ErrBanned if it was removed
// before, with ErrKnown if it has slots. A move that names old and has come to
// PhaseReadNew or PhaseBack must end first: its target was read from.
func (r *Record) WithReplacement(old NodeID, m Member) (*Record, error) {
	if err := r.replaceable(old, m.ID); err != nil {
		return nil, fmt.Errorf("replace member %s by %s: %w", old.Short(), m.ID.Short(), err)
	}
	return r.replaced(old, m).checked(r)
}

// awaitsHeir says that the slots of a lost member stay where they are, for somebody who
// takes its place: nobody has removed it, nor named another one who is to have them.
func (r *Record) awaitsHeir(id NodeID) bool { return r.isLost(id) && !r.IsBanned(id) }

// replaceable says why m may not take the place of old.
func (r *Record) replaceable(old, m NodeID) error {
	was, is := r.Member(old), r.Member(m)
	switch {
	case was == nil:
		return fmt.Errorf("%s is not a member", old.Short())
	case was.State != Lost:
		return fmt.Errorf("%s is %v, and must be given up first", old.Short(), was.State)
	case r.HomeCount(old) == 0:
		return fmt.Errorf("%s is home of nothing: there is no place to take", old.Short())
	case r.IsBanned(m):
		return ErrBanned
	case is != nil && is.State != Standby:
		return fmt.Errorf("%w, and %v", ErrKnown, is.State)
	}
	for i := range r.Moves {
		if move := &r.Moves[i]; move.names(old) && move.Phase > PhaseDual {
			return fmt.Errorf("%v must end first", move)
		}
	}
	return nil
}

// replaced is the record after r in which m has the place of old, not sealed yet.
func (r *Record) replaced(old NodeID, m Member) *Record {
	m.Weight = r.Member(old).Weight
	next := r.successor()
	next.Members = slices.DeleteFunc(next.Members, func(x Member) bool { return x.ID == old || x.ID == m.ID })
	next.Members = append(next.Members, m.prepared(Active))
	sortMembers(next.Members)

	heir := func(id NodeID) NodeID {
		if id == old {
			return m.ID
		}
		return id
	}
	for i := range next.table {
		next.table[i] = uint16(next.index(heir(r.Members[r.table[i]].ID)))
	}
	next.readmit(m.ID)
	for i, id := range next.Keepers {
		next.Keepers[i] = heir(id)
	}
	slices.SortFunc(next.Keepers, NodeID.Compare)
	next.Keepers = slices.Compact(next.Keepers)
	next.ban(old)
	for p := range next.Since {
		if r.HomeIndex(Partition(p), old) >= 0 {
			next.Since[p] = next.Epoch
		}
	}
	next.Moves = slices.DeleteFunc(next.Moves, func(move Move) bool {
		if move.names(old) && fences(move.Phase, 0) {
			next.Since[move.Partition] = next.Epoch
		}
		return move.names(old)
	})
	for i := range next.Moves {
		if move := &next.Moves[i]; r.HomeIndex(move.Partition, old) >= 0 {
			move.Got = 0 // a slot that had got what there was has nothing now
		}
	}
	next.settle(r)
	return next
}

// replacement finds the member that r replaces and the one in its place; zero
// where r replaces nobody.
func (r *Record) replacement(prev *Record) (old, m NodeID) {
	for i, home := range prev.table {
		if id := prev.Members[home].ID; r.index(id) < 0 {
			return id, r.homes[i]
		}
	}
	return NodeID{}, NodeID{}
}

// followsReplacement checks that r differs from prev by nothing but the
// replacement.
func (r *Record) followsReplacement(prev *Record, old, m NodeID) error {
	if err := prev.replaceable(old, m); err != nil {
		return fmt.Errorf("replace member %s by %s: %w", old.Short(), m.Short(), err)
	}
	want := prev.replaced(old, *r.Member(m))
	want.seal()
	if want.Digest() != r.Digest() {
		return fmt.Errorf("replace member %s by %s: more has changed than that", old.Short(), m.Short())
	}
	return nil
}
