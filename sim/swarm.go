package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/kithdb/kith/sim/network"
)

// Swarm draws a configuration and a story from a seed: how many machines and
// homes, what links are like, how many clients and keys, how large values are, how
// fast nodes repair, and which kinds of fault there are at all. Runs that are all
// alike find what they have found before.
func Swarm(seed uint64, length time.Duration) (Options, Story) {
	rng := chance(seed, "swarm")
	o := Options{Seed: seed, Nodes: 3 + rng.IntN(5), Partitions: 1 << (2 + rng.IntN(4))}
	o.Replicas = min(o.Nodes, []int{2, 3, 3, 3, 5}[rng.IntN(5)])
	o.Network.Link = network.Link{
		Latency: pick(rng, 200*time.Microsecond, time.Millisecond, 5*time.Millisecond, 40*time.Millisecond),
		Jitter:  pick(rng, time.Microsecond, time.Millisecond, 20*time.Millisecond),
	}
	if rng.IntN(3) == 0 {
		o.Network.Link.Loss, o.Network.Link.Reset = rng.Float64()/50, rng.Float64()/500
	}
	s := Story{
		Length:    length,
		Clients:   1 + rng.IntN(8),
		Keys:      1 + rng.IntN(5),
		Pause:     pick(rng, 50*time.Millisecond, 400*time.Millisecond, time.Second),
		ValueSize: pick(rng, 0, 0, 100, 5000),
	}
	s.Faults = AllFaults()
	rng.Shuffle(len(s.Faults), func(i, j int) { s.Faults[i], s.Faults[j] = s.Faults[j], s.Faults[i] })
	s.Faults = slices.Clone(s.Faults[:1+rng.IntN(len(s.Faults))])
	s.Chains, s.Strays = rng.IntN(2) == 0, rng.IntN(4) == 0
	s.Mortal, s.Sloppy = rng.IntN(3) == 0, rng.IntN(3) == 0
	o.Pace = Pace{
		Audit:  pick(rng, 5*time.Second, 30*time.Second, 10*time.Minute),
		Scrub:  pick(rng, time.Minute, 24*time.Hour),
		Forget: pick(rng, 2*time.Second, 10*time.Second, time.Minute),
	}
	if rng.IntN(4) == 0 {
		o.Pace.Scrub = time.Minute // what is rotten must be found
		s.Faults = append(s.Faults, LossFaults()...)
	}
	if chance(seed, "power").IntN(6) == 0 {
		s.Faults = append(s.Faults, OutageFaults()...)
	}
	s.Changes = chance(seed, "swarm changes").IntN(3) == 0
	s.Resizes = chance(seed, "swarm resizes").IntN(3) == 0
	return o, s
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }
