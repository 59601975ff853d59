package ring

import (
	"fmt"
	"slices"
)

// The number of homes changes slot by slot. A record says how many each partition is
// to have; a move without From adds a slot where there are fewer, one without To takes
// one away where there are more. Meanwhile partitions have different numbers of homes,
// and requests ask each for a quorum of its own: see package quorum.

// WithReplicas makes the record in which every partition is to have n homes, 1 to
// ReplicasMax, for which there must be as many active members; the moves to which that
// leads are queued, and those under way that lead elsewhere are Unwanted. It is r
// itself if n is what it wants already.
func (r *Record) WithReplicas(n int) (*Record, error) {
	fail := func(err error) (*Record, error) { return nil, fmt.Errorf("%d replicas: %w", n, err) }
	switch {
	case n < 1 || n > ReplicasMax:
		return fail(fmt.Errorf("want 1 to %d", ReplicasMax))
	case !r.Founded():
		return fail(fmt.Errorf("the cluster is not founded yet"))
	case n == r.Replicas:
		return r, nil
	}
	next := r.successor()
	next.loosen()
	next.Replicas = n
	if err := next.requeue(nil); err != nil {
		return fail(err)
	}
	return next.checked(r)
}

// Uneven is how many partitions have another number of homes than the record's
// Replicas.
func (r *Record) Uneven() (n int) {
	if r.starts == nil || !r.Founded() {
		return 0
	}
	for p := range r.Partitions {
		if r.width(p) != r.Replicas {
			n++
		}
	}
	return n
}

// span is where the partition's homes are in the table.
func (r *Record) span(p int) (from, to int) {
	if r.starts == nil {
		return p * r.Replicas, (p + 1) * r.Replicas
	}
	return int(r.starts[p]), int(r.starts[p+1])
}

// width is how many homes a partition has.
func (r *Record) width(p int) int {
	from, to := r.span(p)
	return to - from
}

// row has the partition's homes by index. The record has a table.
func (r *Record) row(p int) []uint16 {
	from, to := r.span(p)
	return r.table[from:to]
}

// loosen lets the partitions of an unsealed record have different numbers of homes.
func (r *Record) loosen() {
	if r.starts != nil {
		return
	}
	starts := make([]int32, r.Partitions+1)
	for p := range starts {
		starts[p] = int32(p * r.Replicas)
	}
	r.starts = starts
}

// resize has an unsealed record's table as it is after these moves, each of which adds
// a slot or takes one away.
func (r *Record) resize(done map[Partition]*Move) {
	if len(done) == 0 {
		return
	}
	table, starts := make([]uint16, 0, len(r.table)+len(done)), make([]int32, 1, r.Partitions+1)
	for p := range r.Partitions {
		row := r.row(p)
		switch m := done[Partition(p)]; {
		case m == nil:
			table = append(table, row...)
		case m.Grows():
			table = append(append(table, row...), uint16(r.index(m.To)))
		default:
			table = append(append(table, row[:m.Slot]...), row[m.Slot+1:]...)
		}
		starts = append(starts, int32(len(table)))
	}
	r.table, r.starts = table, starts
}

// settledFrom is the number of replicas to which an abort goes back.
func (r *Record) settledFrom() int {
	if r.Before != 0 {
		return r.Before
	}
	return r.Replicas
}

// settle ends the change of the number of homes once nothing is left of it, or notes
// that there is one. The record is an unsealed successor of prev.
func (r *Record) settle(prev *Record) {
	r.Before = 0
	switch {
	case r.starts == nil:
	case r.Uneven() > 0 || slices.ContainsFunc(r.Moves, func(m Move) bool { return m.resizes() }):
		r.Before = prev.settledFrom()
	default:
		r.starts = nil
	}
}

// wantsResize says that a move that changes the number of a partition's homes leads to
// the one that it is to have.
func (r *Record) wantsResize(m *Move) bool {
	if m.Grows() {
		return r.width(int(m.Partition)) < r.Replicas
	}
	return r.width(int(m.Partition)) > r.Replicas
}

// rowAfter are the partition's homes once the move is done; the slice is the caller's.
func (m *Move) rowAfter(row []NodeID) []NodeID {
	row = slices.Clone(row)
	switch {
	case m.Grows():
		return append(row, m.To)
	case m.Shrinks():
		return slices.Delete(row, int(m.Slot), int(m.Slot)+1)
	}
	row[m.Slot] = m.To
	return row
}

