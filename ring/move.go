package ring

import "fmt"

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

func (m *Move) String() string {
	return fmt.Sprintf("move of partition %d slot %d from %s to %s in phase %v",
		m.Partition, m.Slot, m.From.Short(), m.To.Short(), m.Phase)
}

// sameSlot says that both are the same move, maybe in different phases.
func (m *Move) sameSlot(o *Move) bool {
	return m.Partition == o.Partition && m.Slot == o.Slot && m.From == o.From && m.To == o.To
}

// mayBecome says which phase may follow which while the move goes on.
func (p Phase) mayBecome(next Phase) bool {
	switch p {
	case PhasePlan:
		return next == PhaseDual
	case PhaseDual:
		return next == PhaseReadNew
	case PhaseReadNew:
		return next == PhaseBack
	}
	return false
}

// mayAbort says that a move in this phase may end with the slot where it was.
// From PhaseReadNew it may not: To may hold the only copy that a read counted.
func (p Phase) mayAbort() bool { return p != PhaseReadNew }

// mayFinish says that a move in this phase may end with the slot at To.
func (p Phase) mayFinish() bool { return p == PhaseReadNew }
