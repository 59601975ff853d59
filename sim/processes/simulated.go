package processes

import (
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
)

// stall is after how long without an answer TCP connections of rpc are given up.
const stall = 5 * time.Second

// Simulated is a cluster of the simulator as a World. It lives inside a bubble.
type Simulated struct{ cluster *sim.Cluster }

var _ World = (*Simulated)(nil)

// NewSimulated starts a simulated cluster. The caller closes it.
func NewSimulated(seed uint64) (*Simulated, error) {
	c, err := sim.NewCluster(sim.Options{
		Seed: seed, Nodes: nodes, Replicas: replicas, Partitions: partitions,
		Network: network.Config{StallTimeout: stall},
	})
	if err != nil {
		return nil, err
	}
	return &Simulated{c}, nil
}

// Kind implements World.
func (s *Simulated) Kind() string { return "scripted" }

// Names implements World.
func (s *Simulated) Names() []string {
	var all []string
	for _, m := range s.cluster.Machines {
		all = append(all, m.Name)
	}
	return all
}

// Dial implements World.
func (s *Simulated) Dial(h *sim.History, opts []client.Option, nodes ...int) (*sim.Client, error) {
	return s.cluster.Client(h, opts, nodes...)
}

// Cut implements World. Membership goes on to call both ends alive: others
// answer for them, and serf never reports a cut of one way between two nodes.
func (s *Simulated) Cut(from, to []int) error {
	for _, a := range from {
		for _, b := range to {
			s.cluster.Cut(a, b)
			x, y := s.cluster.Machines[a].ID(), s.cluster.Machines[b].ID()
			s.cluster.World.Set(x, y, true)
			s.cluster.World.Set(y, x, true)
		}
	}
	return nil
}

// Partition implements World.
func (s *Simulated) Partition(a, b []int) error {
	s.cluster.Partition(a, b)
	return nil
}

// Heal implements World.
func (s *Simulated) Heal() error {
	s.cluster.Network.Heal()
	s.cluster.World.Follow()
	return nil
}

// Kill implements World.
func (s *Simulated) Kill(node int) error {
	s.cluster.Machines[node].Kill()
	return nil
}

// Start implements World.
func (s *Simulated) Start(node int) error { return s.cluster.Machines[node].Start() }

// Pause implements World.
func (s *Simulated) Pause(node int) error {
	s.cluster.Machines[node].Pause()
	return nil
}

// Resume implements World.
func (s *Simulated) Resume(node int) error {
	s.cluster.Machines[node].Resume()
	return nil
}

// Log implements World.
func (s *Simulated) Log() string { return s.cluster.Log() }

// Close implements World.
func (s *Simulated) Close() error {
	s.cluster.Close()
	return nil
}
