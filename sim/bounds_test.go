package sim_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
)

// A cluster that nobody uses any more has nothing left to do; one that still waits
// for something is found out.
func TestWhatIsNeverDoneBreaksThePromiseOfBounds(t *testing.T) {
	in(t, sim.Options{Seed: 1, Nodes: 3}, func(t *testing.T, c *sim.Cluster) {
		before := runtime.NumGoroutine()
		cl := must(c.Direct(nil, 0))
		want(t, cl.Put("key", nil, client.Quorum, 5*time.Second), sim.Done)
		check(t, c.CheckBounds())
		check(t, c.CheckRest(before))

		c.Machines[0].Disk.SetSyncDelay(func() time.Duration { return 10 * time.Minute })
		want(t, cl.Put("key", nil, client.All, time.Second), sim.Unknown)
		cl.Close()
		check(t, c.CheckBounds())
		var b *sim.Broken
		if err := c.CheckRest(before); !errors.As(err, &b) || b.Promise != sim.Bounded || !strings.Contains(err.Error(), "writes in its store") {
			t.Errorf("a write that is never done: %v", err)
		}
		c.Machines[0].Disk.Heal()
		time.Sleep(20 * time.Minute)
		check(t, c.CheckRest(before))

		held := make(chan struct{})
		for range 100 {
			go func() { <-held }()
		}
		if err := c.CheckRest(before); !errors.As(err, &b) || !strings.Contains(err.Error(), "goroutines") {
			t.Errorf("100 goroutines that never end: %v", err)
		}
		close(held)
	})
}
