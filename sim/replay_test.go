package sim_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
)

// A seed gives the same run to the last message. What happens
// at the same instant has no order: goroutines that wake together are the
// scheduler's.
func TestSameSeedSameRun(t *testing.T) {
	for _, seed := range seeds(3) {
		a, b := record(t, seed), record(t, seed)
		if !sim.Replays {
			continue // the race detector shuffles more than that
		}
		for i := range max(len(a), len(b)) {
			if i >= min(len(a), len(b)) || a[i] != b[i] {
				t.Errorf("seed %d differs at event %d of %d and %d:\n%v\n%v", seed, i, len(a), len(b),
					a[min(i, len(a)-1)], b[min(i, len(b)-1)])
				break
			}
		}
	}
}

type moment struct {
	at   time.Duration
	what string
}

// record plays a story and gives all that happened on the network.
func record(t *testing.T, seed uint64) []moment {
	var out []moment
	o := sim.Options{Seed: seed}
	var began time.Time
	o.Network.Trace = func(e network.Event) {
		if began.IsZero() {
			began = e.At
		}
		out = append(out, moment{e.At.Sub(began), fmt.Sprint(e.What, " ", e.From, " ", e.To, " ", e.Note, " ", e.Size)})
	}
	in(t, o, func(t *testing.T, c *sim.Cluster) {
		if _, err := c.Play(sim.Story{Length: 5 * time.Second}); err != nil {
			t.Fatal(err)
		}
	})
	slices.SortFunc(out, func(a, b moment) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.what, b.what)) })
	return out
}
