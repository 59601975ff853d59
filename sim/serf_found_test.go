package sim_test

import (
	"testing"
	"time"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
)

// Nodes that start together tell their states together. Where memberlist's queue
// lost one of them, the founder waited for half a minute: once in a few hundred
// foundings, and in a tenth of them with the seed that is played here again and
// again, because serf's runs are never quite the same.
func TestSerf_FoundingNeverWaitsForALostState(t *testing.T) {
	o := sim.Options{Seed: 1092, Nodes: 6, Serf: true}
	o.Network.Link = network.Link{Latency: 5 * time.Millisecond, Jitter: 20 * time.Millisecond}
	for range seeds(20) {
		sim.Bubble(t, func(t *testing.T) {
			c, err := sim.NewCluster(o)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.WaitReady(10 * time.Second); err != nil {
				t.Errorf("seed %d: %v\n%s", o.Seed, err, c.Log())
			}
		})
	}
}
