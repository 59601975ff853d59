package sim_test

import (
	"testing"
	"time"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
)

// Whatever befalls a cluster: nothing acknowledged is lost, refused writes are
// nowhere, deleted values stay deleted, strict reads never go backwards, and all
// homes end up equal.
func TestStoriesOfAllFaults(t *testing.T) {
	playAll(t, 25, sim.Options{}, sim.Story{})
}

func TestStoriesOfThreeNodes(t *testing.T) {
	playAll(t, 10, sim.Options{Nodes: 3, Partitions: 4}, sim.Story{})
}

func TestStoriesOfFiveHomes(t *testing.T) {
	playAll(t, 5, sim.Options{Nodes: 7, Replicas: 5}, sim.Story{})
}

func TestStoriesOfManyClientsOnOneKey(t *testing.T) {
	playAll(t, 5, sim.Options{}, sim.Story{Clients: 12, Keys: 1, Length: 10 * time.Second})
}

func TestStoriesOverSlowLinks(t *testing.T) {
	slow := network.Link{Latency: 40 * time.Millisecond, Jitter: 40 * time.Millisecond, Loss: 0.01, Reset: 0.002}
	playAll(t, 5, sim.Options{Network: network.Config{Link: slow}}, sim.Story{})
}

func playAll(t *testing.T, few int, o sim.Options, s sim.Story) {
	counts := map[sim.Outcome]int{}
	all := seeds(few)
	for _, seed := range all {
		o.Seed = seed
		in(t, o, func(t *testing.T, c *sim.Cluster) {
			h, err := c.Play(s)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range []sim.Outcome{sim.Done, sim.Refused, sim.Unknown, sim.Pending} {
				counts[o] += h.Count(o)
			}
		})
		if t.Failed() {
			return
		}
	}
	if counts[sim.Pending] > 0 {
		t.Errorf("%d operations were never answered", counts[sim.Pending])
	}
	if len(all) > 1 && (counts[sim.Done] == 0 || counts[sim.Refused] == 0 || counts[sim.Unknown] == 0) {
		t.Errorf("outcomes %v: the faults prove nothing", counts)
	}
}
