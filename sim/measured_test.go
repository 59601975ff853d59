package sim_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/disk"
)

// TestFault36_TheMeasuredConfigurationIsDurable: the figures of
// docs/PERFORMANCE.md are those of three nodes, three homes, 50 callers with
// 128-byte values and nothing set but defaults. Just that is cut from its power in
// the middle, with torn pages, and nothing that was acknowledged is missing.
func TestFault36_TheMeasuredConfigurationIsDurable(t *testing.T) {
	in(t, sim.Options{Seed: 36, Nodes: 3, Partitions: 1024}, func(t *testing.T, c *sim.Cluster) {
		cl := must(c.Client(nil, nil))
		var acked sync.Map // key -> the last acknowledged value of its only writer
		var callers sync.WaitGroup
		stop := make(chan struct{})
		for caller := range 50 {
			callers.Go(func() {
				r := rand.New(rand.NewPCG(36, uint64(caller)))
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					key := fmt.Sprintf("caller-%d-%d", caller, r.IntN(20))
					value := fmt.Sprintf("%0128d", n)
					ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
					if _, err := cl.Client.Put(ctx, []byte(key), []byte(value)); err == nil {
						acked.Store(key, value)
					}
					cancel()
				}
			})
		}
		time.Sleep(500 * time.Millisecond)
		for i, m := range c.Machines {
			m.Disk.SetTear(disk.Tear(i % 3))
			m.PowerCut()
		}
		close(stop)
		callers.Wait()
		cl.Close()
		for _, m := range c.Machines {
			if err := m.Start(); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.WaitReady(time.Minute); err != nil {
			t.Fatal(err)
		}
		cl = must(c.Client(nil, nil))
		defer cl.Close()
		count := 0
		acked.Range(func(key, value any) bool {
			count++
			got, err := cl.Client.Get(context.Background(), []byte(key.(string)), client.Quorum)
			if err != nil || string(got.Value) < value.(string) {
				t.Errorf("%s: %s was acknowledged, %q is there (%v)", key, value, got.Value, err)
			}
			return true
		})
		if count < 900 {
			t.Errorf("%d keys were acknowledged: too few to show anything", count)
		}
	})
}
