package sim_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
)

// TestFault35_OldBackupIsNoticed: a directory restored from a backup is whole,
// and lacks what was acknowledged since. The members that met its later life say
// so, and it counts for no read.
func TestFault35_OldBackupIsNoticed(t *testing.T) {
	in(t, sim.Options{Seed: 35, Nodes: 3}, func(t *testing.T, c *sim.Cluster) {
		h := sim.NewHistory()
		cl := must(c.Client(h, nil))
		defer cl.Close()
		m := c.Machines[0]
		cl.Put("k", nil, client.All, 5*time.Second)
		m.Stop()
		backup := m.Disk.Snapshot()
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		if err := c.WaitReady(time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // the members meet
		cl.Put("k", nil, client.All, 5*time.Second)
		m.Kill()
		m.Disk.Restore(backup)
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		named := false // as long as its copies are not whole again
		for end := time.Now().Add(10 * time.Second); !named && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			status, err := c.Status(0)
			if err != nil {
				continue
			}
			for _, s := range status.Members {
				if s.ID == m.ID().String() && s.State == "catching-up" {
					named = named || strings.Contains(strings.Join(s.Problems, "; "), "old backup")
				}
			}
		}
		if !named {
			t.Error("the restored member is not named")
		}
		if err := c.WaitReady(time.Minute); err != nil {
			t.Fatal(err)
		}
		// Its stale copy is in nobody's quorum, through whomever one reads.
		for i := range c.Machines {
			direct := must(c.Direct(h, i))
			r := direct.Get("k", client.Quorum, 5*time.Second)
			direct.Close()
			if r.Outcome != sim.Done || len(r.Saw) != 1 {
				t.Errorf("through machine %d: %v", i, r.Op)
			}
		}
	})
}

// TestFault35_BackupOfTheSameLifeIsNotServed: the copy was made while the process
// ran that was killed later; the number of its start tells nothing, but members
// were told of more batches than there are.
func TestFault35_BackupOfTheSameLifeIsNotServed(t *testing.T) {
	in(t, sim.Options{Seed: 9}, func(t *testing.T, c *sim.Cluster) {
		h := sim.NewHistory()
		clients := direct(c, h)
		defer closeAll(clients)
		key, homes := keyWith(t, c, func(homes []int) bool { return !slices.Contains(homes, 0) })
		old, other, away := c.Machines[homes[0]], homes[1], c.Machines[homes[2]]
		want(t, clients[0].Put(key, nil, client.All, 5*time.Second), sim.Done)
		backup := old.Disk.Snapshot()
		away.Kill()
		read := clients[0].Get(key, client.Quorum, 10*time.Second)
		var op *sim.Op
		for op = clients[0].Put(key, read, client.Quorum, 10*time.Second); op.Outcome != sim.Done; {
			op = clients[0].Put(key, read, client.Quorum, 10*time.Second)
		}
		time.Sleep(10 * time.Second) // members tell each other what is on their disks
		old.Kill()
		old.Disk.Restore(backup)
		if err := old.Start(); err != nil {
			t.Logf("stays away: %v", err)
		}
		check(t, away.Start())
		time.Sleep(30 * time.Second)
		c.Isolate(other) // the only one that still has it
		time.Sleep(30 * time.Second)
		again := clients[0].Get(key, client.Quorum, 10*time.Second)
		if again.Outcome == sim.Done && !slices.Contains(again.Saw, op.Value) {
			t.Fatalf("%v\n%s", again, h.Story(key))
		}
	})
}
