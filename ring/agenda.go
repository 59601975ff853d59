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
		if ok && m.resizes() {
			step, ok = r.nextOfResize(m, step, self, absent)
		}
		if !ok {
			continue
		}
		c, err := r.Condition(m.Partition, step)
		if err != nil || !r.acts(m, self, &c, absent) {
			continue
		}
		known := noted(m.Partition)
		if known.Since != c.Since || known.By != self {
			known = Pulled{By: self, Since: c.Since} // nothing yet
		}
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
	case m.resizes() && turn:
		return StepAbort, true
	case m.Shrinks():
		return StepDone, true
	case m.Phase == PhaseBack, m.Phase == PhaseDual && turn:
		return StepAbort, true
	case m.Phase == PhaseDual:
		return StepReadNew, true
	case turn:
		return StepBack, true
	}
	return StepDone, true
}

// nextOfResize is the step that a move takes next which adds a slot or takes one away,
// as far as a member is concerned; step is the one that it would take if all were there.
func (r *Record) nextOfResize(m *Move, step Step, self NodeID, absent func(NodeID) bool) (Step, bool) {
	switch {
	case m.Phase == PhasePlan:
		gone := m.Shrinks() && m.From != self && !r.isLost(m.From) && absent(m.From)
		return step, !gone && !r.stalls(m, self, absent)
	case step == StepAbort || r.stalls(m, self, absent):
		return StepAbort, true
	case m.Grows() || r.gotEnough(m):
		return step, true
	}
	slot := r.HomeIndex(m.Partition, self)
	return StepGot + Step(slot), slot >= 0 && self != m.From && m.Got&(1<<slot) == 0
}

// acts says that the next step of a move, under a condition, is a member's to see to.
func (r *Record) acts(m *Move, self NodeID, c *Condition, absent func(NodeID) bool) bool {
	if !c.By.IsZero() {
		return c.By == self
	}
	for _, id := range c.Among {
		if id == self || !absent(id) {
			return id == self
		}
	}
	if len(c.Among) > 0 {
		return false
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
