package sim_test

import (
	"os"
	"testing"
	"time"

	"github.com/kithdb/kith/sim"
)

// Many nodes found a cluster by real serf, are idle for a minute, split in two
// for two minutes and find one another again: a hundred with KITH_LONG,
// twenty else.
func TestSerf_ManyNodesFoundSplitAndHeal(t *testing.T) {
	nodes := 20
	if os.Getenv("KITH_LONG") != "" {
		nodes = 100
	} else if !sim.Replays {
		nodes = 10 // the race detector sees as much
	}
	wall, cpu := time.Now(), processorTime(t)
	var virtual time.Duration
	serfTest(t, sim.Options{Seed: 33, Nodes: nodes, Partitions: 256}, func(t *testing.T, c *sim.Cluster) {
		began := time.Now()
		var all, left, right []int
		for i := range nodes {
			all = append(all, i)
			if i%2 == 0 {
				left = append(left, i)
			} else {
				right = append(right, i)
			}
		}
		awaitViews(t, c, time.Minute, all)
		time.Sleep(time.Minute)
		c.Partition(left, right)
		cut := time.Now()
		t.Logf("halves see only themselves after %v", awaitViews(t, c, time.Minute, left, right))
		time.Sleep(2*time.Minute - time.Since(cut))
		c.Network.Heal()
		t.Logf("all see all %v after the cut", awaitViews(t, c, time.Minute, all))
		virtual = time.Since(began)
	})
	t.Logf("%d nodes, %v virtual: %v wall, %v of one processor",
		nodes, virtual.Round(time.Second), time.Since(wall).Round(10*time.Millisecond), (processorTime(t) - cpu).Round(10*time.Millisecond))
}
