package mover

import (
	"context"
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
)

const (
	// queueEvery is the least time between two looks at the queue while there is
	// one: each plans the whole table anew. In a large cluster that takes long,
	// and the time between is queuePart of it. queueLater is that while nobody has
	// come or gone and enough moves are queued for some time.
	queueEvery = time.Second
	queuePart  = 20
	queueLater = 5 * time.Second
)

// duties does what is nobody's move: members that have nothing any more go, and the
// queue is kept up. It says when to come back.
func (m *Mover) duties(ctx context.Context, r *ring.Record) time.Duration {
	if wait := m.holdOff(); wait > 0 {
		return wait
	}
	if r.Member(m.cfg.Self).State == ring.Leaving && hasNothing(r, m.cfg.Self) {
		return m.leave(ctx)
	}
	if m.steward(r) != m.cfg.Self {
		return idleMax
	}
	for i := range r.Members {
		is := &r.Members[i]
		if !hasNothing(r, is.ID) {
			continue
		}
		switch is.State {
		case ring.Lost:
			return m.end(ctx, "a lost member has nothing any more and is taken out", is.ID, ring.Lost, (*ring.Record).WithoutMember)
		case ring.Retreating:
			return m.end(ctx, "a member has handed back what it had and is on standby", is.ID, ring.Retreating, (*ring.Record).WithRest)
		}
	}
	return m.queue(ctx, r)
}

// end has what was begun for a member ended, if it is in that state and has nothing.
func (m *Mover) end(ctx context.Context, what string, id ring.NodeID, state ring.MemberState, with func(*ring.Record, ring.NodeID) (*ring.Record, error)) time.Duration {
	m.propose(ctx, what, func(r *ring.Record) (*ring.Record, error) {
		if is := r.Member(id); is == nil || is.State != state || !hasNothing(r, id) {
			return nil, errNothing
		}
		return with(r, id)
	})
	return idleMax // the new record wakes the loop
}

// steward is the member whose part the duties are: the first active one that is
// there. Two who hold themselves for it disturb nothing.
func (m *Mover) steward(r *ring.Record) ring.NodeID {
	for i := range r.Members {
		if is := &r.Members[i]; is.State == ring.Active && (is.ID == m.cfg.Self || !m.cfg.Absent(is.ID)) {
			return is.ID
		}
	}
	return ring.NodeID{}
}

// hasNothing says that a member has no slots, and gets or gives none.
func hasNothing(r *ring.Record, id ring.NodeID) bool {
	return r.HomeCount(id) == 0 && !slices.ContainsFunc(r.Moves, func(move ring.Move) bool { return move.From == id || move.To == id })
}

// leave takes this member out, which has handed over its slots: only it knows that
// nobody needs anything of it any more.
func (m *Mover) leave(ctx context.Context) time.Duration {
	why := m.cfg.Owes(ctx)
	m.say(why)
	if why != "" {
		return lookMax
	}
	return m.end(ctx, "this member has handed over all it had and goes", m.cfg.Self, ring.Leaving, (*ring.Record).WithoutMember)
}

// queue has the record ask for what is missing between the table and the plan.
func (m *Mover) queue(ctx context.Context, r *ring.Record) time.Duration {
	if r.Digest() == m.settled {
		return idleMax
	}
	left := 0
	for i := range r.Moves {
		if r.Moves[i].Phase == ring.PhasePlan {
			left++
		}
	}
	every := max(queueEvery, queuePart*m.planning)
	if most := m.cfg.Pace.In; most > 0 && left > 2*most && slices.Equal(r.Members, m.members) {
		every = max(every, queueLater)
	}
	if since := time.Since(m.queued); left > 0 && since < every {
		return every - since
	}
	m.queued = time.Now()
	looked := r
	m.propose(ctx, "slots are to be moved", func(r *ring.Record) (*ring.Record, error) {
		looked, m.members = r, r.Members
		begun := time.Now()
		next, err := r.WithQueue()
		m.planning = time.Since(begun)
		if err != nil {
			// Too few active members: that is for an operator to change.
			m.cfg.Logger.Debug("the queue of moves cannot be planned", "error", err)
			return nil, errNothing
		}
		if next == r {
			return nil, errNothing
		}
		return next, nil
	})
	if m.denied.count == 0 {
		m.settled = looked.Digest()
	}
	return idleMax
}
