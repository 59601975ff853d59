package ring

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// asked is what requests of a partition go by: its homes, its move once that is under
// way, and who of them is given up.
func asked(r *Record, p Partition) string {
	text := fmt.Sprint(r.Homes(p))
	if m := r.MoveOf(p); m != nil && m.Phase > PhasePlan {
		text += fmt.Sprint(" slot ", m.Slot, " from ", m.From, " to ", m.To, " ", m.Phase)
	}
	for _, id := range r.Homes(p) {
		if r.isLost(id) {
			text += " without " + id.String()
		}
	}
	return text
}

// A request that carries its partition's fence is understood alike by every record from
// that epoch on, up to the next fence: nothing by which the partition is asked changes
// without its fence.
func TestAPartitionIsAskedAlikeFromOneFenceToTheNext(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := found(t, drawMembers(t, 3, 6, 3, 3), 8, rapid.IntRange(1, 3).Draw(t, "replicas"))
		changes, held := 0, 0
		check := func(prev, next *Record) {
			for p := range Partition(next.Partitions) {
				switch {
				case next.Since[p] == next.Epoch:
					changes++
				case next.Since[p] != prev.Since[p]:
					t.Fatalf("partition %d: fence %d became %d at epoch %d", p, prev.Since[p], next.Since[p], next.Epoch)
				case asked(prev, p) != asked(next, p):
					t.Fatalf("partition %d was asked by %q and is asked by %q, and its fence stays %d", p, asked(prev, p), asked(next, p), next.Since[p])
				default:
					held++
				}
			}
		}
		for i := range rapid.IntRange(1, 6).Draw(t, "changes") {
			_, next, err := drawChange(t, r, 100+i)
			if err != nil || next == r {
				continue
			}
			check(r, next)
			r = next
			if heirs := lostOf(r); len(heirs) > 0 && rapid.Bool().Draw(t, "an heir comes") {
				if next, err := r.WithReplacement(heirs[0], drawMember(t, 200+i, 4, 3)); err == nil {
					check(r, next)
					r = next
				}
			}
			if plannedFor(r) && rapid.Bool().Draw(t, "moves end") {
				r = driven(t, r, Pace{In: 2, Out: 2}, check)
			}
		}
		forced, err := r.WithForced(Forced{Epoch: r.Epoch + 5, By: r.Members[0].ID, Survivors: idsOf(r)})
		if err == nil && slices.ContainsFunc(forced.Since, func(since uint64) bool { return since != forced.Epoch }) {
			t.Fatalf("forced at %d, and the fences are %v", forced.Epoch, forced.Since)
		}
	})
}

// plannedFor says that enough members are active for a table.
func plannedFor(r *Record) bool {
	_, err := r.WithQueue()
	return err == nil
}

// lostOf are the members that are given up and have slots.
func lostOf(r *Record) (ids []NodeID) {
	for _, m := range r.Members {
		if m.State == Lost && r.HomeCount(m.ID) > 0 {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// idsOf are all members, sorted.
func idsOf(r *Record) (ids []NodeID) {
	for _, m := range r.Members {
		ids = append(ids, m.ID)
	}
	return ids
}
