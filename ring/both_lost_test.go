package ring

import "testing"

// Both ends of a move are dead for good, and were given up: no copy is being made, and
// nobody of the two is there to end it. The homes that are left abort it, so that the slot
// can go to somebody who lives.
func TestAMoveWhoseEndsAreBothLostIsAbortedByTheOthers(t *testing.T) {
	r := found(t, testMembers(3), 1, 3)
	r = must(t)(r.WithJoin(testMember(4)))
	from, to := r.Homes(0)[0], testID(4)
	r = must(t)(r.WithMoves([]Move{{Slot: 0, To: to}}))
	r = must(t)(r.WithSteps([]StepTo{{Step: StepDual}}))
	for _, id := range []NodeID{from, to} {
		r = must(t)(r.WithLost(id))
	}
	for _, id := range r.Homes(0)[1:] {
		a := r.Agenda(id, Pace{}, func(Partition) Pulled { return Pulled{} }, func(absent NodeID) bool { return absent == from || absent == to })
		if len(a.Steps) == 1 && a.Steps[0].Step == StepAbort {
			return
		}
	}
	t.Errorf("nobody ends %v", r.MoveOf(0))
}
