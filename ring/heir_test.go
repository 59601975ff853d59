package ring

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Slots of a lost member whose place somebody may take stay where they are, whatever is
// asked of the others; that is done. Once the member is removed its slots go to the
// others, and with an heir everybody has a fair share.
func TestALostMemberThatAwaitsItsHeirHoldsUpNobodyElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		replicas := rapid.IntRange(2, 3).Draw(t, "replicas")
		r := found(t, drawMembers(t, replicas+2, replicas+4, 3, 3), 1<<rapid.IntRange(0, 4).Draw(t, "partitions"), replicas)
		lost := r.Members[rapid.IntRange(0, len(r.Members)-1).Draw(t, "lost")].ID
		if rapid.Bool().Draw(t, "moves are queued before") {
			r = must(t)(r.WithJoin(drawMember(t, 50, 4, 3)))
		}
		r = must(t)(r.WithLost(lost))
		had := r.HomeCount(lost)
		waits := func(prev, next *Record) {
			if next.HomeCount(lost) != had {
				t.Fatalf("the lost member had %d slots and has %d at epoch %d", had, next.HomeCount(lost), next.Epoch)
			}
			for i := range next.Moves {
				if m := &next.Moves[i]; m.names(lost) && m.Phase > PhasePlan {
					t.Fatalf("%v at epoch %d", m, next.Epoch)
				}
			}
		}
		for i := range rapid.IntRange(1, 4).Draw(t, "changes") {
			what, next, err := drawChange(t, r, 100+i)
			if err != nil || what == "removal" || what == "successor" || what == "replicas" {
				continue
			}
			r = next
			if rapid.Bool().Draw(t, "moves end") && plannedFor(r) {
				r = driven(t, r, Pace{In: 2, Out: 2}, waits)
			}
		}
		if !plannedFor(r) {
			return // nobody can take over
		}
		r = driven(t, r, Pace{In: 2, Out: 2}, waits)
		for _, m := range r.Members {
			if (m.State == Leaving || m.State == Retreating) && r.HomeCount(m.ID) > 0 {
				t.Fatalf("%s, who is %v, has %d slots", m.ID.Short(), m.State, r.HomeCount(m.ID))
			}
		}
		if heir := drawMember(t, 300, 4, 3); had > 0 && rapid.Bool().Draw(t, "an heir comes") {
			r = must(t)(r.WithReplacement(lost, heir))
		} else {
			r = must(t)(r.WithRemoval(lost))
			if back, err := Decode(r.Encode()); err != nil || !back.IsBanned(lost) {
				t.Fatalf("who is removed is not banned: %v", err)
			}
			if next := must(t)(r.WithRemoval(lost)); next != r {
				t.Fatalf("removed twice: %v", next.Changes(r))
			}
		}
		r = driven(t, r, Pace{In: 2, Out: 2}, nil)
		if plan := planned(t, r, r.Members, r.Replicas); len(plan.Moves) > 0 || r.HomeCount(lost) > 0 {
			t.Fatalf("%d moves are left to be planned, %d slots with the lost member", len(plan.Moves), r.HomeCount(lost))
		}
	})
}

// A removal stands in the record, also where nothing of it is queued: a partition that
// moves another slot gives that of the lost one away when it has ended.
func TestARemovalStandsInTheRecordUntilItIsDone(t *testing.T) {
	r := moving(t, PhaseDual)
	m := *r.MoveOf(3)
	lost := r.Homes(3)[2]
	for p := range Partition(r.Partitions) { // nothing else of it is left
		if at := r.HomeIndex(p, lost); p != 3 && at >= 0 {
			r = altered(r, func(r *Record) { r.row(int(p))[at] = uint16(r.index(outsider(r, int(p)))) })
		}
	}
	r = must(t)(r.WithRemoval(lost))
	if *r.MoveOf(3) != m || slices.ContainsFunc(r.Moves, func(m Move) bool { return m.names(lost) }) {
		t.Fatalf("the moves are %v", r.Moves)
	}
	r = must(t)(r.WithSteps([]StepTo{{3, StepReadNew}}))
	r = must(t)(r.WithSteps([]StepTo{{3, StepDone}}))
	r = must(t)(must(t)(Decode(r.Encode())).WithQueue())
	if next := r.MoveOf(3); next == nil || next.From != lost {
		t.Errorf("what is queued next is %v", next)
	}
}
