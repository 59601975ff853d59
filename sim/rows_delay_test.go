package sim_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
)

// Links that lose, repeat and reorder a third of everything: what is done is done
// once, no value is wrong, and throughput suffers but does not end.
func TestFault08_LossRepetitionAndReorderingChangeNoValue(t *testing.T) {
	for _, seed := range seeds(2) {
		serfTest(t, sim.Options{Seed: seed}, func(t *testing.T, c *sim.Cluster) {
			h := sim.NewHistory()
			stop := make(chan struct{})
			wg := storm(c, h, 20*time.Millisecond, stop)
			time.Sleep(2 * time.Second)
			calm := h.Count(sim.Done)
			c.Network.SetDefault(network.Link{Latency: 2 * time.Millisecond, Jitter: 50 * time.Millisecond, Loss: 0.3, Duplicate: 0.3})
			time.Sleep(20 * time.Second)
			bad := h.Count(sim.Done) - calm
			repeated := c.Network.Counts().Duplicated
			c.Network.SetDefault(network.Link{})
			close(stop)
			wg.Wait()
			if bad < 100 || bad/10 > calm {
				t.Errorf("%d done in 2 calm seconds, and %d in 20 bad ones", calm, bad)
			}
			if repeated < 100 {
				t.Errorf("%d messages were repeated: that proves nothing", repeated)
			}
			check(t, c.Heal())
			check(t, c.WaitReady(2*time.Minute))
			must(c.Converge(time.Minute))
			judge(t, c, h)
		})
	}
}

// One machine is 2 s away from all others: reads and writes that have enough
// others don't wait for it, every operation ends by its deadline, and what waits
// stays within bounds and comes to nothing.
func TestFault09_DelayedHomeHoldsUpNobodyElse(t *testing.T) {
	in(t, sim.Options{Seed: 9}, func(t *testing.T, c *sim.Cluster) {
		h := sim.NewHistory()
		clients := direct(c, h)
		defer closeAll(clients)
		const far = 4
		load(t, clients[0], "before", 20)
		check(t, c.CheckBounds())
		away := func(l network.Link) {
			for i := range far {
				c.Network.SetLink(c.Machines[i].Name, c.Machines[far].Name, l)
				c.Network.SetLink(c.Machines[far].Name, c.Machines[i].Name, l)
			}
		}
		away(network.Link{Latency: 2 * time.Second, Jitter: 500 * time.Millisecond})
		slow := 0
		for n := range 200 {
			at, key := n%far, fmt.Sprintf("far%d", n)
			put := clients[at].Put(key, nil, client.Quorum, 10*time.Second)
			want(t, put, sim.Done)
			get := clients[(n+1)%far].Get(key, client.Quorum, 10*time.Second)
			want(t, get.Op, sim.Done)
			// A put that comes to no home goes to the first one, near or far.
			homes := must(c.HomesOf(key))
			near := slices.Contains(homes, at) || homes[0] != far
			if get.Ended.Sub(get.Began) > 500*time.Millisecond || near && put.Ended.Sub(put.Began) > 500*time.Millisecond {
				slow++
				t.Logf("of homes %v: %v, %v", homes, put, get.Op)
			}
			check(t, c.CheckBounds())
		}
		if slow > 5 { // until it is known whom to ask first
			t.Errorf("%d of 200 writes and reads waited for a machine that was not needed", slow)
		}
		allInTime(t, c, h)
		away(network.Link{Latency: time.Millisecond, Jitter: time.Millisecond})
		check(t, c.CheckBounds())
		judge(t, c, h)
	})
}

// Everybody is 2 s away from everybody and back: who has the patience is served, who
// has not is told so in time, and what waits stays within bounds and comes to
// nothing.
func TestFault09_DelayOfAllHonoursDeadlines(t *testing.T) {
	in(t, sim.Options{Seed: 90}, func(t *testing.T, c *sim.Cluster) {
		h := sim.NewHistory()
		before := runtime.NumGoroutine()
		clients := direct(c, h)
		load(t, clients[0], "before", 20) // connections stand
		c.Network.SetDefault(network.Link{Latency: time.Second, Jitter: 500 * time.Millisecond})
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for i, cl := range clients {
			limit := time.Duration(1+3*i) * time.Second // from hopeless to patient
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					case <-time.After(100 * time.Millisecond):
					}
					cl.Put(fmt.Sprintf("%s.%d", cl.Name, n), nil, client.Quorum, limit)
				}
			})
		}
		for range 120 {
			time.Sleep(time.Second)
			if err := c.CheckBounds(); err != nil {
				t.Error(err)
			}
		}
		close(stop)
		wg.Wait()
		closeAll(clients)
		done := map[string]int{}
		for _, o := range h.Ops() {
			if o.Outcome == sim.Done {
				done[o.Client]++
			}
		}
		if done[clients[4].Name] == 0 || len(h.Ops()) == h.Count(sim.Done) {
			t.Errorf("%d operations, done by each client: %v", len(h.Ops()), done)
		}
		allInTime(t, c, h)
		c.Network.SetDefault(network.Link{})
		check(t, c.Heal())
		check(t, c.WaitReady(time.Minute))
		check(t, c.CheckRest(before))
		judge(t, c, h)
	})
}

// allInTime wants every write to have ended by its deadline.
func allInTime(t *testing.T, c *sim.Cluster, h *sim.History) {
	t.Helper()
	failed := 0
	for _, o := range h.Ops() {
		if o.Outcome != sim.Done {
			failed++
		}
		if late := o.Ended.Sub(o.Deadline); !o.Read && late > 50*time.Millisecond {
			t.Errorf("%v late: %v", late, o)
		}
	}
	t.Logf("%d operations, %d not done", len(h.Ops()), failed)
}

// A machine loses power: no FIN, no reset, nothing. With nobody writing, all others
// have noticed within ten seconds, and say so; what is asked then is not held up.
func TestFault11_SilentMachineIsNoticedWithinTenSeconds(t *testing.T) {
	for name, o := range map[string]sim.Options{"scripted": {Seed: 11, Partitions: 64}, "serf": {Seed: 11, Partitions: 64, Serf: true}} {
		t.Run(name, func(t *testing.T) {
			in(t, o, func(t *testing.T, c *sim.Cluster) {
				h := sim.NewHistory()
				clients := direct(c, h)
				defer closeAll(clients)
				load(t, clients[0], "before", 20)
				time.Sleep(10 * time.Second) // connections stand and are idle
				const gone = 2
				c.Machines[gone].PowerCut()
				began := time.Now()
				for _, i := range []int{0, 1, 3, 4} {
					waitUntil(t, 10*time.Second-time.Since(began), c.Machines[i].Name+" still calls it reachable", func() bool {
						return !slices.Contains(sees(t, c, i), gone)
					})
				}
				t.Logf("all have noticed after %v", time.Since(began))
				for n := range 40 {
					at := []int{0, 1, 3, 4}[n%4]
					op := clients[at].Put(fmt.Sprintf("gone%d", n), nil, client.Quorum, 5*time.Second)
					if want(t, op, sim.Done); op.Ended.Sub(op.Began) > time.Second {
						t.Errorf("held up: %v", op)
					}
				}
				clients[gone].Close()
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				if _, err := clients[0].Client.Get(ctx, []byte("before0"), client.Quorum); err != nil {
					t.Error(err)
				}
				judge(t, c, h)
			})
		})
	}
}
