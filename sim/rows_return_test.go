package sim_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
)

// deleteAll deletes keys of which a quorum can be reached, with the context of a
// read.
func deleteAll(t *testing.T, cl *sim.Client, prefix string, n int) {
	t.Helper()
	for i := range n {
		key := fmt.Sprintf("%s%d", prefix, i)
		read := cl.Get(key, client.Quorum, 5*time.Second)
		want(t, read.Op, sim.Done)
		want(t, cl.Delete(key, read, client.Quorum, 5*time.Second), sim.Done)
	}
}

// showNothing wants keys to read as absent through every machine that runs.
func showNothing(t *testing.T, c *sim.Cluster, h *sim.History, level client.Level, prefix string, n int) {
	t.Helper()
	for i, m := range c.Machines {
		if !m.Running() {
			continue
		}
		cl := must(c.Direct(h, i))
		for k := range n {
			read := cl.Get(fmt.Sprintf("%s%d", prefix, k), level, 10*time.Second)
			if want(t, read.Op, sim.Done); len(read.Saw) > 0 {
				t.Errorf("it is back through %s: %v", m.Name, read.Op)
			}
		}
		cl.Close()
	}
}

// A home has values and is away while they are deleted: as long as it is away,
// none of the deletes is forgotten, and status names who they wait for. It
// comes back, shows and pushes nothing that was deleted, and only then they go.
func TestFault49_NothingIsForgottenWhileAHomeIsAway(t *testing.T) {
	for _, seed := range seeds(3) {
		in(t, sim.Options{Seed: seed, Nodes: 3, Pace: sim.Pace{Forget: time.Second}}, func(t *testing.T, c *sim.Cluster) {
			h := sim.NewHistory()
			cl := must(c.Client(h, nil))
			defer cl.Close()
			const keys = 20
			load(t, cl, "dead", keys)
			load(t, cl, "alive", keys)
			must(c.Converge(time.Minute))
			away := c.Machines[seed%3]
			away.Kill()
			time.Sleep(2 * time.Second)
			deleteAll(t, cl, "dead", keys)
			time.Sleep(5 * time.Minute) // hundreds of times as old as they have to be
			waiting, named := int64(0), false
			for _, m := range c.Machines {
				if !m.Running() {
					continue
				}
				if n := recordsAt(c, m); n != 2*keys {
					t.Errorf("%s has %d records, want %d and as many deletes", m.Name, n, keys)
				}
				s := own(c, m).Repair
				waiting += s.Tombstones
				named = named || slices.ContainsFunc(s.Blocked, func(why string) bool { return strings.Contains(why, away.Name) })
				if s.Forgotten > 0 {
					t.Errorf("%s has forgotten %d deletes", m.Name, s.Forgotten)
				}
			}
			if waiting != keys || !named {
				t.Errorf("%d deletes are said to wait; that they wait for %s: %v", waiting, away.Name, named)
			}
			check(t, away.Start())
			for range 20 { // from the first moment that it answers
				showNothing(t, c, h, client.Quorum, "dead", keys)
			}
			for _, m := range c.Machines {
				waitUntil(t, 5*time.Minute, m.Name+" does not forget", func() bool { return recordsAt(c, m) == keys })
			}
			showNothing(t, c, h, client.One, "dead", keys)
			equalAndWhole(t, c, h)
		})
	}
}

// The same, but its directory is an old copy, made when the values were there; the
// deletes were forgotten by all homes, by itself too. The others know that it has
// gone back in time; what it brings is nothing that they ever replaced.
func TestFault49_AnOldCopyOfADirectoryBringsNothingBack(t *testing.T) {
	for _, how := range []string{"of an earlier life", "of the same life"} {
		t.Run(how, func(t *testing.T) {
			for _, seed := range seeds(3) {
				in(t, sim.Options{Seed: seed, Nodes: 3, Pace: sim.Pace{Forget: time.Second}}, func(t *testing.T, c *sim.Cluster) {
					oldCopy(t, c, c.Machines[seed%3], how == "of the same life")
				})
			}
		})
	}
}

func oldCopy(t *testing.T, c *sim.Cluster, old *sim.Machine, alive bool) {
	h := sim.NewHistory()
	cl := must(c.Client(h, nil))
	defer cl.Close()
	const keys = 20
	load(t, cl, "dead", keys)
	load(t, cl, "alive", keys)
	must(c.Converge(time.Minute))
	if !alive {
		old.Stop()
	}
	copied := old.Disk.Snapshot()
	check(t, old.Start())
	check(t, c.WaitReady(time.Minute))
	deleteAll(t, cl, "dead", keys)
	for _, m := range c.Machines {
		waitUntil(t, 5*time.Minute, m.Name+" does not forget", func() bool { return recordsAt(c, m) == keys })
	}
	time.Sleep(10 * time.Second) // members tell each other what is on their disks
	old.Kill()
	old.Disk.Restore(copied)
	check(t, old.Start())
	lossy := false
	when(t, time.Minute, "nobody has told it that it lost something", func() bool {
		s := own(c, old)
		lossy = lossy || s != nil && s.Repair.Lossy > 0
		return lossy
	})
	for range 10 {
		showNothing(t, c, h, client.Quorum, "dead", keys)
	}
	check(t, c.WaitReady(2*time.Minute))
	must(c.Converge(2 * time.Minute))
	for _, m := range c.Machines {
		if n := recordsAt(c, m); n != keys {
			t.Errorf("%s has %d records, want %d", m.Name, n, keys)
		}
	}
	showNothing(t, c, h, client.One, "dead", keys)
	time.Sleep(5 * time.Minute)
	equalAndWhole(t, c, h)
}
