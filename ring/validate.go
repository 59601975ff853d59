package ring

import (
	"fmt"
	"slices"
)

// Validate checks every rule that a record must keep by itself, and names the
// first that is broken. How evenly the table is spread is not among them: it
// may be uneven while slots move.
func (r *Record) Validate() error {
	for _, check := range []func() error{
		r.validateShape, r.validateMembers, r.validateKeepers, r.validateBanned,
		r.validateSince, r.validateTable, r.validateMoves, r.validateForced,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// validateShape checks the numbers on which all else depends.
func (r *Record) validateShape() error {
	if r.Epoch == 0 {
		return fmt.Errorf("epoch 0, want 1 or more")
	}
	if r.Cluster.IsZero() {
		return fmt.Errorf("zero cluster ID")
	}
	if r.Name == "" {
		return fmt.Errorf("cluster without a name")
	}
	if err := validateName(r.Name); err != nil {
		return fmt.Errorf("cluster name: %w", err)
	}
	if q := r.Partitions; q < 1 || q > SlotCount || q&(q-1) != 0 {
		return fmt.Errorf("%d partitions, want a power of two up to %d", q, SlotCount)
	}
	if r.Replicas < 1 || r.Replicas > ReplicasMax {
		return fmt.Errorf("%d replicas, want 1 to %d", r.Replicas, ReplicasMax)
	}
	if r.Before < 0 || r.Before > ReplicasMax {
		return fmt.Errorf("%d replicas before, want 1 to %d, or 0 for no change", r.Before, ReplicasMax)
	}
	return nil
}

func (r *Record) validateMembers() error {
	if n := len(r.Members); n < 1 || n > MembersMax {
		return fmt.Errorf("%d members, want 1 to %d", n, MembersMax)
	}
	for i := range r.Members {
		if err := r.Members[i].validate(); err != nil {
			return err
		}
		if i > 0 && r.Members[i-1].ID.Compare(r.Members[i].ID) >= 0 {
			return fmt.Errorf("member %s is twice there or not sorted by ID", r.Members[i].ID.Short())
		}
	}
	return nil
}

func (r *Record) validateKeepers() error {
	if n := len(r.Keepers); n < 1 || n > KeepersMax {
		return fmt.Errorf("%d keepers, want 1 to %d", n, KeepersMax)
	}
	if id, ok := sortedOnce(r.Keepers); !ok {
		return fmt.Errorf("keeper %s is twice there or not sorted by ID", id.Short())
	}
	for _, id := range r.Keepers {
		if r.index(id) < 0 {
			return fmt.Errorf("keeper %s is not a member", id.Short())
		}
	}
	return nil
}

func (r *Record) validateBanned() error {
	if n := len(r.Banned); n > BannedMax {
		return fmt.Errorf("%d banned IDs, at most %d", n, BannedMax)
	}
	if id, ok := sortedOnce(r.Banned); !ok {
		return fmt.Errorf("banned ID %s is twice there or not sorted", id.Short())
	}
	for i := range r.Members {
		if m := &r.Members[i]; m.State != Lost && r.IsBanned(m.ID) {
			return fmt.Errorf("member %s is banned", m.ID.Short())
		}
	}
	return nil
}

func (r *Record) validateSince() error {
	if len(r.Since) != r.Partitions {
		return fmt.Errorf("%d fences for %d partitions", len(r.Since), r.Partitions)
	}
	for p, since := range r.Since {
		if since < 1 || since > r.Epoch {
			return fmt.Errorf("partition %d changed at epoch %d, want 1 to %d", p, since, r.Epoch)
		}
	}
	return nil
}

func (r *Record) validateTable() error {
	if len(r.table) == 0 {
		if r.Before != 0 {
			return fmt.Errorf("%d replicas before the founding", r.Before)
		}
		return nil
	}
	if err := r.validateWidths(); err != nil {
		return err
	}
	for p := range r.Partitions {
		row := r.row(p)
		for s, home := range row {
			if int(home) >= len(r.Members) {
				return fmt.Errorf("partition %d: home %d of %d members", p, home, len(r.Members))
			}
			m := &r.Members[home]
			if m.State == Standby {
				return fmt.Errorf("partition %d: home %s is on standby", p, m.ID.Short())
			}
			if slices.Contains(row[:s], home) {
				return fmt.Errorf("partition %d: home %s is twice there", p, m.ID.Short())
			}
		}
	}
	return nil
}

func (r *Record) validateMoves() error {
	for i := range r.Moves {
		if err := r.validateMove(&r.Moves[i]); err != nil {
			return err
		}
		if i > 0 && r.Moves[i-1].Partition >= r.Moves[i].Partition {
			return fmt.Errorf("partition %d has two moves, or they are not sorted", r.Moves[i].Partition)
		}
	}
	return nil
}

func (r *Record) validateMove(m *Move) error {
	if m.Phase < PhasePlan || m.Phase > PhaseBack {
		return fmt.Errorf("%v: unknown phase", m)
	}
	if !r.Founded() || int(m.Partition) >= r.Partitions {
		return fmt.Errorf("%v: no such slot", m)
	}
	row := r.row(int(m.Partition))
	switch slot := int(m.Slot); {
	case m.Grows() && m.Shrinks():
		return fmt.Errorf("%v: it has no ends", m)
	case m.Grows():
		if slot != len(row) || slot >= ReplicasMax {
			return fmt.Errorf("%v: a new slot is behind the %d that there are, of %d at most", m, len(row), ReplicasMax)
		}
	case slot >= len(row):
		return fmt.Errorf("%v: no such slot", m)
	case r.Members[row[slot]].ID != m.From:
		return fmt.Errorf("%v: the home is %s", m, r.Members[row[slot]].ID.Short())
	}
	if m.Got != 0 && !(m.Shrinks() && m.Phase == PhaseDual) || m.Got>>len(row) != 0 || m.Got&(1<<m.Slot) != 0 {
		return fmt.Errorf("%v: got %b, which no home that stays can have told", m, m.Got)
	}
	if m.Grows() && m.Phase > PhaseReadNew || m.Shrinks() && m.Phase > PhaseDual {
		return fmt.Errorf("%v: it has no such phase", m)
	}
	if m.Shrinks() {
		if len(row) < 2 {
			return fmt.Errorf("%v: it would leave the partition no home", m)
		}
		return nil
	}
	to := r.index(m.To)
	if to < 0 {
		return fmt.Errorf("%v: %s is not a member", m, m.To.Short())
	}
	// A member that began to leave or to retreat may still be the target of a
	// move that is on its way back; one on standby never.
	if r.Members[to].State == Standby {
		return fmt.Errorf("%v: %s is on standby", m, m.To.Short())
	}
	if slices.Contains(row, uint16(to)) {
		return fmt.Errorf("%v: %s is a home already", m, m.To.Short())
	}
	return nil
}

// sortedOnce names the first ID that does not come after the one before it.
func sortedOnce(ids []NodeID) (NodeID, bool) {
	for i := 1; i < len(ids); i++ {
		if ids[i-1].Compare(ids[i]) >= 0 {
			return ids[i], false
		}
	}
	return NodeID{}, true
}
