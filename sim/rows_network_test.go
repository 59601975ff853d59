package sim_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
)

// apart cuts the machines of two groups from each other, both ways, link by link:
// others still hear both.
func apart(c *sim.Cluster, a, b []int) {
	for _, x := range a {
		for _, y := range b {
			c.Cut(x, y)
			c.Cut(y, x)
		}
	}
}

// sees are the machines that one machine calls reachable.
func sees(t *testing.T, c *sim.Cluster, machine int) []int {
	t.Helper()
	var out []int
	for _, m := range must(c.Status(machine)).Members {
		if i := slices.IndexFunc(c.Machines, func(o *sim.Machine) bool { return o.Name == m.Name }); m.Reachable && i >= 0 {
			out = append(out, i)
		}
	}
	slices.Sort(out)
	return out
}

// canServe says that a coordinator has a quorum for a key: it is a home that
// reaches one, or it reaches a home that does.
func canServe(homes []int, at int, reach func(int) []int) bool {
	quorum := func(home int) bool {
		n := 0
		for _, h := range homes {
			if slices.Contains(reach(home), h) {
				n++
			}
		}
		return n > len(homes)/2
	}
	if slices.Contains(homes, at) && quorum(at) {
		return true
	}
	return slices.ContainsFunc(homes, func(h int) bool { return slices.Contains(reach(at), h) && quorum(h) })
}

// Two sides that don't hear each other, and one machine that hears both: it stays
// in everybody's view and serves every key, everybody's own view of who can be
// reached is the truth, keys that a side can serve are served there, and the ring
// does not move.
func TestFault03_BridgeIsNotCalledDeadAndServesEveryKey(t *testing.T) {
	serfTest(t, sim.Options{Seed: 3, Partitions: 64}, func(t *testing.T, c *sim.Cluster) {
		h := sim.NewHistory()
		clients := direct(c, h)
		defer closeAll(clients)
		load(t, clients[0], "before", 20)
		epoch := must(c.Ring()).Epoch
		left, bridge, right := []int{0, 1}, 2, []int{3, 4}
		reach := func(i int) []int {
			switch {
			case i < bridge:
				return []int{0, 1, 2}
			case i > bridge:
				return []int{2, 3, 4}
			}
			return five
		}
		apart(c, left, right)
		for i := range c.Machines {
			waitUntil(t, 30*time.Second, fmt.Sprintf("%s does not see whom it reaches", c.Machines[i].Name), func() bool {
				return slices.Equal(sees(t, c, i), reach(i))
			})
		}
		served, refused := 0, 0
		for n := range 60 {
			for i := range c.Machines { // the view is steady all the time
				if got := sees(t, c, i); !slices.Equal(got, reach(i)) {
					t.Fatalf("after %d s, %s reaches %v, want %v", n, c.Machines[i].Name, got, reach(i))
				}
			}
			at, key := n%5, fmt.Sprintf("cut%d", n)
			able := canServe(must(c.HomesOf(key)), at, reach)
			if at == bridge && !able {
				t.Fatalf("the bridge is thought not to serve %s of %v", key, must(c.HomesOf(key)))
			}
			outcome := sim.Refused
			if able {
				outcome = sim.Done
				served++
			} else {
				refused++
			}
			want(t, clients[at].Put(key, nil, client.Quorum, 5*time.Second), outcome)
			want(t, clients[bridge].Get(key, client.Quorum, 5*time.Second).Op, sim.Done)
			time.Sleep(time.Second)
		}
		if served < 30 || refused < 3 {
			t.Errorf("%d served and %d refused: the bridge proves nothing", served, refused)
		}
		if r := must(c.Ring()); r.Epoch != epoch {
			t.Errorf("the ring moved from epoch %d to %d", epoch, r.Epoch)
		}
		judge(t, c, h)
	})
}

// asker asks machines what only they can tell. Nothing is ever cut from it.
func asker(c *sim.Cluster) *network.Host {
	return c.Network.HostNamed("asker", rpc.Peer{Addr: "10.0.3.1:1"}, nil)
}

// ringOf is the record that one machine holds; nil for none, or no answer.
func ringOf(c *sim.Cluster, m *sim.Machine) *ring.Record {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	resp, err := api.Ring.Call(ctx, asker(c), m.Peer(), &api.RingRequest{})
	if err != nil || resp.Record == nil {
		return nil
	}
	return must(ring.Decode(resp.Record))
}

