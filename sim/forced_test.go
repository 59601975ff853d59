package sim_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/kithdb/kith/sim"
)

// A majority of the keepers is gone for good, with its disks, while clients write, also at
// level one, and operators change the ring. The survivors force it: what any of them had
// is there in the end, and everything comes to its end.
func TestSurvivorsLoseOnlyWhatNobodyOfThemHad(t *testing.T) {
	forced := 0
	for _, seed := range seeds(6) {
		o, s := sim.Swarm(seed, 12*time.Second)
		o.Nodes = max(o.Nodes, 5)
		s.Steps = append([]sim.Step{}, must(sim.ParseSchedule(fmt.Sprintf(
			"at 1s for 1s weight %d\nat 2s for 3s join %d\nat 4s for 6s keepers-lost %d\nat 8s for 2s isolate %d", seed, seed, seed, seed)))...)
		r := sim.Run(o, s)
		if r.Err != nil {
			t.Errorf("%v", r.Err)
			continue
		}
		for _, epoch := range r.Rings.Epochs() {
			if f := r.Rings.At(epoch).LastForced(); f != nil && f.Epoch == epoch {
				forced++
			}
		}
	}
	if forced == 0 {
		t.Error("no ring was forced")
	}
}
