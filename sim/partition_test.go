package sim_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
)

// Both sides of a cut go on for the keys of which they have a quorum of homes,
// and refuse the others at once, naming the homes. Nothing acknowledged is lost.
func TestFault01_HalvesServeTheKeysTheyHaveAQuorumOf(t *testing.T) {
	in(t, sim.Options{Seed: 1}, func(t *testing.T, c *sim.Cluster) {
		cutAndServe(t, c, []int{0, 1}, []int{2, 3, 4})
	})
}

func TestFault02_IsolatedNodeStopsNobodyElse(t *testing.T) {
	in(t, sim.Options{Seed: 2}, func(t *testing.T, c *sim.Cluster) {
		cutAndServe(t, c, []int{3}, []int{0, 1, 2, 4})
	})
}

// Four of five down but one: with five replicas every key survives two.
func TestFault02_TwoDownOfFiveReplicasStopNoKey(t *testing.T) {
	in(t, sim.Options{Seed: 3, Replicas: 5}, func(t *testing.T, c *sim.Cluster) {
		h := sim.NewHistory()
		c.Machines[1].PowerCut()
		c.Machines[4].Kill()
		waitUntil(t, time.Minute, "two machines still count as reachable", func() bool {
			return reachable(t, c, 0) == 3
		})
		cl := must(c.Client(h, nil))
		defer cl.Close()
		load(t, cl, "k", 40)
		judge(t, c, h)
	})
}

// reachable counts the members that one machine calls reachable.
func reachable(t *testing.T, c *sim.Cluster, machine int) int {
	t.Helper()
	n := 0
	for _, m := range must(c.Status(machine)).Members {
		if m.Reachable {
			n++
		}
	}
	return n
}

func cutAndServe(t *testing.T, c *sim.Cluster, sides ...[]int) {
	h := sim.NewHistory()
	clients := direct(c, h)
	defer closeAll(clients)
	load(t, clients[0], "before", 20)
	side := map[int]int{}
	for s, machines := range sides {
		for _, m := range machines {
			side[m] = s
		}
	}
	c.Partition(sides...)
	for i := range c.Machines {
		waitUntil(t, time.Minute, fmt.Sprintf("%s has not noticed", c.Machines[i].Name), func() bool {
			return reachable(t, c, i) == len(sides[side[i]])
		})
	}
	served, refused := 0, 0
	for i, cl := range clients {
		for n := range 20 {
			key := fmt.Sprintf("cut%d.%d", i, n)
			here := 0
			for _, home := range must(c.HomesOf(key)) {
				if side[home] == side[i] {
					here++
				}
			}
			op := cl.Put(key, nil, client.Quorum, 5*time.Second)
			if here >= 2 {
				want(t, op, sim.Done)
				want(t, cl.Get(key, client.Quorum, 5*time.Second).Op, sim.Done)
				served++
				continue
			}
			want(t, op, sim.Refused)
			if took := op.Ended.Sub(op.Began); took > 50*time.Millisecond {
				t.Fatalf("refused after %v: %v", took, op)
			}
			refusalNamesHomes(t, cl, key)
			if here == 1 {
				want(t, cl.Get(key, client.One, 5*time.Second).Op, sim.Done)
			}
			refused++
		}
	}
	if served < 20 || refused < 5 {
		t.Fatalf("%d served and %d refused: the cut proves nothing", served, refused)
	}
	judge(t, c, h)
}

func refusalNamesHomes(t *testing.T, cl *sim.Client, key string) {
	t.Helper()
	_, err := cl.Client.Get(context.Background(), []byte(key), client.Quorum)
	var e *client.Error
	if !errors.As(err, &e) || !errors.Is(err, client.ErrUnavailable) || e.Need != 2 || len(e.Homes) == 0 {
		t.Fatalf("refusal of %s does not name its homes: %v", key, err)
	}
}
