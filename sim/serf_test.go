package sim_test

import (
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
)

// serfTest plays f on a cluster whose nodes find one another by real serf.
func serfTest(t *testing.T, o sim.Options, f func(t *testing.T, c *sim.Cluster)) {
	t.Helper()
	o.Serf = true
	in(t, o, f)
}

// awaitViews waits until every machine of each side sees exactly its side as
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

var five = []int{0, 1, 2, 3, 4}

// underLoad has clients write while a fault lasts. Then everything heals by
// itself, and nothing is lost. It wants a share of the writes done while the
// fault was on, after the first ten seconds of it.
func underLoad(t *testing.T, c *sim.Cluster, share float64, fault, end func()) {
	t.Helper()
	h := sim.NewHistory()
	stop := make(chan struct{})
	wg := storm(c, h, 200*time.Millisecond, stop)
	defer func() {
		close(stop)
		wg.Wait()
		judge(t, c, h)
	}()
	time.Sleep(5 * time.Second)
	calm := len(h.Ops())
	if h.Count(sim.Done) < calm-5 { // one of each client is on its way
		t.Fatalf("%d of %d done before the fault", h.Count(sim.Done), calm)
	}
	fault()
	time.Sleep(10 * time.Second)
	ops, done := len(h.Ops()), h.Count(sim.Done)
	time.Sleep(30 * time.Second)
	ops, done = len(h.Ops())-ops, h.Count(sim.Done)-done
	t.Logf("%d of %d done while the fault was on", done, ops)
	if ops < 100 || float64(done) < share*float64(ops) {
		t.Errorf("%d of %d done while the fault was on, want %.0f of 100", done, ops, 100*share)
	}
	end()
	t.Logf("all see all %v after it", awaitViews(t, c, time.Minute, five))
	time.Sleep(2 * time.Second) // circuits close
	ops, done = len(h.Ops()), h.Count(sim.Done)
	time.Sleep(5 * time.Second)
	ops, done = len(h.Ops())-ops, h.Count(sim.Done)-done
	if ops < 50 || done < ops-5 {
		t.Errorf("%d of %d done after the fault", done, ops)
	}
}

func TestSerf_HalvesServeTheKeysTheyHaveAQuorumOf(t *testing.T) {
	serfTest(t, sim.Options{Seed: 40}, func(t *testing.T, c *sim.Cluster) {
		cutAndServe(t, c, []int{0, 1}, []int{2, 3, 4})
	})
}

// Serf never reports a link that is cut one way: others answer for the peer.
// Circuits notice, and keys of which it is a home are served by the others.
func TestSerf_OneWayCutStopsNobody(t *testing.T) {
	serfTest(t, sim.Options{Seed: 41}, func(t *testing.T, c *sim.Cluster) {
		underLoad(t, c, 0.99, func() { c.Cut(0, 4) }, c.Network.Heal)
	})
}

// A machine that hears nobody is called failed by all, and doubts them too.
func TestSerf_DeafMachineIsLeftAsideAndComesBack(t *testing.T) {
	serfTest(t, sim.Options{Seed: 42}, func(t *testing.T, c *sim.Cluster) {
		underLoad(t, c, 0.9, func() {
			for _, m := range five[1:] {
				c.Cut(m, 0)
			}
		}, c.Network.Heal)
	})
}

func TestSerf_KilledMachineIsNoticedAndComesBack(t *testing.T) {
	serfTest(t, sim.Options{Seed: 43}, func(t *testing.T, c *sim.Cluster) {
		underLoad(t, c, 0.99, func() {
			c.Machines[2].Kill()
			t.Logf("killed, noticed after %v", awaitSide(t, c, []int{0, 1, 3, 4}))
		}, func() { check(t, c.Machines[2].Start()) })
	})
}

// awaitSide waits until the machines of a side see only each other.
func awaitSide(t *testing.T, c *sim.Cluster, side []int) time.Duration {
	t.Helper()
	return awaitViews(t, c, 30*time.Second, side)
}

func TestSerf_PausedMachineIsNoticedAndWakes(t *testing.T) {
	serfTest(t, sim.Options{Seed: 44}, func(t *testing.T, c *sim.Cluster) {
		underLoad(t, c, 0.99, func() {
			c.Machines[1].Pause()
			t.Logf("paused, noticed after %v", awaitSide(t, c, []int{0, 2, 3, 4}))
		}, c.Machines[1].Resume)
	})
}

// A link that comes and goes every second or two: views lag behind, and what
// they say must not matter for what was promised.
func TestSerf_FlappingMachineLosesNothing(t *testing.T) {
	serfTest(t, sim.Options{Seed: 45}, func(t *testing.T, c *sim.Cluster) {
		rng := c.Chance("flap")
		stop, done := make(chan struct{}), make(chan struct{})
		underLoad(t, c, 0.7, func() {
			go func() {
				defer close(done)
				for up := false; ; up = !up {
					if up {
						c.Network.Heal()
					} else {
						c.Isolate(3)
					}
					select {
					case <-time.After(time.Second + time.Duration(rng.Int64N(int64(2*time.Second)))):
					case <-stop:
						return
					}
				}
			}()
		}, func() {
			close(stop)
			<-done
			c.Network.Heal()
		})
	})
}

// A firewall that lets only TCP through: serf falls back to it, or calls peers
// failed that are there. Requests go on.
func TestFault07_SerfWithoutDatagramsStopsNobody(t *testing.T) {
	serfTest(t, sim.Options{Seed: 46}, func(t *testing.T, c *sim.Cluster) {
		underLoad(t, c, 0.99, func() {
			for _, m := range five[1:] {
				c.Network.Mute(c.Machines[0].Name, c.Machines[m].Name)
				c.Network.Mute(c.Machines[m].Name, c.Machines[0].Name)
			}
		}, c.Network.Heal)
	})
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
		t.Logf("whole again after %v", awaitViews(t, c, 2*time.Minute, five))
		load(t, clients[4], "after", 10)
		judge(t, c, h)
	})
}

// The founder has no seed but its peer book.
func TestFault36_SerfFindsAllAgainAfterAPowerCutOfAll(t *testing.T) {
	serfTest(t, sim.Options{Seed: 47}, func(t *testing.T, c *sim.Cluster) {
		endAll(t, c, 47, (*sim.Machine).PowerCut)
	})
}

func TestFault14_SerfFindsAMachineAtItsNewAddress(t *testing.T) {
	serfTest(t, sim.Options{Seed: 48}, movedMachine)
}

func TestFault14_MachineIsReachedAtItsNewAddress(t *testing.T) {
	in(t, sim.Options{Seed: 48}, movedMachine)
}

// movedMachine loses power and comes back elsewhere, after all circuits to it
// have opened.
func movedMachine(t *testing.T, c *sim.Cluster) {
	h := sim.NewHistory()
	cl := must(c.Client(h, nil, 0, 1))
	defer cl.Close()
	load(t, cl, "before", 20)
	moved := c.Machines[3]
	moved.PowerCut()
	awaitSide(t, c, []int{0, 1, 2, 4})
	moved.Addr = "10.0.9.9:7600"
	check(t, moved.Start())
	t.Logf("all see all %v after the move", awaitViews(t, c, time.Minute, five))
	want(t, cl.Put("after", nil, client.All, 5*time.Second), sim.Done)
	judge(t, c, h)
}

// Whatever befalls a cluster, views being serf's own: the same promises hold as
// with scripted ones.
func TestSerf_StoriesOfAllFaults(t *testing.T) {
	playAll(t, 8, sim.Options{Serf: true}, sim.Story{Length: 30 * time.Second})
}
