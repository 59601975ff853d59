package main

import (
	"slices"
	"time"

	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/sim"
)

// search draws a run from a seed.
type search func(seed uint64, length time.Duration) (sim.Options, sim.Story)

var searches = map[string]search{
	// swarm is the search of random schedules, as it is.
	"swarm": sim.Swarm,
	// founding has a few machines found the cluster, and all others become
	// members of it at the same time: each changes the ring record.
	"founding": func(seed uint64, length time.Duration) (sim.Options, sim.Story) {
		o, s := sim.Swarm(seed, length)
		o.Nodes = max(o.Nodes, 5)
		o.Replicas = min(o.Replicas, 3)
		founders := max(o.Replicas, 3)
		o.Node = func(machine int, cfg *node.Config) {
			if machine == 0 {
				cfg.Expect = founders
			}
		}
		return o, s
	},
	// loss has bits rot on one machine's disk, which has to find that out, and
	// to count for no read any more. The other faults keep a home from a write,
	// so that a read can miss it.
	"loss": func(seed uint64, length time.Duration) (sim.Options, sim.Story) {
		o, s := sim.Swarm(seed, length)
		o.Replicas = 3
		s.Faults = sim.LossFaults()
		for _, f := range sim.AllFaults() {
			if slices.Contains([]string{"halves", "isolate", "kill", "wrong view"}, f.Name) {
				s.Faults = append(s.Faults, f)
			}
		}
		return o, s
	},
}