// recordsOf collects, by epoch, what machines hold, and wants one record for each.
func recordsOf(t *testing.T, c *sim.Cluster, known map[uint64]string) uint64 {
	t.Helper()
	newest := uint64(0)
	for _, m := range c.Machines {
		if !m.Running() {
			continue
		}
		r := ringOf(c, m)
		if r == nil {
			continue
		}
		encoded := string(r.Encode())
		if before, ok := known[r.Epoch]; ok && before != encoded {
			t.Fatalf("%s holds another record of epoch %d than somebody else", m.Name, r.Epoch)
		}
		known[r.Epoch] = encoded
		newest = max(newest, r.Epoch)
	}
	return newest
}

// inRing cuts machines so that each hears only its two neighbours in a circle.
func inRing(c *sim.Cluster, circle []int) {
	for a := range circle {
		for b := a + 2; b < len(circle); b++ {
			if a > 0 || b < len(circle)-1 {
				apart(c, circle[a:a+1], circle[b:b+1])
			}
		}
	}
}

// Each machine hears two neighbours, no more. No side has a majority of the seven
// keepers, so a member that wants to join is kept waiting, and says so; no epoch
// gets two records. Healed, it joins.
func TestFault04_CircleOfNeighboursDecidesNothingTwice(t *testing.T) {
	circle := []int{0, 1, 2, 3, 4, 5, 6}
	const joins = 7
	circled(t, circle, []int{joins}, func(t *testing.T, c *sim.Cluster, known map[uint64]string) {
		before := recordsOf(t, c, known)
		apart(c, []int{joins}, []int{1, 2, 3, 4, 5}) // it hears 6 and 0, who are neighbours
		check(t, c.Machines[joins].Start())
		for range 60 {
			time.Sleep(time.Second)
			if now := recordsOf(t, c, known); now != before {
				t.Fatalf("epoch %d was decided by nobody's majority; it was %d", now, before)
			}
		}
		status := must(c.Status(joins))
		if status.Ready || status.Reason == "" {
			t.Errorf("who cannot join says ready: %v, %q", status.Ready, status.Reason)
		}
	})
}

// Where three of five keepers are in touch, two changes at opposite ends of the
// circle may both be made, one after the other, and never two for one epoch.
func TestFault04_ChangesAtBothEndsOfACircleAreOneSequence(t *testing.T) {
	circled(t, five, []int{5, 6}, func(t *testing.T, c *sim.Cluster, known map[uint64]string) {
		apart(c, []int{5}, []int{2, 3, 4, 6}) // it hears 0 and 1
		apart(c, []int{6}, []int{0, 1, 4, 5}) // it hears 2 and 3
		check(t, c.Machines[5].Start())
		check(t, c.Machines[6].Start())
		for range 60 {
			time.Sleep(time.Second)
			recordsOf(t, c, known)
		}
	})
}

// circled founds a cluster of a circle, cuts it into neighbours, has something
// done to it, and heals it: then everybody is a member, by one record. Writes go
// on all the time.
func circled(t *testing.T, circle, later []int, during func(t *testing.T, c *sim.Cluster, known map[uint64]string)) {
	sim.Bubble(t, func(t *testing.T) {
		o := sim.Options{Seed: 4, Nodes: len(circle) + len(later), Replicas: 3, Partitions: 32, Serf: true}
		o.Node = func(i int, cfg *node.Config) {
			cfg.Expect = len(circle)
			if slices.Contains(later, i) { // neighbours of each other, beside it in the circle
				cfg.Join = []string{fmt.Sprintf("10.0.0.%d:7600", 1+(i-len(circle))*2)}
			}
		}
		c := must(sim.NewCluster(o))
		defer c.Close()
		defer func() {
			if t.Failed() {
				t.Log(c.Log())
			}
		}()
		for _, i := range later {
			c.Machines[i].Stop()
		}
		check(t, c.WaitReady(time.Minute))
		h := sim.NewHistory()
		var clients []*sim.Client
		for _, i := range circle {
			clients = append(clients, must(c.Direct(h, i)))
		}
		defer closeAll(clients)
		load(t, clients[0], "before", 20)
		known := map[uint64]string{}
		recordsOf(t, c, known)
		inRing(c, circle)
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for i, cl := range clients {
			wg.Go(func() { fight(cl, stop, time.Duration(500+10*i)*time.Millisecond) })
		}
		end := sync.OnceFunc(func() { close(stop); wg.Wait() })
		defer end() // also after a failure
		during(t, c, known)
		end()
		check(t, c.Heal())
		waitUntil(t, 2*time.Minute, "not everybody is a member", func() bool {
			recordsOf(t, c, known)
			return len(must(c.Ring()).Members) == len(c.Machines)
		})
		judge(t, c, h)
		newest := recordsOf(t, c, known)
		for _, m := range c.Machines {
			if r := ringOf(c, m); r == nil || r.Epoch != newest {
				t.Errorf("%s does not hold the record of epoch %d", m.Name, newest)
			}
		}
	})
}

