package sim_test

import (
	"testing"

	"github.com/kithdb/kith/sim"
)

// Whatever befalls a cluster: nothing acknowledged is lost, refused writes are
// nowhere, strict reads never go backwards, and all homes end up equal.
func TestStoriesOfAllFaults(t *testing.T) {
	counts := map[sim.Outcome]int{}
	for seed := first(); seed < first()+uint64(seeds(20)); seed++ {
		t.Logf("seed %d", seed)
		in(t, sim.Options{Seed: seed}, func(t *testing.T, c *sim.Cluster) {
			h, err := c.Play(sim.Story{})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range []sim.Outcome{sim.Done, sim.Refused, sim.Unknown, sim.Pending} {
				counts[o] += h.Count(o)
			}
		})
		if t.Failed() {
			break
		}
	}
	if counts[sim.Done] == 0 || counts[sim.Refused] == 0 || counts[sim.Unknown] == 0 || counts[sim.Pending] != 0 {
		t.Errorf("outcomes %v: the faults prove nothing, or somebody was never answered", counts)
	}
	t.Logf("outcomes: %v", counts)
}
