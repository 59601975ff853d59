package sim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
)

// nowhere checks that no home has a value of the key.
func nowhere(t *testing.T, c *sim.Cluster, key string) {
	t.Helper()
	readers := direct(c, nil)
	defer closeAll(readers)
	for _, home := range must(c.HomesOf(key)) {
		read := readers[home].Get(key, client.One, 5*time.Second)
		if read.Outcome != sim.Done || len(read.Saw) > 0 {
			t.Fatalf("home %s: %v", c.Machines[home].Name, read)
		}
	}
}

// A forward whose answer is lost was carried out: the outcome is unknown, no
// second home is asked, and the write is there once. Either the deadline ends
// the wait, or the connection breaks long before it.
func TestForwardThatTimesOutAfterItArrivedIsMintedOnce(t *testing.T) {
	for _, limit := range []time.Duration{2 * time.Second, 30 * time.Second} {
		forwards := 0
		o := sim.Options{Seed: 1}
		o.Network.Trace = func(e network.Event) {
			if e.What == "delivered" && e.Note == "kv.put" && strings.HasPrefix(e.From, "n") {
				forwards++
			}
		}
		in(t, o, func(t *testing.T, c *sim.Cluster) {
			h := sim.NewHistory()
			key, homes := keyWith(t, c, func(homes []int) bool { return !slices.Contains(homes, 0) })
			cl := must(c.Direct(h, 0))
			defer cl.Close()
			want(t, cl.Put(key, nil, client.Quorum, time.Second), sim.Done) // connections stand
			read := cl.Get(key, client.Quorum, time.Second)
			before := forwards
			for _, home := range homes {
				c.Cut(home, 0)
			}
			op := cl.Put(key, read, client.Quorum, limit)
			want(t, op, sim.Unknown)
			if forwards != before+1 {
				t.Fatalf("forwarded %d times, want once", forwards-before)
			}
			if took := op.Ended.Sub(op.Began); limit > 20*time.Second && took > 15*time.Second {
				t.Fatalf("the broken connection was noticed after %v", took)
			}
			final := judge(t, c, h)
			if got := final[key]; len(got) != 1 || got[0] != op.Value {
				t.Fatalf("the key shows %v, want %s once", got, op.Value)
			}
		})
	}
}

// A put that waited at a stopped process is not minted behind its deadline.
func TestFault20_PausedHomeWakesWithAnExpiredPut(t *testing.T) {
	in(t, sim.Options{Seed: 2}, func(t *testing.T, c *sim.Cluster) {
		h := sim.NewHistory()
		key, homes := keyWith(t, c, func(homes []int) bool { return true })
		home := homes[0]
		cl := must(c.Direct(h, home))
		defer cl.Close()
		want(t, cl.Get(key, client.One, time.Second).Op, sim.Done) // the connection stands
		c.Machines[home].Pause()
		want(t, cl.Put(key, nil, client.One, 2*time.Second), sim.Unknown)
		time.Sleep(time.Minute)
		c.Machines[home].Resume()
		time.Sleep(10 * time.Second)
		nowhere(t, c, key)
		judge(t, c, h)
	})
}

// A process that sleeps for a minute and wakes neither serves what is stale at
// quorum, nor loses anything, nor needs help to come back.
func TestFault20_PauseForAMinute(t *testing.T) {
	for _, seed := range seeds(3) {
		in(t, sim.Options{Seed: seed}, func(t *testing.T, c *sim.Cluster) {
			h := sim.NewHistory()
			clients := direct(c, h)
			defer closeAll(clients)
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for i, cl := range clients {
				wg.Go(func() { fight(cl, stop, time.Duration(100+10*i)*time.Millisecond) })
			}
			time.Sleep(2 * time.Second)
			victim := c.Machines[seed%5]
			victim.Pause()
			time.Sleep(time.Minute)
			victim.Resume()
			time.Sleep(5 * time.Second)
			close(stop)
			wg.Wait()
			judge(t, c, h)
		})
	}
}

