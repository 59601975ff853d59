package sim_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/sim/network"
)

// storm has as many clients as machines write until stop is closed, with a pause
// between two writes of one.
func storm(c *sim.Cluster, h *sim.History, pause time.Duration, stop <-chan struct{}) *sync.WaitGroup {
	var wg sync.WaitGroup
	for range c.Machines {
		cl := must(c.Client(h, nil))
		wg.Go(func() {
			defer cl.Close()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(pause):
				}
				cl.Put(fmt.Sprintf("%s.%d", cl.Name, n), nil, client.Quorum, 2*time.Second)
			}
		})
	}
	return &wg
}

func TestFault21_AllKilledAtOnceAndRestartedInAnyOrder(t *testing.T) {
	for _, seed := range seeds(3) {
		in(t, sim.Options{Seed: seed}, func(t *testing.T, c *sim.Cluster) {
			endAll(t, c, seed, (*sim.Machine).Kill)
		})
	}
}

func TestFault36_PowerCutOfAllLosesNothingAcknowledged(t *testing.T) {
	for _, seed := range seeds(3) {
		in(t, sim.Options{Seed: seed}, func(t *testing.T, c *sim.Cluster) {
			endAll(t, c, seed, (*sim.Machine).PowerCut)
		})
	}
}

func endAll(t *testing.T, c *sim.Cluster, seed uint64, end func(*sim.Machine)) {
	h := sim.NewHistory()
	stop := make(chan struct{})
	wg := storm(c, h, 0, stop)
	time.Sleep(500 * time.Millisecond)
	for _, m := range c.Machines {
		end(m)
	}
	close(stop)
	wg.Wait()
	rng := rand.New(rand.NewPCG(seed, 21))
	for _, i := range rng.Perm(len(c.Machines)) {
		check(t, c.Machines[i].Start())
		time.Sleep(time.Duration(rng.Int64N(int64(2 * time.Second))))
	}
	if h.Count(sim.Done) < 50 {
		t.Fatalf("%d puts were acknowledged before: that proves nothing", h.Count(sim.Done))
	}
	judge(t, c, h)
}

func TestFault36_PowerCutOfOneLosesNothingAndStopsNobody(t *testing.T) {
	for _, seed := range seeds(3) {
		in(t, sim.Options{Seed: seed}, func(t *testing.T, c *sim.Cluster) {
			h := sim.NewHistory()
			stop := make(chan struct{})
			wg := storm(c, h, 200*time.Millisecond, stop)
			victim := c.Machines[seed%5]
			time.Sleep(3 * time.Second)
			victim.PowerCut()
			time.Sleep(30 * time.Second)
			before := h.Count(sim.Done)
			time.Sleep(2 * time.Second)
			if during := h.Count(sim.Done) - before; during < 25 {
				t.Errorf("%d puts acknowledged in two seconds with one machine down", during)
			}
			check(t, victim.Start())
			time.Sleep(5 * time.Second)
			close(stop)
			wg.Wait()
			judge(t, c, h)
		})
	}
}

// Under load, with batches under way: an fsync that fails once, or a disk that is
// full, leaves writes done, refused or unknown, and never calls one refused that
// other homes were given. The node comes back by itself.
func TestFault31_FsyncErrorsUnderLoadAreToldTruthfully(t *testing.T) {
	for _, seed := range seeds(3) {
		in(t, sim.Options{Seed: seed}, func(t *testing.T, c *sim.Cluster) {
			brokenUnderLoad(t, c, func(m *sim.Machine, rng *rand.Rand) {
				m.Disk.FailSync(disk.Of(storage.TypeJournal), 1, rng.IntN(2) == 0, disk.ErrIO)
			})
		})
	}
}

func TestFault30_FullDisksUnderLoadAreToldTruthfully(t *testing.T) {
	for _, seed := range seeds(3) {
		in(t, sim.Options{Seed: seed}, func(t *testing.T, c *sim.Cluster) {
			brokenUnderLoad(t, c, func(m *sim.Machine, rng *rand.Rand) {
				m.Disk.SetCapacity(m.Disk.Bytes() + rng.Int64N(2000))
			})
		})
	}
}

func TestFault38_ReadOnlyDisksUnderLoadAreToldTruthfully(t *testing.T) {
	for _, seed := range seeds(2) {
		in(t, sim.Options{Seed: seed}, func(t *testing.T, c *sim.Cluster) {
			brokenUnderLoad(t, c, func(m *sim.Machine, _ *rand.Rand) { m.Disk.ReadOnly(true) })
		})
	}
}

