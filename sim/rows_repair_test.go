package sim_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/sim/network"
)

// heavy writes a value of so many bytes, wants it done, and enters it.
func heavy(t *testing.T, cl *sim.Client, h *sim.History, key string, size int, level client.Level) {
	t.Helper()
	op := h.Begin(&sim.Op{Client: cl.Name, Key: key, Value: fmt.Sprintf("%s.heavy.%s", cl.Name, key), Strict: level != client.One})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := cl.Client.Put(ctx, []byte(key), append([]byte(op.Value+"|"), bytes.Repeat([]byte{'.'}, size)...), level)
	if err != nil {
		t.Fatalf("put of %s: %v", key, err)
	}
	h.End(op, sim.Done, nil, "")
}

// own is what a machine says of itself; nil while it says nothing.
func own(c *sim.Cluster, m *sim.Machine) *api.MemberStatus {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	resp, err := api.Status.Call(ctx, asker(c), m.Peer(), &api.StatusRequest{Local: true})
	if err != nil || len(resp.Members) != 1 {
		return nil
	}
	return &resp.Members[0]
}

// when waits in virtual time for a moment that may be short.
func when(t *testing.T, limit time.Duration, what string, now func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !now(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s", limit, what)
		}
	}
}

// narrow makes all ways to and from a machine so slow that repair takes a while.
func narrow(c *sim.Cluster, machine, bytesPerSecond int) {
	for i := range c.Machines {
		if i != machine {
			l := network.Link{Latency: time.Millisecond, Jitter: time.Millisecond, Bandwidth: bytesPerSecond}
			c.Network.SetLink(c.Machines[i].Name, c.Machines[machine].Name, l)
			c.Network.SetLink(c.Machines[machine].Name, c.Machines[i].Name, l)
		}
	}
}

// ends are how a process ends without a word, by turns.
func ends(m *sim.Machine, n int) {
	if n%2 == 0 {
		m.Kill()
		return
	}
	m.Disk.SetTear(disk.Tear(n % 3))
	m.PowerCut()
}

// equalAndWhole wants copies equal by themselves, trees true, and nothing lost.
func equalAndWhole(t *testing.T, c *sim.Cluster, h *sim.History) map[string][]string {
	t.Helper()
	check(t, c.Heal())
	check(t, c.WaitReady(2*time.Minute))
	must(c.Converge(2 * time.Minute))
	check(t, c.CheckTrees())
	return judge(t, c, h)
}

// A home that was away dies again and again in the middle of its catch-up, and so
// does one of those that it pulls from. Each life goes on where the last one ended.
func TestFault19_KillsInTheMiddleOfCatchUp(t *testing.T) {
	for _, seed := range seeds(2) {
		in(t, sim.Options{Seed: seed}, func(t *testing.T, c *sim.Cluster) {
			h := sim.NewHistory()
			cl := must(c.Client(h, nil))
			defer cl.Close()
			load(t, cl, "before", 20)
			victim, source := int(seed%5), int(seed+1)%5
			m := c.Machines[victim]
			m.Stop()
			time.Sleep(time.Second) // its clients notice
			need := int64(0)
			for n := range 300 {
				key := fmt.Sprintf("missed%d", n)
				heavy(t, cl, h, key, 8<<10, client.Quorum)
				for _, home := range must(c.HomesOf(key)) {
					if home == victim {
						need++
					}
				}
			}
			narrow(c, victim, 200<<10)
			pulled := int64(0)
			for n := range 4 {
				check(t, m.Start())
				when(t, time.Minute, "it does not catch up", func() bool {
					s := own(c, m)
					return s != nil && s.Repair.PulledKeys > 0 && s.Repair.Missing > 0
				})
				if n == 2 {
					ends(c.Machines[source], n)
					check(t, c.Machines[source].Start())
				}
				pulled += own(c, m).Repair.PulledKeys
				ends(m, n)
			}
			check(t, m.Start())
			check(t, c.WaitReady(2*time.Minute))
			must(c.Converge(2 * time.Minute))
			if pulled += own(c, m).Repair.PulledKeys; pulled < need/2 || pulled > need*3/2 {
				t.Errorf("%d records pulled in five lives, of %d that were missed", pulled, need)
			}
			equalAndWhole(t, c, h)
		})
	}
}

