package main

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
)

// search draws a run from a seed.
type search func(seed uint64, length time.Duration) (sim.Options, sim.Story)

// faults picks some of all faults by their names.
func faults(names ...string) []sim.Fault {
	return slices.DeleteFunc(sim.AllFaults(), func(f sim.Fault) bool { return !slices.Contains(names, f.Name) })
}

// behind are faults by which what some machines have missed is lost elsewhere, the
// second one if there are more machines than homes.
var behind = []string{"rot behind a cut", "loss behind a cut"}

// one draws a schedule in which one of some faults befalls the cluster after the
// other.
func one(rng *rand.Rand, s *sim.Story, faults ...string) {
	s.Steps = []sim.Step{}
	for at := between(rng, time.Second, 3*time.Second); at < s.Length; at += between(rng, 5*time.Second, 12*time.Second) {
		s.Steps = append(s.Steps, sim.Step{
			At: at, For: between(rng, 2*time.Second, 8*time.Second),
			Fault: faults[rng.IntN(len(faults))], Seed: rng.Uint64N(1 << 32),
		})
	}
}

// moving is a cluster of few partitions, on whose keys many clients work, and where
// machines are free to take slots.
func moving(rng *rand.Rand, o *sim.Options, s *sim.Story) {
	o.Nodes, o.Partitions, o.Replicas = max(o.Nodes, 4), min(o.Partitions, 8), 3
	s.Clients, s.Keys = max(s.Clients, 3+rng.IntN(5)), 1+rng.IntN(4)
	s.Pause = min(s.Pause, 200*time.Millisecond)
}

// often adds some faults to a schedule, from a time until another, a new one every so
// often, each up to some seconds long.
func often(rng *rand.Rand, s *sim.Story, from, until, every time.Duration, faults ...string) {
	for at := from + between(rng, 0, 2*every); at < until; at += between(rng, 0, 2*every) {
		s.Steps = append(s.Steps, sim.Step{
			At: at, For: between(rng, 300*time.Millisecond, 4*time.Second),
			Fault: faults[rng.IntN(len(faults))], Seed: rng.Uint64N(1 << 32),
		})
	}
	slices.SortStableFunc(s.Steps, func(a, b sim.Step) int { return cmp.Compare(a.At, b.At) })
}

func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	return (least + time.Duration(rng.Int64N(int64(most-least)))).Round(time.Millisecond)
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
	// behind has homes miss writes that another home then loses, by rot or with its
	// disk, while the one that knows them is out of reach. One such thing befalls
	// them after the other.
	"behind": func(seed uint64, length time.Duration) (sim.Options, sim.Story) {
		o, s := sim.Swarm(seed, 2*length)
		o.Replicas, o.Pace.Scrub = 3, time.Minute
		o.Nodes = 3 + 2*int(seed%2)
		s.Clients, s.Keys = max(s.Clients, 4), 4
		s.Pause = min(s.Pause, 400*time.Millisecond)
		s.Sloppy = o.Nodes > 3
		rng := rand.New(rand.NewPCG(seed, 2))
		one(rng, &s, behind[:o.Nodes/2]...)
		return o, s
	},
	// outage has all machines lose their power at one moment, again and again, some of them
	// after their disks have failed: no copy makes up for what was not on a disk.
	"outage": func(seed uint64, length time.Duration) (sim.Options, sim.Story) {
		o, s := sim.Swarm(seed, length)
		s.Clients, s.Keys = max(s.Clients, 4), 4
		s.Pause = min(s.Pause, 400*time.Millisecond)
		s.Steps = []sim.Step{}
		often(rand.New(rand.NewPCG(seed, 2)), &s, time.Second, s.Length, 2*time.Second, "outage", "outage", "isolate", "lossy links")
		return o, s
	},
	// closing has crashes take writes with them of which packets are still on their
	// way. The last look at all keys is late enough for those to have come.
	"closing": func(seed uint64, length time.Duration) (sim.Options, sim.Story) {
		o, s := sim.Swarm(seed, 2*length)
		o.Nodes, o.Replicas, o.Pace.Forget = 3+2*int(seed%2), 3, time.Minute
		s.Clients, s.Keys = max(s.Clients, 4), 30
		s.Pause = min(s.Pause, 400*time.Millisecond)
		one(rand.New(rand.NewPCG(seed, 2)), &s, "late power cut")
		return o, s
	},
	// moves has operators change the ring all the time, and their minds, while homes miss
	// what happens: they are away, or stop, or their packets come late; and those who have
	// part in a move hear one another through some links and not through others.
	"moves": func(seed uint64, length time.Duration) (sim.Options, sim.Story) {
		o, s := sim.Swarm(seed, length)
		rng := rand.New(rand.NewPCG(seed, 3))
		moving(rng, &o, &s)
		// Slots move while writes are on their way, and news of that while they move.
		o.Network.Link.Jitter = []time.Duration{time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond}[rng.IntN(3)]
		o.Membership.SpreadAfter = []time.Duration{400 * time.Millisecond, 4 * time.Second}[rng.IntN(2)]
		s.Changes = true
		s.Faults = append(sim.MoveFaults(), faults("halves", "isolate", "one way", "late messages", "pause", "kill", "power cut", "wrong view")...)
		return o, s
	},
	// swift has slots move as fast as they can, on links that are fast where they are not
	// torn: what is on its way for less than a second meets a slot that has moved.
	"swift": func(seed uint64, length time.Duration) (sim.Options, sim.Story) {
		o, s := sim.Swarm(seed, length)
		rng := rand.New(rand.NewPCG(seed, 3))
		moving(rng, &o, &s)
		o.Network.Link = network.Link{Latency: 200 * time.Microsecond, Jitter: time.Millisecond}
		s.Steps = []sim.Step{}
		often(rng, &s, time.Second, s.Length, 700*time.Millisecond, "weight", "weight", "weight", "join", "leave")
		often(rng, &s, time.Second, s.Length, 2*time.Second, "torn links", "one way")
		return o, s
	},
	// pulls has slots move to all machines, and then a machine lose what it has pulled.
	"pulls": func(seed uint64, length time.Duration) (sim.Options, sim.Story) {
		o, s := sim.Swarm(seed, 2*length)
		rng := rand.New(rand.NewPCG(seed, 3))
		moving(rng, &o, &s)
		o.Pace.Scrub = time.Minute
		s.Steps = []sim.Step{}
		often(rng, &s, time.Second, s.Length*2/3, time.Second, "weight", "weight", "join")
		often(rng, &s, s.Length/3, s.Length, 4*time.Second, "bit rot", "bit rot", "isolate", "kill")
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
