package ring

import (
	"fmt"
	"slices"
)

// What an operator, or a member itself, wants of the membership, as the record in
// which it stands: members in their new states, and the moves to which that leads
// in the queue. Nothing else changes hands in these records, and no fence rises but
// those of a lost member's partitions.

// WithJoin makes the record in which m is active and takes its share. It is a
// newcomer, or a member on standby or about to leave; name, zone and weight are
// those of m, the weight of a member that is known stays where m has none. It is r
// itself if m is active already. It is refused with ErrBanned if it was removed
// before.
func (r *Record) WithJoin(m Member) (*Record, error) {
	members, err := r.withMember(m, Active)
	if err != nil {
		return nil, fmt.Errorf("join member %s: %w", m.ID.Short(), err)
	}
	if is := r.Member(m.ID); is != nil && is.State == Active {
		return r, nil
	}
	return r.changed("join member "+m.ID.Short(), members, nil)
}

// WithLeave makes the record in which an active member hands all its slots to the
// others, who must be at least as many as the replicas. It is r itself if the
// member is leaving already. See WithoutMember for the end.
func (r *Record) WithLeave(id NodeID) (*Record, error) {
	members := slices.Clone(r.Members)
	is := r.index(id)
	switch {
	case is < 0:
		return nil, fmt.Errorf("leave of member %s: it is not a member", id.Short())
	case members[is].State == Leaving:
		return r, nil
	case members[is].State == Lost:
		return nil, fmt.Errorf("leave of member %s: it is lost", id.Short())
	}
	members[is].State = Leaving
	return r.changed("leave of member "+id.Short(), members, nil)
}

// WithRemoval makes the record in which a member, dead for good, is Lost and banned,
// and its slots are queued to go to the others, who must be at least as many as the
// replicas. It is r itself if that stands already. See WithLost for its fences, and
// WithoutMember for the end.
func (r *Record) WithRemoval(id NodeID) (*Record, error) {
	lost, err := r.WithLost(id)
	if err != nil {
		return nil, err
	}
	next := lost.successor()
	if lost != r {
		next.Epoch = lost.Epoch // both changes are one record
	}
	next.Keepers = chooseKeepers(next.electable(), r.Keepers)
	next.ban(id)
	if err := next.requeue(nil); err != nil {
		return nil, fmt.Errorf("remove member %s: %w", id.Short(), err)
	}
	if lost == r && r.IsBanned(id) && slices.Equal(next.Moves, r.Moves) && slices.Equal(next.Keepers, r.Keepers) {
		return r, nil
	}
	return next.checked(r)
}

// WithSuccessor makes the record in which m, active and with the weight of old, is
// to get every slot of old, as far as the bounds of Plan allow; old is leaving, or
// remains Lost, and is banned then: nobody else is to take its place. M is a newcomer or on standby. The slots are moved, unlike with
// WithReplacement: m counts only for what it has pulled.
func (r *Record) WithSuccessor(old NodeID, m Member) (*Record, error) {
	fail := func(err error) (*Record, error) {
		return nil, fmt.Errorf("replace member %s by %s: %w", old.Short(), m.ID.Short(), err)
	}
	was, is := r.Member(old), r.Member(m.ID)
	switch {
	case was == nil:
		return fail(fmt.Errorf("%s is not a member", old.Short()))
	case r.HomeCount(old) == 0:
		return fail(fmt.Errorf("%s is home of nothing: there is nothing to take", old.Short()))
	case is != nil && is.State != Standby:
		return fail(fmt.Errorf("%w, and %v", ErrKnown, is.State))
	}
	m.Weight = was.Weight
	members, err := r.withMember(m, Active)
	if err != nil {
		return fail(err)
	}
	for i := range members {
		if members[i].ID == old && members[i].State != Lost {
			members[i].State = Leaving
		}
	}
	return r.changed(fmt.Sprintf("replace member %s by %s", old.Short(), m.ID.Short()), members, map[NodeID]NodeID{old: m.ID})
}

// WithWeight makes the record in which a member has another weight, 1 or more. It
// is r itself if the member has it already.
func (r *Record) WithWeight(id NodeID, weight uint16) (*Record, error) {
	members := slices.Clone(r.Members)
	is := r.index(id)
	if is < 0 {
		return nil, fmt.Errorf("weight of member %s: it is not a member", id.Short())
	}
	if members[is].Weight == weight {
		return r, nil
	}
	members[is].Weight = weight
	return r.changed("weight of member "+id.Short(), members, nil)
}

// WithoutMember makes the record in which somebody who has nothing any more is no
// member, and banned: an ID never comes back. Who has slots, or is an end of a
// move, is refused, and so are the last active members.
func (r *Record) WithoutMember(id NodeID) (*Record, error) {
	fail := func(format string, args ...any) (*Record, error) {
		return nil, fmt.Errorf("take out member %s: "+format, append([]any{id.Short()}, args...)...)
	}
	if r.index(id) < 0 {
		return fail("it is not a member")
	}
	if n := r.HomeCount(id); n > 0 {
		return fail("it still has %d slots", n)
	}
	for i := range r.Moves {
		if m := &r.Moves[i]; m.names(id) {
			return fail("%v must end first", m)
		}
	}
	next := r.successor()
	next.setMembers(r, slices.DeleteFunc(slices.Clone(r.Members), func(m Member) bool { return m.ID == id }))
	next.ban(id)
	return next.checked(r)
}

// ban notes in an unsealed record that an ID never comes back.
func (r *Record) ban(id NodeID) {
	if at, found := slices.BinarySearchFunc(r.Banned, id, NodeID.Compare); !found {
		r.Banned = slices.Insert(r.Banned, at, id)
	}
}

// withMember are the members with m among them, in a state.
func (r *Record) withMember(m Member, state MemberState) ([]Member, error) {
	if r.IsBanned(m.ID) {
		return nil, ErrBanned
	}
	members := slices.Clone(r.Members)
	at := r.index(m.ID)
	if at < 0 {
		members = append(members, m.prepared(state))
		sortMembers(members)
		return members, nil
	}
	if members[at].State == Lost {
		return nil, fmt.Errorf("%w, and %v", ErrKnown, Lost)
	}
	if m.Weight == 0 {
		m.Weight = members[at].Weight
	}
	members[at] = m.prepared(state)
	return members, nil
}

// changed is the record after r with other members, and the moves that they ask for
// in the queue. Heirs get the slots of somebody who is not active any more.
func (r *Record) changed(what string, members []Member, heirs map[NodeID]NodeID) (*Record, error) {
	if !r.Founded() {
		return nil, fmt.Errorf("%s: the cluster is not founded yet", what)
	}
	next := r.successor()
	next.setMembers(r, members)
	if err := next.keptByNobody(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	for old := range heirs {
		if next.isLost(old) {
			next.ban(old)
		}
	}
	if err := next.requeue(heirs); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return next.checked(r)
}

// setMembers gives an unsealed successor of prev other members, sorted, among whom
// are all homes, and the keepers chosen among them.
func (r *Record) setMembers(prev *Record, members []Member) {
	r.Members = members
	for i, home := range prev.table {
		r.table[i] = uint16(r.index(prev.Members[home].ID))
	}
	r.Keepers = chooseKeepers(r.electable(), prev.Keepers)
}