// fight reads and writes two keys by turns, with contexts.
func fight(cl *sim.Client, stop <-chan struct{}, pause time.Duration) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
		key := fmt.Sprintf("fought%d", n%2)
		if read := cl.Get(key, client.Quorum, time.Second); read.Context != nil {
			cl.Put(key, read, client.Quorum, time.Second)
		}
	}
}

// A clock an hour ahead: its node takes no writes of its own, others name it,
// and everything converges, also what it wrote before anybody had noticed.
func TestClockAnHourAheadIsNamedAndConverges(t *testing.T) {
	in(t, sim.Options{Seed: 3}, func(t *testing.T, c *sim.Cluster) {
		h := sim.NewHistory()
		clients := direct(c, h)
		defer closeAll(clients)
		wrong := c.Machines[2]
		wrong.Clock.Set(time.Hour)
		for n := range 10 { // perhaps before it is noticed
			clients[2].Put(fmt.Sprintf("early%d", n), nil, client.Quorum, time.Second)
		}
		waitUntil(t, time.Minute, "no problem names the clock", func() bool {
			for _, m := range must(c.Status(0)).Members {
				named := slices.ContainsFunc(m.Problems, func(p string) bool { return strings.Contains(p, "clock") })
				if m.Name == wrong.Name && named && m.ClockOffset > 3590 && m.ClockOffset < 3610 {
					return true
				}
				if m.Name != wrong.Name && named {
					t.Fatalf("%s is named: %v", m.Name, m.Problems)
				}
			}
			return false
		})
		for n := range 40 {
			key := fmt.Sprintf("late%d", n)
			op := clients[n%5].Put(key, nil, client.Quorum, 5*time.Second)
			want(t, op, sim.Done)
			if op.Note == "by "+wrong.ID().Short() {
				t.Fatalf("the node whose clock is wrong has minted: %v", op)
			}
			read := clients[(n+1)%5].Get(key, client.Quorum, 5*time.Second)
			want(t, clients[(n+2)%5].Put(key, read, client.Quorum, 5*time.Second), sim.Done)
		}
		judge(t, c, h)
	})
}

// Two full nodes that merge into each other over a slow link: bounds hold, every
// operation ends, nothing that was acknowledged is lost.
func TestTwoFullNodesMergingIntoEachOther(t *testing.T) {
	const pendingMax = 64 << 10
	in(t, sim.Options{
		Seed: 4, Nodes: 2, Replicas: 2,
		Network: network.Config{PendingMax: pendingMax, Link: network.Link{Latency: time.Millisecond}},
	}, func(t *testing.T, c *sim.Cluster) {
		h := sim.NewHistory()
		slow := network.Link{Latency: time.Millisecond, Bandwidth: 60 << 10}
		c.Network.SetLink("n1", "n2", slow)
		c.Network.SetLink("n2", "n1", slow)
		for _, m := range c.Machines {
			m.Disk.SetSyncDelay(func() time.Duration { return 50 * time.Millisecond })
		}
		padding := bytes.Repeat([]byte{'.'}, 4<<10)
		var wg sync.WaitGroup
		for i := range 64 {
			cl := must(c.Direct(h, i%2))
			wg.Go(func() {
				defer cl.Close()
				for n := range 10 {
					op := h.Begin(&sim.Op{Client: cl.Name, Key: fmt.Sprintf("full%d.%d", i, n), Strict: true,
						Value: fmt.Sprintf("%s.%d%s", cl.Name, n, padding)})
					ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
					_, err := cl.Client.Put(ctx, []byte(op.Key), []byte(op.Value), client.All)
					cancel()
					outcome := sim.Done
					switch {
					case client.Unknown(err):
						outcome = sim.Unknown
					case err != nil:
						outcome = sim.Refused
					}
					h.End(op, outcome, nil, "")
					if took := op.Ended.Sub(op.Began); took > 2500*time.Millisecond {
						t.Errorf("a put with 2 s took %v", took)
					}
				}
			})
		}
		wg.Wait()
		if h.Count(sim.Done) == 0 || h.Count(sim.Done) == 640 {
			t.Errorf("%d of 640 puts were done: the nodes were not full", h.Count(sim.Done))
		}
		judge(t, c, h)
	})
}

