package sim_test

import (
	"testing"
	"time"

	"github.com/kithdb/kith/sim"
)

// serfTest plays f on a cluster whose nodes found one another by real serf.
func serfTest(t *testing.T, o sim.Options, f func(t *testing.T, c *sim.Cluster)) {
	t.Helper()
	o.Serf = true
	in(t, o, f)
}

// awaitView waits until every machine of a side sees exactly that side as
// reachable, and says how long the slowest took.
func awaitViews(t *testing.T, c *sim.Cluster, limit time.Duration, sides ...[]int) time.Duration {
	t.Helper()
	began := time.Now()
	for _, side := range sides {
		for _, m := range side {
			waitUntil(t, limit, c.Machines[m].Name+" does not see its side alone", func() bool {
				return reachable(t, c, m) == len(side)
			})
		}
	}
	return time.Since(began)
}

func TestSerf_LongPartitionHealsByItself(t *testing.T) {
	serfTest(t, sim.Options{Seed: 31}, func(t *testing.T, c *sim.Cluster) {
		h := sim.NewHistory()
		clients := direct(c, h)
		defer closeAll(clients)
		load(t, clients[0], "before", 10)
		left, right := []int{0, 1}, []int{2, 3, 4}
		c.Partition(left, right)
		t.Logf("both sides alone after %v", awaitViews(t, c, time.Minute, left, right))
		time.Sleep(30 * time.Minute)
		c.Network.Heal() // and nothing else: nobody is started, nobody is told
		t.Logf("whole again after %v", awaitViews(t, c, 2*time.Minute, []int{0, 1, 2, 3, 4}))
		load(t, clients[4], "after", 10)
		judge(t, c, h)
	})
}
