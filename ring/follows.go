package ring

import (
	"fmt"
	"slices"
)

// Follows checks that r is valid and may be decided as the successor of prev,
// and names the rule that it breaks. Of a partition's homes only one may change
// at a time, and only by a move that went through its phases. There are two
// exceptions: the founding, and a member in the place of one that is Lost, with
// which nothing else changes.
func (r *Record) Follows(prev *Record) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("epoch %d: %w", r.Epoch, err)
	}
	if err := r.follows(prev); err != nil {
		return fmt.Errorf("epoch %d after %d: %w", r.Epoch, prev.Epoch, err)
	}
	return nil
}

func (r *Record) follows(prev *Record) error {
	if err := r.followsShape(prev); err != nil {
		return err
	}
	if err := r.followsForced(prev); err != nil {
		return err
	}
	if old, m := r.replacement(prev); !old.IsZero() {
		return r.followsReplacement(prev, old, m)
	}
	if err := r.followsMembers(prev); err != nil {
		return err
	}
	return r.followsPartitions(prev)
}

func (r *Record) followsShape(prev *Record) error {
	if r.Epoch != prev.Epoch+1 {
		return fmt.Errorf("not the next epoch")
	}
	if r.Cluster != prev.Cluster {
		return fmt.Errorf("cluster %s became %s", prev.Cluster, r.Cluster)
	}
	if r.Name != prev.Name {
		return fmt.Errorf("cluster name %q became %q", prev.Name, r.Name)
	}
	if r.Partitions != prev.Partitions {
		return fmt.Errorf("%d partitions became %d", prev.Partitions, r.Partitions)
	}
	if r.Replicas != prev.Replicas && !(prev.Founded() && r.Founded()) {
		return fmt.Errorf("%d replicas became %d without a table", prev.Replicas, r.Replicas)
	}
	if want := prev.settledFrom(); r.Before != 0 && r.Before != want {
		return fmt.Errorf("%d replicas before, want %d", r.Before, want)
	}
	if prev.Founded() && !r.Founded() {
		return fmt.Errorf("the table is gone")
	}
	return nil
}

func (r *Record) followsMembers(prev *Record) error {
	for i := range prev.Members {
		was := &prev.Members[i]
		is := r.Member(was.ID)
		switch {
		case is == nil && !r.IsBanned(was.ID):
			return fmt.Errorf("member %s was removed but not banned", was.ID.Short())
		case is != nil && was.State == Lost && is.State != Lost:
			return fmt.Errorf("member %s was lost and became %v", was.ID.Short(), is.State)
		}
	}
	for _, id := range prev.Banned {
		if !r.IsBanned(id) {
			return fmt.Errorf("%s is no longer banned", id.Short())
		}
	}
	return nil
}

// followsPartitions checks, for every partition, that its homes changed by a
// move alone and that its fence changed exactly with its homes or the phase of its
// move, or with one of its homes becoming Lost.
func (r *Record) followsPartitions(prev *Record) error {
	lost := r.newlyLost(prev)
	for i := range r.Partitions {
		p := Partition(i)
		changed := !slices.Equal(prev.Homes(p), r.Homes(p))
		before, after := prev.MoveOf(p), r.MoveOf(p)
		if prev.Founded() {
			if err := r.followsMove(prev, p, changed, before, after); err != nil {
				return err
			}
		} else if after != nil {
			return fmt.Errorf("%v: a cluster is founded without moves", after)
		}
		want := prev.Since[p]
		if changed || fences(phaseOf(before), phaseOf(after)) || givesUp(r.Homes(p), lost) {
			want = r.Epoch
		}
		if r.Since[p] != want {
			return fmt.Errorf("partition %d: fence %d, want %d", p, r.Since[p], want)
		}
	}
	return nil
}

func phaseOf(m *Move) Phase {
	if m == nil {
		return 0
	}
	return m.Phase
}

func (r *Record) followsMove(prev *Record, p Partition, changed bool, before, after *Move) error {
	if changed {
		if before == nil || after != nil {
			return fmt.Errorf("partition %d: homes changed without a finished move", p)
		}
		if _, ok := before.after(StepDone); !ok {
			return fmt.Errorf("partition %d: homes changed without a finished move: %v", p, before)
		}
		if before.Shrinks() && !prev.gotEnough(before) {
			return fmt.Errorf("%v: it ended with %b of the homes that stay", before, before.Got)
		}
		if !slices.Equal(before.rowAfter(prev.Homes(p)), r.Homes(p)) {
			return fmt.Errorf("%v: it ended with other homes", before)
		}
		return nil
	}
	switch {
	case before == nil && after == nil:
	case after == nil:
		if _, ok := before.after(StepAbort); !ok {
			return fmt.Errorf("%v: it cannot be aborted from there", before)
		}
	case before != nil && *before == *after:
	case before != nil && before.sameSlot(after) && before.Phase == after.Phase && before.Phase == PhaseDual && before.Got&^after.Got == 0:
	case before == nil || before.Phase == PhasePlan && after.Phase == PhasePlan:
		return r.followsQueue(after)
	case !before.sameSlot(after):
		return fmt.Errorf("%v became %v", before, after)
	case !before.leadsTo(after.Phase) || before.Got != after.Got:
		return fmt.Errorf("%v became %v", before, after.Phase)
	}
	return nil
}

// followsQueue checks a move that is newly queued, maybe in the place of another
// one that was.
func (r *Record) followsQueue(m *Move) error {
	if m.Phase != PhasePlan {
		return fmt.Errorf("%v: a move begins with its plan", m)
	}
	if m.resizes() && !r.wantsResize(m) {
		return fmt.Errorf("%v: the partition has %d homes and is to have %d", m, len(r.Homes(m.Partition)), r.Replicas)
	}
	if m.Shrinks() {
		return nil
	}
	if to := r.Member(m.To); to.State != Active {
		return fmt.Errorf("%v: %s is %v and takes no slots", m, m.To.Short(), to.State)
	}
	return nil
}

// newlyLost are the members that were not Lost before.
func (r *Record) newlyLost(prev *Record) (lost []NodeID) {
	for i := range r.Members {
		if is := &r.Members[i]; is.State == Lost {
			if was := prev.Member(is.ID); was != nil && was.State != Lost {
				lost = append(lost, is.ID)
			}
		}
	}
	return lost
}

// givesUp says that one of a partition's homes is among some lost members.
func givesUp(homes, lost []NodeID) bool {
	return len(lost) > 0 && slices.ContainsFunc(homes, func(id NodeID) bool { return slices.Contains(lost, id) })
}