// validateWidths checks how many homes the partitions have: as many as Replicas, or
// else a change of that is under way.
func (r *Record) validateWidths() error {
	if r.starts == nil {
		if want := r.Partitions * r.Replicas; len(r.table) != want {
			return fmt.Errorf("table of %d homes, want %d", len(r.table), want)
		}
		if r.Before != 0 {
			return fmt.Errorf("%d replicas before, and nothing that changes them", r.Before)
		}
		if at := slices.IndexFunc(r.Moves, func(m Move) bool { return m.resizes() }); at >= 0 {
			return fmt.Errorf("%v: the number of homes does not change", &r.Moves[at])
		}
		return nil
	}
	if len(r.starts) != r.Partitions+1 || r.starts[0] != 0 || int(r.starts[r.Partitions]) != len(r.table) {
		return fmt.Errorf("table of %d homes, want %d partitions that add up to that", len(r.table), r.Partitions)
	}
	for p := range r.Partitions {
		if n := r.width(p); n < 1 || n > ReplicasMax {
			return fmt.Errorf("partition %d: %d homes, want 1 to %d", p, n, ReplicasMax)
		}
	}
	if r.Before == 0 {
		return fmt.Errorf("partitions of different numbers of homes, and no change of it")
	}
	if r.Uneven() == 0 && !slices.ContainsFunc(r.Moves, func(m Move) bool { return m.resizes() }) {
		return fmt.Errorf("%d replicas before, and nothing that changes them", r.Before)
	}
	return nil
}

// staying are the homes that the partition has whether the move is made or not.
func (r *Record) staying(m *Move) []NodeID {
	return slices.DeleteFunc(slices.Clone(r.Homes(m.Partition)), func(id NodeID) bool { return id == m.From })
}

// gotEnough says that so many of the homes that stay have pulled from the one whose
// slot is taken away that what a majority held with it, a majority holds without it; and
// the same in its zone.
func (r *Record) gotEnough(m *Move) bool {
	zone := r.Member(m.From).Zone
	var homes, live, got, near, liveNear, gotNear int
	for s, id := range r.Homes(m.Partition) {
		if id == m.From {
			continue
		}
		is, has, here := !r.isLost(id), 0, 0
		if m.Got&(1<<s) != 0 {
			has = 1
		}
		if r.Member(id).Zone == zone {
			here = 1
		}
		homes, near = homes+1, near+here
		if is {
			live, got, liveNear, gotNear = live+1, got+has, liveNear+here, gotNear+has*here
		}
	}
	return got >= min(homes/2+1, live) && (near == 0 || gotNear >= min(near/2+1, liveNear))
}

// conditionOfNew fills in what must be known before a step of a move that adds a slot.
func (r *Record) conditionOfNew(c *Condition, m *Move, s Step) {
	if s == StepReadNew || s == StepDone {
		c.By, c.Any = m.To, r.sourcesOfNew(m)
	}
}

// sourcesOfNew are the alternatives of whom the holder of a new slot must have pulled
// from: so many homes that they meet every majority, and, for calls that ask for
// majorities within zones, as many of its own zone. The first home of its zone pulls
// from as many of any other one: so it has what was written in every zone.
func (r *Record) sourcesOfNew(m *Move) [][]Quota {
	homes := r.Homes(m.Partition)
	live := r.live(homes)
	if len(live) == 0 {
		return [][]Quota{nil} // all that there was is gone
	}
	all := Quota{min(beyondMajority(len(homes)), len(live)), live}
	zones := map[string][]NodeID{}
	for _, id := range homes {
		zone := r.Member(id).Zone
		zones[zone] = append(zones[zone], id)
	}
	if near := zones[r.Member(m.To).Zone]; len(near) > 0 {
		return [][]Quota{r.withLive([]Quota{all}, near, beyondMajority(len(near)))}
	}
	var any [][]Quota
	for _, id := range homes { // in an order that is the same for everybody
		zone := r.Member(id).Zone
		if zones[zone] != nil && len(r.live(zones[zone])) > 0 {
			any = append(any, r.withLive([]Quota{all}, zones[zone], beyondMajority(len(zones[zone]))))
		}
		delete(zones, zone)
	}
	return any
}

// conditionOfOld fills in what must be known before a step of a move that takes a slot
// away. While From is not given up, it may be the last to have something, and is waited
// for. Where it is, those that stay pull from so many of them that one has whatever a
// majority held with it.
func (r *Record) conditionOfOld(c *Condition, m *Move, s Step) {
	homes, live := r.Homes(m.Partition), r.live(r.staying(m))
	switch {
	case s == StepDual:
		c.Among = live
	case s >= StepGot:
		c.Among, c.Any = []NodeID{homes[s-StepGot]}, [][]Quota{{{1, []NodeID{m.From}}}}
		if r.isLost(m.From) {
			c.Any = [][]Quota{{{min(beyondMajority(len(homes)), len(live)), live}}}
		}
	case s == StepDone:
		c.Among = live
		if !r.gotEnough(m) {
			c.Any = nil // nothing that anybody has noted would do
		}
	}
}

// stalls says that a move that adds a slot, or takes one away, is better not under way
// while some members are away: it would not end, and requests would lack them that do
// not need them without the move.
func (r *Record) stalls(m *Move, self NodeID, absent func(NodeID) bool) bool {
	away := func(id NodeID) bool { return id != self && absent(id) || r.isLost(id) }
	if m.Grows() {
		return away(m.To)
	}
	stay := r.staying(m)
	there := 0
	for _, id := range stay {
		if !away(id) {
			there++
		}
	}
	return there < len(stay)/2+1
}
