package ring

import (
	"cmp"
	"fmt"
	"slices"
)

// Plan is the table to which a record should move, and the moves on the way.
type Plan struct {
	// Members are those that were planned for, sorted by ID.
	Members  []Member
	Replicas int
	// Moves are the slots whose home changes, sorted by partition and slot,
	// all in PhasePlan. From is zero for a slot that has no home yet, To for
	// one that ends. A slot that the record already moves to its planned
	// home is not among them. One partition may have several: a record takes
	// them one after the other.
	Moves []Move

	table []uint16 // partition*Replicas+slot -> index in Members
}

// Homes are the partition's planned homes by slot. The slice is the caller's.
func (p *Plan) Homes(partition Partition) []NodeID {
	homes := make([]NodeID, p.Replicas)
	for s := range homes {
		homes[s] = p.Members[p.table[int(partition)*p.Replicas+s]].ID
	}
	return homes
}

// Plan gives the table for the members and a number of homes per partition. Only
// active members are given slots; who leaves, stands by or is gone keeps none.
// It is the same for the same record and members, in whatever order these come.
//
// All of this holds for every plan:
//   - The homes of a partition are distinct.
//   - In every partition the zones are as even as their sizes allow: with K the
//     least number such that sum(min(size, K)) over the zones is at least
//     replicas, a zone has K or K-1 homes, or all its members if those are fewer.
//   - Every load is the member's fair share, rounded up or down. The share is
//     Q*replicas*w/sum(w) unless a bound forbids: nobody holds more than Q slots,
//     no zone less or more than the rule above gives it; what is cut off or
//     added there is taken or given by the others in proportion to their weights.
//   - No table that keeps these three changes fewer homes than the planned one.
//     Moves under way count as done, those in PhaseBack as undone.
//
// While zones do not bind and weights are equal, a join so moves the newcomer's
// share, at most ceil(Q*replicas/members), and a leave exactly the leaver's
// slots. The tests find no exception from 8 partitions on; in smaller tables
// distinct homes may ask for a slot more. With unequal weights it may be more as
// well: where somebody's share comes near Q, and where rounding turns, since no
// rule of rounding both stays within one slot of the shares and never takes from
// those who stay (Balinski and Young).
//
// The time is well below 100 ms for 200 members of 1,024 partitions, and some
// seconds for 1,000 members of 16,384 partitions with 7 homes each.
func (r *Record) Plan(members []Member, replicas int) (*Plan, error) {
	return r.plan(members, replicas, nil)
}

// plan is Plan in which an heir counts as home where somebody was who is not active
// any more. An heir has no slots of its own.
func (r *Record) plan(members []Member, replicas int, heirs map[NodeID]NodeID) (*Plan, error) {
	sorted := slices.Clone(members)
	sortMembers(sorted)
	if err := plannable(sorted, replicas); err != nil {
		return nil, err
	}
	active := slices.DeleteFunc(slices.Clone(sorted), func(m Member) bool { return m.State != Active })
	if len(active) < replicas {
		return nil, fmt.Errorf("%d replicas need at least as many active members, got %d", replicas, len(active))
	}
	places := make([]uint16, 0, len(active)) // of the active in sorted
	for i := range sorted {
		if sorted[i].State == Active {
			places = append(places, uint16(i))
		}
	}
	before := r.slotsFor(active, heirs)
	gs := groups(active, replicas)
	f := newFlow(r.Partitions, replicas, gs, fairShares(active, gs, r.Partitions, replicas), compact(before))
	f.solve()

	plan := &Plan{Members: sorted, Replicas: replicas, table: make([]uint16, r.Partitions*replicas)}
	for i, m := range seat(f, before) {
		plan.table[i] = places[m]
	}
	plan.Moves = r.movesTo(plan)
	return plan, nil
}

