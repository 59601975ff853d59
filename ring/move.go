package ring

import (
	"fmt"
	"slices"
)

// Phase is how far the move of one home slot has come. A finished or aborted
// move is no longer in the record.
type Phase uint8

// The phases. Their numbers are on the wire and on disk.
const (
	// PhasePlan is queued; it has no effect on requests.
	PhasePlan Phase = 1
	// PhaseDual: both ends take writes, From answers reads.
	PhaseDual Phase = 2
	// PhaseReadNew: both ends take writes, To answers reads.
	PhaseReadNew Phase = 3
	// PhaseBack: both ends take writes, From answers reads again, so that
	// the move can be aborted.
	PhaseBack Phase = 4
)

// String gives the phase as one word.
func (p Phase) String() string {
	switch p {
	case PhasePlan:
		return "plan"
	case PhaseDual:
		return "dual"
	case PhaseReadNew:
		return "read-new"
	case PhaseBack:
		return "back"
	}
	return fmt.Sprintf("phase %d", uint8(p))
}

// Move takes one home slot of a partition from a member to another. Where the number
// of homes is changed, it adds a slot, or takes one away.
type Move struct {
	Partition Partition
	// Slot is the place among the partition's homes; that of a new one is behind
	// the last. Those behind one that was taken away move up.
	Slot uint8
	// From is zero where a slot is added, To where one is taken away.
	From, To NodeID
	Phase    Phase
	// Got is of a move that takes a slot away: which of the other slots' homes have
	// pulled from From, a bit for each slot.
	Got uint8
}

// Grows says that the move adds a slot.
func (m *Move) Grows() bool { return m.From.IsZero() }

// Shrinks says that the move takes a slot away.
func (m *Move) Shrinks() bool { return m.To.IsZero() }

// resizes says that the partition has another number of homes after the move.
func (m *Move) resizes() bool { return m.Grows() || m.Shrinks() }

// String says which slot goes from whom to whom, and how far that is.
func (m *Move) String() string {
	text := fmt.Sprintf("move of partition %d slot %d", m.Partition, m.Slot)
	if !m.Grows() {
		text += " from " + m.From.Short()
	}
	if !m.Shrinks() {
		text += " to " + m.To.Short()
	}
	return fmt.Sprintf("%s in phase %v", text, m.Phase)
}

// sameSlot says that both are the same move, maybe in different phases.
func (m *Move) sameSlot(o *Move) bool {
	return m.Partition == o.Partition && m.Slot == o.Slot && m.From == o.From && m.To == o.To
}

// names says that the member is one of the move's ends.
func (m *Move) names(id NodeID) bool { return m.From == id || m.To == id }

// Step is what one record changes about a move.
type Step uint8

// The steps. There are no others: in particular no way from PhaseReadNew to an
// abort but through PhaseBack, because To may have answered reads.
const (
	// StepDual begins a queued move.
	StepDual Step = 1
	// StepReadNew hands the reads to To.
	StepReadNew Step = 2
	// StepDone gives the slot to To, or takes it away, and ends the move.
	StepDone Step = 3
	// StepBack hands the reads back to From.
	StepBack Step = 4
	// StepAbort leaves the slot at From, or adds none, and ends the move.
	StepAbort Step = 5
	// StepGot, plus a slot, notes that the home of that slot has pulled from the
	// one whose slot is taken away.
	StepGot Step = 16
)

// String gives the step as one word.
func (s Step) String() string {
	switch s {
	case StepDual:
		return "dual"
	case StepReadNew:
		return "read-new"
	case StepDone:
		return "done"
	case StepBack:
		return "back"
	case StepAbort:
		return "abort"
	}
	if s >= StepGot {
		return fmt.Sprintf("got by slot %d", s-StepGot)
	}
	return fmt.Sprintf("step %d", uint8(s))
}

// after gives the phase in which a step leaves the move, 0 where it ends it; false if
// the step is none that the phase allows. A move that adds a slot, or takes one away,
// is read by both rows before it ends, and so may be turned back from anywhere.
func (m *Move) after(s Step) (next Phase, ok bool) {
	switch {
	case m.Shrinks() && s >= StepGot && s < StepGot+ReplicasMax:
		return PhaseDual, m.Phase == PhaseDual && uint8(s-StepGot) != m.Slot
	case m.Shrinks() && s == StepDone:
		return 0, m.Phase == PhaseDual
	case m.Shrinks() && s == StepReadNew, m.resizes() && s == StepBack:
		return 0, false
	case m.Grows() && s == StepAbort && m.Phase == PhaseReadNew:
		return 0, true
	}
	return m.Phase.after(s)
}

// leadsTo says that one step leads from the move's phase to another one.
func (m *Move) leadsTo(next Phase) bool {
	for _, s := range []Step{StepDual, StepReadNew, StepBack} {
		if after, ok := m.after(s); ok && after == next {
			return true
		}
	}
	return false
}

// after is that of a move from a home to another one.
func (p Phase) after(s Step) (next Phase, ok bool) {
	switch s {
	case StepDual:
		return PhaseDual, p == PhasePlan
	case StepReadNew:
		return PhaseReadNew, p == PhaseDual
	case StepDone:
		return 0, p == PhaseReadNew
	case StepBack:
		return PhaseBack, p == PhaseReadNew
	case StepAbort:
		return 0, p == PhasePlan || p == PhaseDual || p == PhaseBack
	}
	return 0, false
}

// fences says that a change between two phases of a move, 0 for none, changes who
// is asked, so that the partition's fence must rise. A queued move is like none.
func fences(before, after Phase) bool {
	return before != after && (before > PhasePlan || after > PhasePlan)
}

// StepTo is a step of the move of one partition.
type StepTo struct {
	Partition Partition
	Step      Step
}

// WithSteps makes the record in which the moves of these partitions, one step
// each, have come further; the fences of the partitions rise, but for moves that
// were only queued. It does not ask whether the steps may be taken yet: that is
// what Condition says. Steps of different partitions have nothing to do with one
// another, and may be decided in one record in any number.
func (r *Record) WithSteps(steps []StepTo) (*Record, error) {
	if len(steps) == 0 {
		return nil, fmt.Errorf("no steps")
	}
	next := r.successor()
	resized := map[Partition]*Move{}
	stepped := make(map[Partition]bool, len(steps))
	for _, s := range steps {
		if stepped[s.Partition] {
			return nil, fmt.Errorf("partition %d: two steps at once", s.Partition)
		}
		stepped[s.Partition] = true
		at, found := r.moveAt(s.Partition)
		if !found {
			return nil, fmt.Errorf("partition %d: no move is under way that could be %v", s.Partition, s.Step)
		}
		m := &next.Moves[at]
		phase, ok := m.after(s.Step)
		if !ok {
			return nil, fmt.Errorf("%v: it cannot become %v", m, s.Step)
		}
		if s.Step >= StepGot {
			m.Got |= 1 << (s.Step - StepGot)
		}
		if fences(m.Phase, phase) || s.Step == StepDone {
			next.Since[s.Partition] = next.Epoch
		}
		switch {
		case s.Step != StepDone:
		case m.resizes():
			resized[s.Partition] = &r.Moves[at]
		default:
			next.row(int(s.Partition))[m.Slot] = uint16(next.index(m.To))
		}
		m.Phase = phase
	}
	next.resize(resized)
	next.Moves = slices.DeleteFunc(next.Moves, func(m Move) bool { return m.Phase == 0 })
	return next.checked(r)
}
