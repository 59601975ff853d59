package main

import (
	"strings"
	"testing"

	"github.com/kithdb/kith/client"
)

// While the number of homes changes, it is said how far that is, and what becomes of
// each slot; nothing counts as done before all partitions have it.
func TestAChangeOfReplicasShowsHowFarItIs(t *testing.T) {
	three := testRing(t, 4, 3, "", "", "")
	down := then(t)(three.WithReplicas(2))
	if got := homesText(three); got != "4 partitions of 3 homes" {
		t.Error(got)
	}
	if got := homesText(down); got != "4 partitions of 2 homes (before: 3; left to change: 4)" {
		t.Error(got)
	}
	if n := slotsToMove(down); n != 4 || slotsToMove(three) != 0 {
		t.Errorf("%d slots are to go", n)
	}
	for number, want := range map[int]string{2: "", 3: "not wanted any more"} {
		ended, err := replicasEnded(down, number)
		if ended || (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d replicas: ended %v, %v", number, ended, err)
		}
	}
	if ended, err := replicasEnded(three, 3); !ended || err != nil {
		t.Errorf("settled: ended %v, %v", ended, err)
	}
	up := then(t)(testRing(t, 4, 1, "", "").WithReplicas(2))
	added, taken := &up.Moves[0], &down.Moves[0]
	if got, want := moveText(up, added), "added at "+nameOf(up, added.To)+", plan"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := moveText(down, taken), "taken from "+nameOf(down, taken.From)+", plan"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if from, to := ends(taken.From, taken.To); from != taken.From.String() || to != "" || endOf(down, taken.To) != "-" {
		t.Errorf("its ends are %q and %q", from, to)
	}
	plan := &client.RingPlan{}
	plan.Members = append(plan.Members, planned(3, 2, 2), planned(3, 2, 2))
	if n := takenAway(plan); n != 2 || takenAway(nil) != 0 {
		t.Errorf("%d slots are taken away", n)
	}
}