// plannable checks what a plan cannot do without.
func plannable(members []Member, replicas int) error {
	if replicas < 1 || replicas > ReplicasMax {
		return fmt.Errorf("%d replicas, want 1 to %d", replicas, ReplicasMax)
	}
	if len(members) > MembersMax {
		return fmt.Errorf("%d members, at most %d", len(members), MembersMax)
	}
	for i := range members {
		if err := members[i].validate(); err != nil {
			return err
		}
		if i > 0 && members[i-1].ID == members[i].ID {
			return fmt.Errorf("member %s is twice there", members[i].ID.Short())
		}
	}
	return nil
}

// slotsFor gives, for each partition, the index among the active members of
// each slot's home, or of its heir, -1 where it is none of them. Moves under way
// count as done.
func (r *Record) slotsFor(active []Member, heirs map[NodeID]NodeID) [][]int32 {
	index := func(id NodeID) int32 {
		i, found := slices.BinarySearchFunc(active, id, func(m Member, id NodeID) int { return m.ID.Compare(id) })
		if !found {
			return -1
		}
		return int32(i)
	}
	slots := make([][]int32, r.Partitions)
	for p := range slots {
		for _, id := range r.Homes(Partition(p)) {
			if heir, ok := heirs[id]; ok {
				id = heir
			}
			slots[p] = append(slots[p], index(id))
		}
	}
	for i := range r.Moves {
		m := &r.Moves[i]
		switch to := index(m.To); {
		case !r.comes(m):
		case m.Shrinks():
			slots[m.Partition][m.Slot] = -1
		case to < 0:
		case m.Grows():
			slots[m.Partition] = append(slots[m.Partition], to)
		default:
			slots[m.Partition][m.Slot] = to
		}
	}
	return slots
}

// compact leaves out the slots without a home.
func compact(slots [][]int32) [][]int32 {
	rows := make([][]int32, len(slots))
	for p := range slots {
		for _, m := range slots[p] {
			if m >= 0 {
				rows[p] = append(rows[p], m)
			}
		}
	}
	return rows
}

// seat gives the homes their slots: who was home of the partition keeps its
// slot, the others take those that are free. For each of them the one that has
// the slot least often comes first, so that every member is first home of about
// its part of the partitions.
func seat(f *flow, before [][]int32) []uint16 {
	table := make([]uint16, f.q*f.n)
	seated := make([][]int32, f.n) // by slot and member: how often
	for s := range seated {
		seated[s] = make([]int32, len(f.in))
	}
	var free []int32 // homes of the row that have no slot yet
	for p, homes := range f.rows {
		free = append(free[:0], homes...)
		slices.Sort(free)
		row := slices.Repeat([]int32{-1}, f.n)
		for s, m := range before[p] {
			if s < f.n && slices.Contains(free, m) {
				row[s] = m
				free = slices.DeleteFunc(free, func(x int32) bool { return x == m })
			}
		}
		for s := range row {
			if row[s] < 0 {
				row[s] = slices.MinFunc(free, func(a, b int32) int {
					return cmp.Or(
						cmp.Compare(int64(seated[s][a])*int64(f.ceil[b]), int64(seated[s][b])*int64(f.ceil[a])),
						cmp.Compare(scramble(uint64(p)<<32|uint64(a)), scramble(uint64(p)<<32|uint64(b))))
				})
				free = slices.DeleteFunc(free, func(x int32) bool { return x == row[s] })
			}
			seated[s][row[s]]++
			table[p*f.n+s] = uint16(row[s])
		}
	}
	return table
}

// movesTo lists the slots whose home is another one in the plan.
func (r *Record) movesTo(plan *Plan) []Move {
	var moves []Move
	for p := range r.Partitions {
		now, then := r.Homes(Partition(p)), plan.Homes(Partition(p))
		for s := range max(len(now), len(then)) {
			m := Move{Partition: Partition(p), Slot: uint8(s), Phase: PhasePlan}
			if s < len(now) {
				m.From = now[s]
			}
			if s < len(then) {
				m.To = then[s]
			}
			if under := r.MoveOf(m.Partition); m.From == m.To || under != nil && under.Phase != PhaseBack && under.sameSlot(&m) {
				continue
			}
			moves = append(moves, m)
		}
	}
	return moves
}