// A node in the place of a lost disk dies again and again while it is filled. It
// counts for no read of what it lacks, and is whole in the end.
func TestFault19_KillsInTheMiddleOfARefill(t *testing.T) {
	for _, seed := range seeds(2) {
		in(t, sim.Options{Seed: seed}, func(t *testing.T, c *sim.Cluster) {
			h := sim.NewHistory()
			cl := must(c.Client(h, nil, 0, 1, 2, 3))
			defer cl.Close()
			const victim = 4
			for n := range 300 {
				heavy(t, cl, h, fmt.Sprintf("k%d", n), 8<<10, client.Quorum)
			}
			m := c.Machines[victim]
			m.LoseDisk()
			narrow(c, victim, 100<<10)
			middles := 0
			for n := range 4 {
				check(t, m.Start())
				var s *api.MemberStatus
				when(t, 2*time.Minute, "it is not filled", func() bool {
					s = own(c, m)
					return s != nil && s.Homes > 0 && (s.Repair.Lossy == 0 || m.Node().Store().Stats().Keys > int64(20*(n+1)))
				})
				if s.Repair.Lossy == 0 {
					break
				}
				middles++
				if s.State == "ready" {
					t.Errorf("it says of itself %q while %d partitions are lossy", s.State, s.Repair.Lossy)
				}
				for k := range 20 { // what it lacks is read from others
					read := cl.Get(fmt.Sprintf("k%d", k), client.Quorum, 10*time.Second)
					if want(t, read.Op, sim.Done); len(read.Saw) != 1 {
						t.Errorf("while it is filled: %v", read.Op)
					}
				}
				ends(m, n)
			}
			if middles < 2 {
				t.Errorf("%d deaths in the middle: that proves nothing", middles)
			}
			check(t, m.Start())
			equalAndWhole(t, c, h)
		})
	}
}

// Those who audit die in the middle of it, the one that asks as well as one that is
// asked. The next audit finds nothing that is wrong.
func TestFault19_KillsInTheMiddleOfAnAudit(t *testing.T) {
	in(t, sim.Options{Seed: 19, Partitions: 256}, func(t *testing.T, c *sim.Cluster) {
		h := sim.NewHistory()
		cl := must(c.Client(h, nil))
		defer cl.Close()
		load(t, cl, "k", 300)
		audit := func(m *sim.Machine, start bool) (*api.RepairResponse, error) {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			return api.Repair.Call(ctx, asker(c), m.Peer(), &api.RepairRequest{Start: start, Partition: api.AllPartitions})
		}
		for n := range 4 {
			asks, asked := c.Machines[0], c.Machines[1+n%2]
			narrow(c, 0, 20<<10)
			must(audit(asks, true))
			when(t, time.Minute, "no audit is under way", func() bool {
				resp := must(audit(asks, false))
				return resp.Running && resp.Done < resp.Partitions && (n == 0 || resp.Done > 0)
			})
			cl.Put(fmt.Sprintf("during%d", n), nil, client.Quorum, 5*time.Second)
			ends(asked, n)
			if n%2 == 1 {
				ends(asks, n)
				check(t, asks.Start())
			}
			check(t, asked.Start())
			check(t, c.WaitReady(2*time.Minute))
		}
		must(c.Converge(time.Minute))
		must(audit(c.Machines[0], true))
		when(t, 5*time.Minute, "the audit does not end", func() bool { return !must(audit(c.Machines[0], false)).Running })
		last := must(audit(c.Machines[0], false))
		if last.Done != last.Partitions || last.Skipped > 0 || last.Differences > 0 || len(last.Anomalies) > 0 {
			t.Errorf("the audit after all: %+v", last)
		}
		equalAndWhole(t, c, h)
	})
}

