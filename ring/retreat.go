package ring

import "fmt"

// WithRetreat makes the record in which the joining of a member is taken back: it
// hands the slots that it has got to the others, who must be at least as many as the
// replicas, and is on standby once it has none; see WithRest. If it has got none, and
// no move to it is under way, it is on standby in this record. It is r itself if that
// stands already.
func (r *Record) WithRetreat(id NodeID) (*Record, error) {
	is := r.index(id)
	if is < 0 {
		return nil, fmt.Errorf("retreat of member %s: it is not a member", id.Short())
	}
	state := Retreating
	switch r.Members[is].State {
	case Lost:
		return nil, fmt.Errorf("retreat of member %s: it is lost", id.Short())
	case Standby, Retreating:
		return r, nil
	}
	if !r.engaged(id) {
		state = Standby
	}
	members := append([]Member(nil), r.Members...)
	members[is].State = state
	return r.changed("retreat of member "+id.Short(), members, nil)
}

// WithRest makes the record in which a retreating member, which has nothing any more,
// is on standby. It is r itself if it is on standby already.
func (r *Record) WithRest(id NodeID) (*Record, error) {
	is := r.index(id)
	switch {
	case is < 0:
		return nil, fmt.Errorf("rest of member %s: it is not a member", id.Short())
	case r.Members[is].State == Standby:
		return r, nil
	case r.Members[is].State != Retreating:
		return nil, fmt.Errorf("rest of member %s: it is %v", id.Short(), r.Members[is].State)
	case r.engaged(id):
		return nil, fmt.Errorf("rest of member %s: it still has %d slots, or moves under way", id.Short(), r.HomeCount(id))
	}
	next := r.successor()
	next.Members[is].State = Standby
	next.Keepers = chooseKeepers(next.electable(), r.Keepers)
	return next.checked(r)
}

// engaged says that a member has slots, or is an end of a move under way.
func (r *Record) engaged(id NodeID) bool {
	if r.HomeCount(id) > 0 {
		return true
	}
	for i := range r.Moves {
		if m := &r.Moves[i]; m.Phase > PhasePlan && m.names(id) {
			return true
		}
	}
	return false
}
