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
// moved in vain is taken out, who is missing is put in. Slots of a lost member whose
// place somebody may take stay where they are, and all others go on. It is r itself if nothing
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
// in the place of those that were. Only partition, slot and target are looked at: while
// the number of homes is changed, the slot behind the last is a new one, and without a
// target one is taken away.
func (r *Record) WithMoves(moves []Move) (*Record, error) {
	next := r.successor()
	for _, m := range moves {
		homes := r.Homes(m.Partition)
		if grows := r.Before != 0 && int(m.Slot) == len(homes); grows && len(homes) > 0 {
			m.From = NodeID{}
		} else if int(m.Slot) < len(homes) {
			m.From = homes[m.Slot]
		} else {
			return nil, fmt.Errorf("queue a move of partition %d slot %d: no such slot", m.Partition, m.Slot)
		}
		m.Phase = PhasePlan
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
		if r.width(int(m.Partition)) == plan.Replicas && r.HomeIndex(m.Partition, m.To) < 0 {
			queue[m.Partition] = append(queue[m.Partition], m)
		}
	}
	for p := range Partition(r.Partitions) {
		if moves := r.movesOf(p, plan); r.width(int(p)) != plan.Replicas && len(moves) > 0 {
			queue[p] = moves
		}
	}
	var moves []Move
	for i := range r.Moves {
		m := r.Moves[i]
		if m.Phase == PhasePlan && (r.awaitsHeir(m.From) || !r.leadsTo(&m, plan)) {
			continue
		}
		moves = append(moves, m)
		delete(queue, m.Partition)
	}
	for _, choice := range queue {
		choice = slices.DeleteFunc(choice, func(m Move) bool { return r.awaitsHeir(m.From) })
		if len(choice) == 0 {
			continue
		}
		moves = append(moves, slices.MinFunc(choice, func(a, b Move) int { return r.compareNext(&a, &b) }))
	}
	slices.SortFunc(moves, func(a, b Move) int { return cmp.Compare(a.Partition, b.Partition) })
	r.Moves = moves
	return nil
}

// movesOf lists the moves that may come next for a partition that has another number
// of homes than the plan gives it: who goes and who comes, in pairs as far as that goes;
// of who is left over, slots are taken away or added.
func (r *Record) movesOf(p Partition, plan *Plan) (moves []Move) {
	now, then := r.Homes(p), plan.Homes(p)
	come := slices.DeleteFunc(slices.Clone(then), func(id NodeID) bool { return slices.Contains(now, id) })
	going := len(now) - (len(then) - len(come))
	for s, id := range now {
		if slices.Contains(then, id) {
			continue
		}
		m := Move{Partition: p, Slot: uint8(s), From: id, Phase: PhasePlan}
		if going > len(come) { // any of them may be the one whose slot is taken away
			moves = append(moves, m)
		}
		if len(come) > 0 {
			m.To = come[min(len(moves), len(come)-1)]
			moves = append(moves, m)
		}
	}
	for _, id := range come {
		if going < len(come) {
			moves = append(moves, Move{Partition: p, Slot: uint8(len(now)), To: id, Phase: PhasePlan})
		}
	}
	return moves
}

// newHomes counts the slots that a plan gives to somebody who neither has them nor
// is about to get them.
func (r *Record) newHomes(plan *Plan) (n int) {
	for p := range Partition(r.Partitions) {
		row := r.Homes(p)
		if m := r.MoveOf(p); m != nil && r.comes(m) {
			row = m.rowAfter(row)
		}
		for s := range plan.Replicas {
			if !slices.Contains(row, plan.home(p, uint8(s))) {
				n++
			}
		}
	}
	return n
}

// comes says that a plan takes a move as done: it is not turned back, nor does it make
// a number of homes that is not wanted any more.
func (r *Record) comes(m *Move) bool {
	return m.Phase != PhaseBack && !(m.resizes() && !r.wantsResize(m))
}

// leadsTo says that a move in the queue is one on the way to a plan.
func (r *Record) leadsTo(m *Move, plan *Plan) bool {
	if !m.resizes() && r.width(int(m.Partition)) == plan.Replicas {
		return plan.home(m.Partition, m.Slot) == m.To
	}
	if m.Shrinks() && !r.isLost(m.From) && slices.ContainsFunc(r.Homes(m.Partition), r.isLost) {
		return false // a lost one goes first
	}
	then := plan.Homes(m.Partition)
	return r.comes(m) && (m.Shrinks() || slices.Contains(then, m.To)) && (m.Grows() || !slices.Contains(then, m.From))
}

func (p *Plan) home(partition Partition, slot uint8) NodeID {
	return p.Members[p.table[int(partition)*p.Replicas+int(slot)]].ID
}

// compareNext orders the moves of one partition by which comes first: the one of a
// lost home, then one that changes the number of homes, then the one that leaves fewer
// homes in one zone together, then that of a leaving home.
func (r *Record) compareNext(a, b *Move) int {
	lostFirst := func(m *Move) int { return min(r.urgency(m), 1) }
	sizeFirst := func(m *Move) int {
		if m.resizes() {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(lostFirst(a), lostFirst(b)),
		cmp.Compare(sizeFirst(a), sizeFirst(b)),
		cmp.Compare(r.crowd(a), r.crowd(b)),
		cmp.Compare(r.urgency(a), r.urgency(b)),
		cmp.Compare(a.Slot, b.Slot))
}

// urgency is 0 for a move from a lost home, 1 for one from a leaving or retreating
// home, 2 for others.
func (r *Record) urgency(m *Move) int {
	if m.Grows() {
		return 2
	}
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
	homes := m.rowAfter(r.Homes(m.Partition))
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
// have slots any more, or the partition is to have another number of homes than the
// move leads to. From a lost home it goes on, because the copy that is being made may be
// needed; if its target is lost, too, there is none, and it ends before it has answered
// reads.
func (r *Record) Unwanted(m *Move) bool {
	switch {
	case m.resizes() && !r.wantsResize(m):
		return true
	case m.Shrinks():
		return false
	case m.Grows():
		return r.Member(m.To).State != Active
	}
	vain := r.isLost(m.To) && m.Phase <= PhaseDual
	return r.Member(m.To).State != Active && (vain || !r.isLost(m.From))
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
	begin := func(m *Move) {
		if !m.Shrinks() {
			in[m.To]++
		}
		if !m.Grows() {
			out[m.From]++
		}
		all++
	}
	type queued struct {
		*Move
		urgency int
		chance  uint64
	}
	var queue []queued
	for i := range r.Moves {
		m := &r.Moves[i]
		if m.Phase == PhasePlan {
			if !r.awaitsHeir(m.From) {
				queue = append(queue, queued{m, r.urgency(m), chance(m.Partition, m.To)})
			}
			continue
		}
		begin(m)
	}
	slices.SortFunc(queue, func(a, b queued) int {
		return cmp.Or(cmp.Compare(a.urgency, b.urgency), cmp.Compare(a.chance, b.chance), cmp.Compare(a.Partition, b.Partition))
	})
	free := func(n, bound int) bool { return bound == 0 || n < bound }
	var start []Partition
	for _, q := range queue {
		m := q.Move
		if free(in[m.To], pace.In) && free(out[m.From], pace.Out) && free(all, pace.All) {
			begin(m)
			start = append(start, m.Partition)
		}
	}
	return start
}