// One process after the other is killed and started in the middle of a storm of
// puts; the others go on.
func TestFault18_KillsDuringAPutStorm(t *testing.T) {
	for _, seed := range seeds(3) {
		in(t, sim.Options{Seed: seed}, func(t *testing.T, c *sim.Cluster) {
			h := sim.NewHistory()
			rng := c.Chance("kills")
			stop := make(chan struct{})
			wg := storm(c, h, 20*time.Millisecond, stop)
			for range 10 {
				time.Sleep(time.Duration(rng.Int64N(int64(300 * time.Millisecond))))
				m := c.Machines[rng.IntN(len(c.Machines))]
				m.Kill()
				time.Sleep(time.Duration(rng.Int64N(int64(300 * time.Millisecond))))
				check(t, m.Start())
			}
			close(stop)
			wg.Wait()
			judge(t, c, h)
		})
	}
}

// Connections that break in the middle of what they carry leave outcomes open,
// and nothing is done twice.
func TestFault12_ResetsInTheMiddleOfAStorm(t *testing.T) {
	for _, seed := range seeds(3) {
		o := sim.Options{Seed: seed}
		o.Network.Link = network.Link{Latency: time.Millisecond, Jitter: time.Millisecond}
		in(t, o, func(t *testing.T, c *sim.Cluster) {
			h := sim.NewHistory()
			stop := make(chan struct{})
			wg := storm(c, h, 20*time.Millisecond, stop)
			time.Sleep(time.Second)
			broken := o.Network.Link
			broken.Reset = 0.02
			c.Network.SetDefault(broken)
			time.Sleep(5 * time.Second)
			close(stop)
			wg.Wait()
			c.Network.SetDefault(o.Network.Link)
			if h.Count(sim.Unknown) == 0 || h.Count(sim.Done) < 50 {
				t.Errorf("%d done, %d unknown: the resets prove nothing", h.Count(sim.Done), h.Count(sim.Unknown))
			}
			judge(t, c, h)
		})
	}
}

func brokenUnderLoad(t *testing.T, c *sim.Cluster, fault func(*sim.Machine, *rand.Rand)) {
	h := sim.NewHistory()
	rng := c.Chance("broken")
	for _, m := range c.Machines {
		m.Disk.SetSyncDelay(func() time.Duration { return 20 * time.Millisecond })
	}
	stop := make(chan struct{})
	var loads []*sync.WaitGroup
	for range 6 {
		loads = append(loads, storm(c, h, 10*time.Millisecond, stop))
	}
	for range 8 {
		time.Sleep(time.Duration(rng.Int64N(int64(200 * time.Millisecond))))
		fault(c.Machines[rng.IntN(len(c.Machines))], rng)
	}
	close(stop)
	for _, wg := range loads {
		wg.Wait()
	}
	if h.Count(sim.Unknown) == 0 || h.Count(sim.Done) < 100 {
		t.Errorf("%d done, %d unknown: the faults prove nothing", h.Count(sim.Done), h.Count(sim.Unknown))
	}
	judge(t, c, h)
}

// A disk that says synced and is not: what the checkers are for.
func TestCheckersNoticeADiskThatLies(t *testing.T) {
	in(t, sim.Options{Seed: 5}, func(t *testing.T, c *sim.Cluster) {
		h := sim.NewHistory()
		cl := must(c.Client(h, nil))
		defer cl.Close()
		for _, m := range c.Machines {
			m.Disk.Lie(true)
		}
		load(t, cl, "k", 30)
		for _, m := range c.Machines {
			m.PowerCut()
		}
		check(t, c.Heal())
		if err := c.WaitReady(time.Minute); err != nil {
			return // the nodes have noticed themselves, and don't vouch for reads
		}
		final, err := c.Final(h, time.Minute)
		if err == nil {
			err = sim.Check(h, final)
		}
		if err == nil {
			t.Fatal("writes that were never synced survived, or nobody noticed")
		}
	})
}

// A network that delivers puts twice, which no TCP does: what the checkers are
// for.
func TestCheckersNoticePutsThatAreMintedTwice(t *testing.T) {
	o := sim.Options{Seed: 6}
	o.Network.Link = network.Link{Latency: time.Millisecond, Jitter: 5 * time.Millisecond, Duplicate: 0.5}
	o.Network.Duplicable = func(string) bool { return true }
	in(t, o, func(t *testing.T, c *sim.Cluster) {
		if _, err := c.Play(sim.Story{Faults: []sim.Fault{}, Clients: 6}); err == nil {
			t.Fatal("nobody noticed")
		} else if !strings.Contains(err.Error(), "twice") && !strings.Contains(err.Error(), "backwards") && !strings.Contains(err.Error(), "shown") {
			t.Fatalf("noticed as something else: %v", err)
		}
	})
}