// What one machine sends to another is lost, and nothing else. Both notice, for
// neither gets answers of the other; nobody else doubts either of them; each pays
// a few slow operations, and then asks others.
func TestFault05_OneWayLossIsPaidForOnceAndRoutedAround(t *testing.T) {
	serfTest(t, sim.Options{Seed: 5}, func(t *testing.T, c *sim.Cluster) {
		h := sim.NewHistory()
		clients := direct(c, h)
		defer closeAll(clients)
		load(t, clients[0], "before", 20)
		from, to := 0, 4
		c.Cut(from, to)
		slow := map[int]int{}
		last := map[int]time.Time{}
		for n := range 300 {
			at := []int{from, to, 2}[n%3]
			began := time.Now()
			key := fmt.Sprintf("cut%d", n)
			op := clients[at].Put(key, nil, client.Quorum, 5*time.Second)
			if op.Outcome == sim.Done {
				op = clients[at].Get(key, client.Quorum, 5*time.Second).Op
			}
			if op.Outcome != sim.Done || time.Since(began) > time.Second {
				slow[at]++
				last[at] = time.Now()
			}
			if n == 100 {
				for i := range c.Machines {
					missed := map[int]int{from: to, to: from}
					got := sees(t, c, i)
					if other, ok := missed[i]; ok == slices.Contains(got, other) && ok {
						t.Errorf("%s still calls %s reachable", c.Machines[i].Name, c.Machines[other].Name)
					} else if !ok && len(got) != 5 {
						t.Errorf("%s, whose links are whole, reaches only %v", c.Machines[i].Name, got)
					}
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		if slow[2] > 0 || slow[from] > 4 || slow[to] > 4 {
			t.Errorf("slow or failed through each machine: %v, the last at %v", slow, last)
		}
		judge(t, c, h)
	})
}

// A machine that comes and goes every second, for a minute: the ring does not
// move, logs stay short, repair does not run hot, stand-ins are those of the writes
// that wanted them, and all are gone soon after.
func TestFault06_FlappingLinkMovesNothingAndStormsNobody(t *testing.T) {
	var mu sync.Mutex
	asked := map[string]int{} // requests, by route
	o := sim.Options{Seed: 6}
	o.Network.Trace = func(e network.Event) {
		if e.What == "sent" {
			mu.Lock()
			asked[e.Note]++
			mu.Unlock()
		}
	}
	repairs := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for route, sent := range asked {
			if strings.HasPrefix(route, "ae.") {
				n += sent
			}
		}
		return n
	}
	serfTest(t, o, func(t *testing.T, c *sim.Cluster) {
		h := sim.NewHistory()
		clients := direct(c, h)
		defer closeAll(clients)
		load(t, clients[0], "before", 20)
		epoch, said, before := must(c.Ring()).Epoch, strings.Count(c.Log(), "\n"), repairs()
		sloppy, standIns := 0, int64(0)
		for second := range 60 {
			if second%2 == 0 {
				c.Isolate(3)
			} else {
				c.Network.Heal()
			}
			for n := range 10 {
				op := clients[n%3].Write(sim.Write{Key: fmt.Sprintf("flap%d.%d", second, n), Level: client.Quorum,
					Limit: 500 * time.Millisecond, Sloppy: true})
				if op.Sloppy {
					sloppy++
				}
				time.Sleep(max(0, 100*time.Millisecond-time.Since(op.Began)))
			}
			for i := range c.Machines {
				standIns = max(standIns, c.Machines[i].Node().Store().Stats().StandIns)
			}
		}
		lines, sent := strings.Count(c.Log(), "\n")-said, repairs()-before
		if lines > 60 {
			t.Errorf("%d lines in a minute of flapping", lines)
		}
		if sent > 20*60 { // of 20 pairs, a quiet one asks every 3 s
			t.Errorf("%d requests of repair in a minute of flapping", sent)
		}
		if sloppy == 0 || standIns > 60 {
			t.Errorf("%d sloppy writes of 600, at most %d stand-ins at one machine", sloppy, standIns)
		}
		c.Network.Heal()
		check(t, c.WaitReady(time.Minute))
		must(c.Converge(time.Minute))
		if r := must(c.Ring()); r.Epoch != epoch {
			t.Errorf("the ring moved from epoch %d to %d", epoch, r.Epoch)
		}
		judge(t, c, h)
	})
}
