package ring

import "slices"

// Agenda is what one member has to do for the moves of a record. It depends on
// nothing but the record and what the member has noted durably, so that it goes on
// after any crash where it was.
type Agenda struct {
	// Pulls are to be made and noted before the next step; see Pulled.
	Pulls []Pull
	// Steps may be proposed now, in one record.
	Steps []StepTo
}

// Pull asks a member to pull a partition from each of some others, under an epoch.
type Pull struct {
	Partition Partition
	Since     uint64
	From      []NodeID
}

// Agenda finds what a member has to do. Each move has a driver, who pulls and
// proposes; where it is absent, its turns that need no pull are for the first home
// that is not. Two who think that it is theirs disturb nothing: only one of equal
// steps is decided. noted is what the member has noted of a partition; absent says
// whom it cannot reach, which decides from whom it pulls, and never what is enough.
func (r *Record) Agenda(self NodeID, pace Pace, noted func(Partition) Pulled, absent func(NodeID) bool) Agenda {
	var a Agenda
	begin := r.Startable(pace)
	slices.Sort(begin)
	for i := range r.Moves {
		m := &r.Moves[i]
		step, ok := r.next(m)
		if m.Phase == PhasePlan {
			_, ok = slices.BinarySearch(begin, m.Partition)
		}
		if !ok {
			continue
		}
		c, err := r.Condition(m.Partition, step)
		if err != nil || !r.acts(m, self, c.By, absent) {
			continue
		}
		known := noted(m.Partition)
		if c.Met(known) {
			a.Steps = append(a.Steps, StepTo{m.Partition, step})
		} else if from := c.choose(known, absent); len(from) > 0 {
			a.Pulls = append(a.Pulls, Pull{m.Partition, c.Since, from})
		}
	}
	return a
}

// next is the step that a move takes next; false for one in the queue that is not
// wanted any more, which WithQueue takes out.
func (r *Record) next(m *Move) (Step, bool) {
	turn := r.Unwanted(m)
	switch {
	case m.Phase == PhasePlan:
		return StepDual, !turn
	case m.Phase == PhaseBack, m.Phase == PhaseDual && turn:
		return StepAbort, true
	case m.Phase == PhaseDual:
		return StepReadNew, true
	case turn:
		return StepBack, true
	}
	return StepDone, true
}

// acts says that the next step of a move is a member's to see to. by is who must
// have pulled, zero if nobody must.
func (r *Record) acts(m *Move, self, by NodeID, absent func(NodeID) bool) bool {
	if !by.IsZero() {
		return by == self
	}
	away := func(id NodeID) bool { return id != self && (absent(id) || r.isLost(id)) }
	if driver := r.Driver(m.Partition); !away(driver) {
		return driver == self
	}
	if m.Phase == PhasePlan {
		return false // it begins when its target is there
	}
	for _, id := range r.Homes(m.Partition) {
		if !away(id) {
			return id == self
		}
	}
	return false
}

// choose picks whom to pull from: those of the first alternative that can be had,
// and no more than it needs.
func (c *Condition) choose(known Pulled, absent func(NodeID) bool) []NodeID {
	known = c.counting(known)
next:
	for _, all := range c.Any {
		var from []NodeID
		for _, q := range all {
			missing := q.missing(append(slices.Clone(known.From), from...))
			for _, id := range q.Of {
				if missing > 0 && !slices.Contains(known.From, id) && !slices.Contains(from, id) && !absent(id) {
					from = append(from, id)
					missing--
				}
			}
			if missing > 0 {
				continue next
			}
		}
		return from
	}
	return nil
}