// recordsAt counts the records of all partitions on a machine's disk.
func recordsAt(c *sim.Cluster, m *sim.Machine) (n int) {
	for p := range ring.Partition(must(c.Ring()).Partitions) {
		_ = must(0, m.Node().Store().Scan(p, nil, 0, func(_, _ []byte) bool { n++; return true }))
	}
	return n
}

// Homes die in the middle of forgetting deletes, those that drive it among them.
// Nothing that was deleted comes back, and all of it is forgotten in the end.
func TestFault19_KillsInTheMiddleOfAPurge(t *testing.T) {
	for _, seed := range seeds(2) {
		in(t, sim.Options{Seed: seed, Nodes: 3, Pace: sim.Pace{Forget: 30 * time.Second}}, func(t *testing.T, c *sim.Cluster) {
			h := sim.NewHistory()
			cl := must(c.Client(h, nil))
			defer cl.Close()
			const keys = 300
			load(t, cl, "dead", keys)
			load(t, cl, "alive", 20)
			for n := range keys {
				key := fmt.Sprintf("dead%d", n)
				want(t, cl.Delete(key, cl.Get(key, client.Quorum, 5*time.Second), client.Quorum, 5*time.Second), sim.Done)
			}
			left := keys
			middles := 0
			for n := range 6 {
				m := c.Machines[n%3]
				when(t, 5*time.Minute, "nothing is forgotten", func() bool { return int(m.Node().Store().Stats().Keys)-20 < left })
				if left = recordsAt(c, m) - 20; left > 0 {
					middles++
				}
				ends(m, n)
				time.Sleep(100 * time.Millisecond)
				check(t, m.Start())
				check(t, c.WaitReady(time.Minute))
				if left == 0 {
					break
				}
			}
			if middles < 2 {
				t.Errorf("%d deaths in the middle: that proves nothing", middles)
			}
			for _, m := range c.Machines {
				waitUntil(t, 10*time.Minute, m.Name+" does not forget", func() bool { return m.Node().Store().Stats().Keys == 20 })
				if n := recordsAt(c, m); n != 20 {
					t.Errorf("%s has %d records, want 20", m.Name, n)
				}
			}
			equalAndWhole(t, c, h)
		})
	}
}

// The scrub finds rotten tables, and the process dies as soon as it has, before and
// after what was lost is filled again. Nothing is lost, and the copies are equal.
func TestFault19_KillsInTheMiddleOfQuarantine(t *testing.T) {
	for _, seed := range seeds(3) {
		in(t, sim.Options{Seed: seed, Pace: sim.Pace{Scrub: time.Minute}}, func(t *testing.T, c *sim.Cluster) {
			h := sim.NewHistory()
			cl := must(c.Client(h, nil))
			defer cl.Close()
			for n := range 300 {
				heavy(t, cl, h, fmt.Sprintf("k%d", n), 4<<10, client.Quorum)
			}
			victim := int(seed % 5)
			m := c.Machines[victim]
			narrow(c, victim, 1<<20)
			for n := range 3 {
				m.Stop()
				check(t, m.Start()) // all of it is in tables now
				check(t, c.WaitReady(time.Minute))
				rot(m, c.Chance(fmt.Sprint("rot", n)))
				when(t, 3*time.Minute, "nobody finds the rot", func() bool {
					health := m.Node().Store().Health()
					return len(health.Lossy) > 0 || health.LossyAll
				})
				time.Sleep(time.Duration(n*n) * 50 * time.Millisecond)
				ends(m, n)
				check(t, m.Start())
				check(t, c.WaitReady(2*time.Minute))
			}
			equalAndWhole(t, c, h)
		})
	}
}

// rot flips a bit in every 32 KiB of a machine's tables, but for their ends: what
// is known of the node itself stands behind the records.
func rot(m *sim.Machine, rng *rand.Rand) {
	for _, fd := range m.Disk.Files(storage.TypeTable) {
		for at := 0; at < m.Disk.Size(fd)/2; at += 32 << 10 {
			m.Disk.Flip(fd, at+rng.IntN(min(32<<10, m.Disk.Size(fd)/2-at)), 1<<rng.IntN(8))
		}
	}
}
