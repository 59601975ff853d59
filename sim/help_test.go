package sim_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
)

// seeds are those that a test plays: few by default, a third of them under the race
// detector, which is slow, and sees as much in those; ten times as many with
// KITH_LONG=1, or its number above 10. KITH_SEED plays that one alone.
func seeds(few int) []uint64 {
	if seed, err := strconv.ParseUint(os.Getenv("KITH_SEED"), 10, 64); err == nil {
		return []uint64{seed}
	}
	if !sim.Replays {
		few = (few + 2) / 3
	}
	n := few
	if long, err := strconv.Atoi(os.Getenv("KITH_LONG")); err == nil && long > 10 {
		n = long
	} else if err == nil {
		n = few * 10
	}
	var out []uint64
	for seed := range uint64(n) {
		out = append(out, seed)
	}
	return out
}

// in plays f on a cluster that is ready, in a bubble.
func in(t *testing.T, o sim.Options, f func(t *testing.T, c *sim.Cluster)) {
	t.Helper()
	sim.Bubble(t, func(t *testing.T) {
		c, err := sim.NewCluster(o)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if t.Failed() {
				t.Logf("seed %d, to play it again: KITH_SEED=%d go test ./sim -run '^%s$'\nthe nodes' words:\n%s",
					o.Seed, o.Seed, t.Name(), c.Log())
			}
			c.Close()
		}()
		if err := c.WaitReady(time.Minute); err != nil {
			t.Fatal(err)
		}
		f(t, c)
	})
}

// must stops the test at an error.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("unexpected error: %v", err))
	}
	return v
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// want checks an operation's outcome.
func want(t *testing.T, o *sim.Op, outcome sim.Outcome) {
	t.Helper()
	if o.Outcome != outcome {
		t.Fatalf("want %v: %v", outcome, o)
	}
}

// judge reads everything in the end and checks the history.
func judge(t *testing.T, c *sim.Cluster, h *sim.History) map[string][]string {
	t.Helper()
	check(t, c.Heal())
	check(t, c.WaitReady(2*time.Minute))
	final := must(c.Final(h, time.Minute))
	check(t, sim.Check(h, final))
	return final
}

// keyWith finds a key whose homes are as wanted.
func keyWith(t *testing.T, c *sim.Cluster, wanted func(homes []int) bool) (string, []int) {
	t.Helper()
	for i := range 1000 {
		key := fmt.Sprintf("key%d", i)
		if homes := must(c.HomesOf(key)); wanted(homes) {
			return key, homes
		}
	}
	t.Fatal("no key has such homes")
	return "", nil
}

// direct gives every machine a client that has it coordinate.
func direct(c *sim.Cluster, h *sim.History) []*sim.Client {
	var out []*sim.Client
	for i := range c.Machines {
		out = append(out, must(c.Direct(h, i)))
	}
	return out
}

func closeAll(clients []*sim.Client) {
	for _, cl := range clients {
		cl.Close()
	}
}

// waitUntil polls in virtual time.
func waitUntil(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s", limit, what)
		}
	}
}

// load writes n keys once through a client and wants all done.
func load(t *testing.T, cl *sim.Client, prefix string, n int) {
	t.Helper()
	for i := range n {
		want(t, cl.Put(fmt.Sprintf("%s%d", prefix, i), nil, client.Quorum, 5*time.Second), sim.Done)
	}
}