// Siblings that together are over the record's limit: the copies converge all
// the same, reads carry them, puts that would add to them are refused, and one
// that replaces them is taken.
func TestSiblingsTogetherOverTheRecordLimit(t *testing.T) {
	const valueMax = 1 << 20
	const recordMax = valueMax + 256<<10
	in(t, sim.Options{
		Seed: 5, Nodes: 3,
		Network: network.Config{FrameMax: 4 * recordMax}, // (N+1) records
		Node:    func(_ int, cfg *node.Config) { cfg.ValueMax = valueMax },
	}, func(t *testing.T, c *sim.Cluster) {
		clients := direct(c, nil)
		defer closeAll(clients)
		ctx := context.Background()
		key := []byte("big")
		empty, err := clients[0].Client.Get(ctx, key)
		if !errors.Is(err, client.ErrNotFound) {
			t.Fatal(err)
		}
		big := func(n int) []byte { return bytes.Repeat([]byte{byte('a' + n)}, valueMax-1) }
		c.Partition([]int{0}, []int{1}, []int{2})
		for i, cl := range clients {
			if _, err := cl.Client.Put(ctx, key, big(i), client.One, client.WithContext(empty.Context)); err != nil {
				t.Fatalf("put at %d: %v", i, err)
			}
		}
		check(t, c.Heal())
		check(t, c.WaitReady(time.Minute))
		var got client.Result
		for i, cl := range clients {
			if got, err = cl.Client.Get(ctx, key, client.All); err != nil || len(got.Siblings) != 3 {
				t.Fatalf("read through %d: %d siblings, %v", i, len(got.Siblings), err)
			}
		}
		_, err = clients[0].Client.Put(ctx, key, big(3), client.WithContext(empty.Context))
		if !errors.Is(err, client.ErrTooLarge) || !client.Refused(err) {
			t.Fatalf("a fourth sibling: %v", err)
		}
		if _, err := clients[1].Client.Put(ctx, key, big(4), client.WithContext(got.Context), client.All); err != nil {
			t.Fatalf("one that replaces all: %v", err)
		}
		for i, cl := range clients {
			if got, err = cl.Client.Get(ctx, key, client.One); err != nil || len(got.Siblings) != 1 || !bytes.Equal(got.Value, big(4)) {
				t.Fatalf("home %d: %d siblings, %v", i, len(got.Siblings), err)
			}
		}
	})
}

// A context token is bound to its key and cluster.
func TestContextTokenOfAnotherKeyOrClusterIsBadInput(t *testing.T) {
	var foreign client.Context
	in(t, sim.Options{Seed: 6, Nodes: 3}, func(t *testing.T, c *sim.Cluster) {
		cl := must(c.Client(nil, nil))
		defer cl.Close()
		written, err := cl.Client.Put(context.Background(), []byte("k"), []byte("v"))
		check(t, err)
		foreign = written.Context
	})
	in(t, sim.Options{Seed: 7, Nodes: 3}, func(t *testing.T, c *sim.Cluster) {
		cl := must(c.Client(nil, nil))
		defer cl.Close()
		ctx := context.Background()
		other, err := cl.Client.Put(ctx, []byte("other"), []byte("v"))
		check(t, err)
		damaged := bytes.Clone(other.Context)
		damaged[len(damaged)/2] ^= 1
		for what, token := range map[string]client.Context{
			"another cluster": foreign, "another key": other.Context, "no token": client.Context("junk"), "damaged": damaged,
		} {
			_, err := cl.Client.Put(ctx, []byte("k"), []byte("w"), client.WithContext(token))
			if !errors.Is(err, client.ErrBadRequest) || !client.Refused(err) {
				t.Errorf("%s: %v", what, err)
			}
		}
		nowhere(t, c, "k")
	})
}
