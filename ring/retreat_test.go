package ring

import (
	"testing"

	"pgregory.net/rapid"
)

// Whoever has joined and retreats, at whatever point of its joining, is on standby in
// the end, has nothing, and everybody else has a fair share.
func TestWhoRetreatsIsOnStandbyInTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		replicas := rapid.IntRange(1, 3).Draw(t, "replicas")
		n := replicas + rapid.IntRange(0, 2).Draw(t, "more")
		first := found(t, testMembers(n), 1<<rapid.IntRange(0, 4).Draw(t, "partitions"), replicas)
		m := testMember(100)
		r := must(t)(first.WithJoin(m))
		for range rapid.IntRange(0, 12).Draw(t, "steps before") {
			if steps := drawSteps(t, r, Pace{}); len(steps) > 0 {
				r = must(t)(r.WithSteps(steps))
			}
		}
		r = must(t)(r.WithRetreat(m.ID))
		if again := must(t)(r.WithRetreat(m.ID)); again != r {
			t.Fatal("a retreat that stands makes another record")
		}
		if r.Member(m.ID).State == Retreating && r.IsKeeper(m.ID) {
			t.Fatal("who retreats is a keeper")
		}
		r = driven(t, r, Pace{}, nil)
		r = must(t)(r.WithRest(m.ID))
		if is := r.Member(m.ID); is == nil || is.State != Standby || r.HomeCount(m.ID) != 0 || r.IsBanned(m.ID) {
			t.Fatalf("in the end it is %+v with %d slots", is, r.HomeCount(m.ID))
		}
		if next := must(t)(r.WithQueue()); next != r {
			t.Fatalf("more is to be moved: %v", next.Changes(r))
		}
		if r = must(t)(r.WithJoin(m)); r.Member(m.ID).State != Active {
			t.Fatal("it cannot join again")
		}
	})
}

// A rest is for those who retreat, and only once nothing is left.
func TestNobodyRestsWithSlots(t *testing.T) {
	r := found(t, testMembers(4), 8, 3)
	if _, err := r.WithRest(testID(0)); err == nil {
		t.Error("an active member rests")
	}
	r = must(t)(r.WithRetreat(testID(0)))
	if r.Member(testID(0)).State != Retreating {
		t.Fatalf("a member with slots is %v", r.Member(testID(0)).State)
	}
	if _, err := r.WithRest(testID(0)); err == nil {
		t.Error("a member with slots rests")
	}
	if _, err := r.WithRetreat(testID(77)); err == nil {
		t.Error("a stranger retreats")
	}
	if r, err := found(t, testMembers(3), 8, 3).WithRetreat(testID(0)); err == nil {
		t.Errorf("three homes among %d members without one of them", len(r.Members))
	}
}

// Who was about to leave and comes back elsewhere gets the slots that its new zone asks
// for: in the end they are spread as far as they go.
func TestALeaverThatReturnsInAnotherZoneIsPlannedThere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := found(t, drawMembers(t, 4, 7, 3, 2), 16, rapid.IntRange(1, 3).Draw(t, "replicas"))
		m := r.Members[rapid.IntRange(0, len(r.Members)-1).Draw(t, "who")]
		r = must(t)(r.WithLeave(m.ID))
		for range rapid.IntRange(0, 4).Draw(t, "meanwhile") {
			if steps := drawSteps(t, r, Pace{}); len(steps) > 0 {
				r = must(t)(r.WithSteps(steps))
			}
		}
		m.Zone = "elsewhere"
		r = driven(t, must(t)(r.WithJoin(m)), Pace{}, nil)
		plan := planned(t, r, r.Members, r.Replicas)
		if len(plan.Moves) > 0 {
			t.Fatalf("%d moves are left to be planned", len(plan.Moves))
		}
		checkPlan(t, r, plan)
		if r.Member(m.ID).Zone != m.Zone {
			t.Fatalf("it is in zone %q", r.Member(m.ID).Zone)
		}
	})
}
