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

// Move takes one home slot of a partition from a member to another.
type Move struct {
	Partition Partition
	// Slot is the place among the partition's homes, 0 to Replicas-1.
	Slot     uint8
	From, To NodeID
	Phase    Phase
}

// String says which slot goes from whom to whom, and how far that is.
func (m *Move) String() string {
	return fmt.Sprintf("move of partition %d slot %d from %s to %s in phase %v",
		m.Partition, m.Slot, m.From.Short(), m.To.Short(), m.Phase)
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
	// StepDone gives the slot to To and ends the move.
	StepDone Step = 3
	// StepBack hands the reads back to From.
	StepBack Step = 4
	// StepAbort leaves the slot at From and ends the move.
	StepAbort Step = 5
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
	return fmt.Sprintf("step %d", uint8(s))
}

// after gives the phase in which a step leaves a move, 0 where it ends it; false
// if the step is none that the phase allows.
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
		phase, ok := m.Phase.after(s.Step)
		if !ok {
			return nil, fmt.Errorf("%v: it cannot become %v", m, s.Step)
		}
		if fences(m.Phase, phase) || s.Step == StepDone {
			next.Since[s.Partition] = next.Epoch
		}
		if s.Step == StepDone {
			next.row(int(s.Partition))[m.Slot] = uint16(next.index(m.To))
		}
		m.Phase = phase
	}
	next.Moves = slices.DeleteFunc(next.Moves, func(m Move) bool { return m.Phase == 0 })
	return next.checked(r)
}
