package sim_test

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/disk"
)

// swarmLength is the virtual time of one run of the search: KITH_MINUTES, or
// short.
func swarmLength() time.Duration {
	var minutes float64
	if _, err := fmt.Sscan(os.Getenv("KITH_MINUTES"), &minutes); err == nil {
		return time.Duration(minutes * float64(time.Minute))
	}
	return 15 * time.Second
}

func TestSwarmOfConfigurations(t *testing.T) {
	total := map[sim.Outcome]int{}
	bites, runs := map[string]int{}, 0
	var virtual time.Duration
	for _, seed := range seeds(20) {
		r := sim.Run(sim.Swarm(seed, swarmLength()))
		if r.Err != nil {
			t.Fatalf("%v\nto play it again: KITH_SEED=%d KITH_MINUTES=%v go test ./sim -run '^%s$'\n%s",
				r.Err, seed, swarmLength().Minutes(), t.Name(), r.Log)
		}
		for o := sim.Pending; o <= sim.Unknown; o++ {
			total[o] += r.History.Count(o)
		}
		for fault := range r.Bites() {
			bites[fault]++
		}
		virtual += r.Virtual
		runs++
	}
	if runs > 1 && (2*total[sim.Done] < total[sim.Done]+total[sim.Refused]+total[sim.Unknown] || total[sim.Unknown] == 0) {
		t.Errorf("outcomes %v: want most done, and some unknown", total)
	}
	if runs >= 1000 {
		for _, f := range sim.AllFaults() {
			if bites[f.Name] < runs/10 {
				t.Errorf("fault %s bit in %d of %d runs only", f.Name, bites[f.Name], runs)
			}
		}
	}
	t.Logf("%d runs, %v of virtual time, outcomes %v, runs in which each fault bit: %v", runs, virtual, total, bites)
}

func TestSchedulesReadAsTheyAreWritten(t *testing.T) {
	r := sim.Run(sim.Options{Seed: 1, Nodes: 3}, sim.Story{Length: 10 * time.Second})
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	steps, err := sim.ParseSchedule(r.Schedule())
	if err != nil || !reflect.DeepEqual(steps, r.Story.Steps) {
		t.Fatalf("%v\n%v\n%v", err, steps, r.Story.Steps)
	}
	for _, bad := range []string{"at 1s", "at 1s for 2s flood 1", "at x for 2s kill 1", "at 1s for 2s kill many"} {
		if _, err := sim.ParseSchedule(bad); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A run that fails is reduced to what it takes: here, disks that lie and a power
// cut.
func TestShrinkKeepsWhatItTakes(t *testing.T) {
	o := sim.Options{Seed: 3, Nodes: 3, Disk: func(d *disk.Disk) { d.Lie(true) }}
	var failed *sim.Result
	for seed := range uint64(20) {
		o.Seed = seed
		if failed = sim.Run(o, sim.Story{}); failed.Err != nil {
			break
		}
	}
	if failed.Err == nil {
		t.Fatal("disks that lie were not noticed in 20 seeds")
	}
	short := sim.Shrink(failed, 60)
	if short.Err == nil || len(short.Story.Steps) > 3 || len(short.Story.Steps) == 0 {
		t.Fatalf("of %d steps these are left, with error %v:\n%s", len(failed.Story.Steps), short.Err, short.Schedule())
	}
	t.Logf("%d steps became:\n%s", len(failed.Story.Steps), short.Schedule())
}
