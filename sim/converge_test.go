package sim_test

import (
	"testing"
	"time"

	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
)

// An operator's request may come when all has become equal long ago: who leaves then gives
// up its partitions, and their trees with them, while they are looked at.
func TestAChangeThatComesLateBreaksNoPromise(t *testing.T) {
	for _, seed := range seeds(2) {
		in(t, sim.Options{Seed: seed}, func(t *testing.T, c *sim.Cluster) {
			h := sim.NewHistory()
			cl := must(c.Client(h, nil))
			defer cl.Close()
			load(t, cl, "k", 30)
			must(c.Converge(time.Minute))
			// The record by which trees are looked at is old by then, and a drop takes its time.
			leaver := c.Machines[4]
			c.Network.SetLink(leaver.Name, "probe", network.Link{Latency: 4800 * time.Millisecond})
			leaver.Disk.SetSyncDelay(func() time.Duration { return 200 * time.Millisecond })
			asked := make(chan error, 1)
			go func() {
				time.Sleep(200 * time.Millisecond) // by then all have shown their records
				_, err := c.Change(0, api.ChangeRequest{Verb: api.VerbLeave, Member: leaver.ID().String()})
				asked <- err
			}()
			check(t, c.CheckTrees())
			check(t, <-asked)
			must(c.Converge(time.Minute))
			check(t, c.CheckTrees())
			if n := len(must(c.Ring()).Members); n != 4 {
				t.Errorf("all is settled, and %d are members", n)
			}
		})
	}
}
