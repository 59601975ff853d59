package sim_test

import (
	"testing"
	"time"

	"github.com/kithdb/kith/sim"
)

// What was acknowledged is on disks, and not only in what machines remember together.
func TestFault36_OutagesOnFailingDisksLoseNothingAcknowledged(t *testing.T) {
	failing := 0
	for _, seed := range seeds(4) {
		s := sim.Story{Length: 10 * time.Second, Steps: []sim.Step{
			{At: 2 * time.Second, For: time.Second, Fault: "outage", Seed: 2 * seed},
			{At: 5 * time.Second, For: time.Second, Fault: "outage", Seed: 2*seed + 1},
		}}
		o := sim.Options{Seed: seed, Nodes: 3, Tell: func(told sim.Told) {
			if !told.End && told.Note == "3 machines, whose disks have failed" {
				failing++
			}
		}}
		if r := sim.Run(o, s); r.Err != nil {
			t.Fatalf("%v\n%s", r.Err, r.Log)
		}
	}
	if failing == 0 {
		t.Error("no disk has failed before an outage")
	}
}
