package scenario_test

import (
	"fmt"
	"os"
	"reflect"
	"strconv"
	"testing"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/scenario"
	"github.com/kithdb/kith/sim/trace"
)

// seeds are those that a test plays: few by default; ten times as many with
// KITH_LONG=1, or its number above 10. KITH_SEED plays that one alone.
func seeds(few int) []uint64 {
	if seed, err := strconv.ParseUint(os.Getenv("KITH_SEED"), 10, 64); err == nil {
		return []uint64{seed}
	}
	if !sim.Replays {
		few = 1 // the race detector is slow, and sees as much in one
	}
	if long, err := strconv.Atoi(os.Getenv("KITH_LONG")); err == nil && long > 10 {
		few = long
	} else if err == nil {
		few *= 10
	}
	var out []uint64
	for seed := range uint64(few) {
		out = append(out, seed+1)
	}
	return out
}

// runs are the runs of the library that tests share, by name and seed.
var runs = map[string]*trace.Run{}

// played is a run of a scenario of the library, which is played once for all tests.
func played(t *testing.T, s *scenario.Scenario, seed uint64) *trace.Run {
	t.Helper()
	of := fmt.Sprint(s.Name, " ", seed)
	if runs[of] == nil {
		run, err := scenario.Run(s, scenario.Options{Seed: seed})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		runs[of] = run
	}
	return runs[of]
}

// A scenario that comes with kith holds on whatever seed it is played.
func TestLibraryHoldsOnEverySeed(t *testing.T) {
	for _, s := range scenario.Library() {
		t.Run(s.Name, func(t *testing.T) {
			for _, seed := range seeds(1) {
				run := played(t, s, seed)
				if !run.OK() {
					t.Errorf("seed %d, to play it again: KITH_SEED=%d go test ./sim/scenario -run '^%s$'", seed, seed, t.Name())
					tell(t, run)
				}
			}
		})
	}
}

// One seed gives one run of a scenario: every operation, event and sample at the
// same nanosecond. KITH_LONG=1 looks at all scenarios, and more seeds.
func TestScenariosReplay(t *testing.T) {
	if !sim.Replays {
		t.Log("the race detector shuffles what happens at one instant: nothing to compare")
		return
	}
	for i, s := range scenario.Library() {
		if i%5 != 0 && os.Getenv("KITH_LONG") == "" {
			continue
		}
		for _, seed := range seeds(1) {
			a, errA := scenario.Run(s, scenario.Options{Seed: seed})
			b, errB := scenario.Run(s, scenario.Options{Seed: seed})
			if errA != nil || errB != nil {
				t.Fatal(errA, errB)
			}
			a.Wall, b.Wall = 0, 0
			if reflect.DeepEqual(a, b) {
				continue
			}
			for i := range min(len(a.Ops), len(b.Ops)) {
				if a.Ops[i] != b.Ops[i] {
					t.Errorf("%s, seed %d:\n%+v\n%+v", s.Name, seed, a.Ops[i], b.Ops[i])
					break
				}
			}
			t.Errorf("%s, seed %d: two runs of %d and %d operations differ", s.Name, seed, len(a.Ops), len(b.Ops))
		}
	}
}

// tell logs a run.
func tell(t *testing.T, run *trace.Run) {
	t.Helper()
	for _, e := range run.Events {
		t.Logf("%9.3f  %s", e.At.Seconds(), scenario.Line(e))
	}
	for _, line := range run.Story.Lines {
		t.Log(line)
	}
}
