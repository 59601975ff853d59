package ring

import (
	"cmp"
	"fmt"
	"slices"
)

// The queue of moves is part of the record, so that it is the same for everybody
// and outlives whoever planned it. Only the next move of each partition stands in
// it; those after it are planned again when that one is done.

// WithQueue makes the record in which the queue is what Plan asks for: who would be
// moved in vain is taken out, who is missing is put in. It is r itself if nothing
// is to be changed. Moves under way stay as they are: see Unwanted.
func (r *Record) WithQueue() (*Record, error) {
	if !r.Founded() {
		return r, nil
	}
	next := r.successor()
	if err := next.requeue(nil); err != nil {
		return nil, fmt.Errorf("queue moves: %w", err)
	}
	if slices.Equal(next.Moves, r.Moves) {
		return r, nil
	}
	return next.checked(r)
}

// WithMoves makes the record in which these moves are queued, one for a partition,
// in the place of those that were. Only partition, slot and target are looked at.
func (r *Record) WithMoves(moves []Move) (*Record, error) {
	next := r.successor()
	for _, m := range moves {
		if int(m.Partition) >= r.Partitions || int(m.Slot) >= r.Replicas || !r.Founded() {
			return nil, fmt.Errorf("queue a move of partition %d slot %d: no such slot", m.Partition, m.Slot)
		}
		m.From, m.Phase = r.Homes(m.Partition)[m.Slot], PhasePlan
		at, found := next.moveAt(m.Partition)
		switch {
		case !found:
			next.Moves = slices.Insert(next.Moves, at, m)
		case next.Moves[at].Phase == PhasePlan:
			next.Moves[at] = m
		default:
			return nil, fmt.Errorf("queue %v: the partition has one under way", &m)
		}
	}
	return next.checked(r)
}

// requeue makes the queue of an unsealed record what its plan asks for. The queue
// that stands is kept, and heirs get what they are to have, as far as nothing shorter
// would do: what an operator has taken back is not moved.
func (r *Record) requeue(heirs map[NodeID]NodeID) error {
	queued := r.Moves
	r.seal()
	plan, err := r.plan(r.Members, r.Replicas, heirs)
	if err != nil {
		return err
	}
	r.Moves = slices.DeleteFunc(slices.Clone(queued), func(m Move) bool { return m.Phase == PhasePlan })
	if len(r.Moves) < len(queued) || heirs != nil {
		anew, err := r.plan(r.Members, r.Replicas, nil)
		if err != nil {
			return err
		}
		if r.newHomes(anew) < r.newHomes(plan) {
			plan, queued = anew, r.Moves
		}
	}
	r.Moves = queued
	queue := map[Partition][]Move{} // what may come next, by partition
	for _, m := range plan.Moves {
		if r.HomeIndex(m.Partition, m.To) < 0 {
			queue[m.Partition] = append(queue[m.Partition], m)
		}
	}
	var moves []Move
	for i := range r.Moves {
		m := r.Moves[i]
		if m.Phase == PhasePlan && plan.home(m.Partition, m.Slot) != m.To {
			continue
		}
		moves = append(moves, m)
		delete(queue, m.Partition)
	}
	for _, choice := range queue {
		moves = append(moves, slices.MinFunc(choice, func(a, b Move) int { return r.compareNext(&a, &b) }))
	}
	slices.SortFunc(moves, func(a, b Move) int { return cmp.Compare(a.Partition, b.Partition) })
	r.Moves = moves
	return nil
}

// newHomes counts the slots that a plan gives to somebody who neither has them nor
// is about to get them.
func (r *Record) newHomes(plan *Plan) (n int) {
	for p := range Partition(r.Partitions) {
		row := slices.Clone(r.Homes(p))
		if m := r.MoveOf(p); m != nil && m.Phase != PhaseBack {
			row[m.Slot] = m.To
		}
		for s := range plan.Replicas {
			if !slices.Contains(row, plan.home(p, uint8(s))) {
				n++
			}
		}
	}
	return n
}

func (p *Plan) home(partition Partition, slot uint8) NodeID {
	return p.Members[p.table[int(partition)*p.Replicas+int(slot)]].ID
}

// compareNext orders the moves of one partition by which comes first: the one of a
// lost home, then the one that leaves fewer homes in one zone together, then that
// of a leaving home.
func (r *Record) compareNext(a, b *Move) int {
	lostFirst := func(m *Move) int { return min(r.urgency(m), 1) }
	return cmp.Or(
		cmp.Compare(lostFirst(a), lostFirst(b)),
		cmp.Compare(r.crowd(a), r.crowd(b)),
		cmp.Compare(r.urgency(a), r.urgency(b)),
		cmp.Compare(a.Slot, b.Slot))
}

// urgency is 0 for a move from a lost home, 1 for one from a leaving or retreating
// home, 2 for others.
func (r *Record) urgency(m *Move) int {
	switch r.Member(m.From).State {
	case Lost:
		return 0
	case Leaving, Retreating:
		return 1
	}
	return 2
}

// crowd counts the pairs of homes that share a zone once the move is done.
func (r *Record) crowd(m *Move) (pairs int) {
	homes := slices.Clone(r.Homes(m.Partition))
	homes[m.Slot] = m.To
	for i, a := range homes {
		for _, b := range homes[:i] {
			if r.Member(a).Zone == r.Member(b).Zone {
				pairs++
			}
		}
	}
	return pairs
}

// Unwanted says that a move under way should be turned back: its target is not to
// have slots any more. From a lost home it goes on, because the copy that is being
// made may be needed.
func (r *Record) Unwanted(m *Move) bool {
	return r.Member(m.To).State != Active && !r.isLost(m.From)
}

// Pace bounds how many moves are under way at once. A bound of 0 is none.
type Pace struct {
	// In and Out are moves to one member, and from one.
	In, Out int
	// All are those of the whole cluster.
	All int
}

// Startable are the partitions whose queued moves may begin within a pace, in the
// order in which they should: those of lost homes first, then of leaving ones, then
// spread over the partitions by chance. A move that was turned back counts as under
// way until its end. The pace has no role in safety.
func (r *Record) Startable(pace Pace) []Partition {
	in, out, all := map[NodeID]int{}, map[NodeID]int{}, 0
	var queue []*Move
	for i := range r.Moves {
		m := &r.Moves[i]
		if m.Phase == PhasePlan {
			queue = append(queue, m)
			continue
		}
		in[m.To]++
		out[m.From]++
		all++
	}
	slices.SortFunc(queue, func(a, b *Move) int {
		return cmp.Or(
			cmp.Compare(r.urgency(a), r.urgency(b)),
			cmp.Compare(chance(a.Partition, a.To), chance(b.Partition, b.To)),
			cmp.Compare(a.Partition, b.Partition))
	})
	free := func(n, bound int) bool { return bound == 0 || n < bound }
	var start []Partition
	for _, m := range queue {
		if free(in[m.To], pace.In) && free(out[m.From], pace.Out) && free(all, pace.All) {
			in[m.To]++
			out[m.From]++
			all++
			start = append(start, m.Partition)
		}
	}
	return start
}
