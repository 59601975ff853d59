package node

import (
	"fmt"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// To abort is to wish the opposite: who was to leave stays, who was joining is on
// standby again. Moves that are not begun go with the wish; those under way are turned
// back, or are made and then made again the other way, whichever the record asks for.

// abort is the wish that what was begun for one member is taken back.
func abort(r *ring.Record, id ring.NodeID) (wish, error) {
	m := r.Member(id)
	switch {
	case m.State == ring.Leaving, m.State == ring.Retreating:
		return stay(id), nil
	case m.State == ring.Lost:
		return nil, refused("%s was given up as lost: that cannot be taken back, because others count without it since; start it with an empty data directory", label(r, id))
	case m.State == ring.Active && isJoining(r, id):
		return retreat(id), nil
	}
	return nil, refused("nothing is begun for %s that could be taken back: it is %v, and neither leaves nor joins. A weight is set back with kith weight; what it has got already goes with kith leave", label(r, id), m.State)
}

// aborts are the wishes that all that was begun is taken back, as far as it can be.
func aborts(r *ring.Record) (all []wish, err error) {
	if w := fewerOrMore(r); w != nil {
		all = append(all, w)
	}
	for i := range r.Members {
		switch m := &r.Members[i]; {
		case m.State == ring.Leaving, m.State == ring.Retreating:
			all = append(all, stay(m.ID))
		case m.State == ring.Active && isJoining(r, m.ID):
			all = append(all, retreat(m.ID))
		}
	}
	if len(all) == 0 && len(r.Moves) > 0 && r.Before == 0 {
		return nil, refused("nobody leaves or joins: the %d moves come of another weight, which kith weight sets back, or of a member that was given up as lost", len(r.Moves))
	}
	return all, nil
}

// isJoining says that an active member has got less than half of its share yet, and that
// members who stay hand slots to it.
func isJoining(r *ring.Record, id ring.NodeID) bool {
	gets := false
	for i := range r.Moves {
		move := &r.Moves[i]
		gets = gets || move.To == id && !move.Grows() && r.Member(move.From).State == ring.Active
	}
	if !gets {
		return false
	}
	for _, b := range r.Balance() {
		if b.Member.ID == id {
			return 2*float64(b.Homes) < b.Share
		}
	}
	return false
}

// stay is the wish that somebody who was to go has a share.
func stay(id ring.NodeID) wish {
	return func(r *ring.Record) (*ring.Record, error) {
		m := r.Member(id)
		switch {
		case m == nil:
			return nil, refused("%s has left already", id.Short())
		case m.State == ring.Lost:
			return nil, refused("%s was given up as lost", label(r, id))
		case m.State == ring.Standby:
			return r, nil // it has gone all the way back
		}
		return r.WithJoin(*m)
	}
}

// retreat is the wish that somebody who was joining has no share.
func retreat(id ring.NodeID) wish {
	return func(r *ring.Record) (*ring.Record, error) {
		if r.Member(id) == nil {
			return nil, refused("%s is no member any more", id.Short())
		}
		if err := spare(r, id); err != nil {
			return nil, err
		}
		return r.WithRetreat(id)
	}
}

// planned applies a request to a record without having it decided.
func (n *Node) planned(r *ring.Record, req *api.ChangeRequest) (*ring.Record, error) {
	wishes, err := n.wishes(r, req)
	if err != nil {
		return nil, err
	}
	for _, w := range wishes {
		next, err := w(r)
		if err != nil {
			return nil, outcome(&refusal{err}, false)
		}
		r = next
	}
	if r == nil {
		return nil, fmt.Errorf("%w: there is no ring record", api.ErrNotReady)
	}
	return r, nil
}
