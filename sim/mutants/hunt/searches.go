package main

import (
	"slices"
	"time"

	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/sim"
)

// search draws a run from a seed.
type search func(seed uint64, length time.Duration) (sim.Options, sim.Story)

// faults picks some of all faults by their names.
func faults(names ...string) []sim.Fault {
	return slices.DeleteFunc(sim.AllFaults(), func(f sim.Fault) bool { return !slices.Contains(names, f.Name) })
}

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
	// loss has bits rot on one machine's disk, or all of it is lost: it has to find
	// that out, and to count for no read until it is filled again. The other
	// faults keep a home from a write, so that a read can miss it.
	"loss": func(seed uint64, length time.Duration) (sim.Options, sim.Story) {
		o, s := sim.Swarm(seed, length)
		o.Replicas, o.Pace.Scrub = 3, time.Minute
		s.Faults = append(sim.LossFaults(), faults("halves", "isolate", "kill", "wrong view")...)
		return o, s
	},
	// repair has nodes audit and forget as often as they can, values expire and
	// stand-ins count, while machines are away for some time and packets come
	// late.
	"repair": func(seed uint64, length time.Duration) (sim.Options, sim.Story) {
		o, s := sim.Swarm(seed, length)
		o.Replicas = 3
		o.Pace = sim.Pace{Audit: 5 * time.Second, Scrub: time.Minute, Forget: time.Second}
		s.Mortal, s.Sloppy = true, true
		s.Faults = faults("halves", "isolate", "one way", "late messages", "kill", "power cut", "pause")
		return o, s
	},
}
