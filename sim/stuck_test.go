package sim_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim"
)

// unforced wants the ring not to come to rest for a while, and nobody to force it.
func unforced(t *testing.T, c *sim.Cluster, what string) {
	t.Helper()
	var b *sim.Broken
	if err := c.CheckSettled(90 * time.Second); !errors.As(err, &b) || b.Promise != sim.ChangesEnd {
		t.Fatalf("%s: the ring is settled: %v", what, err)
	}
	if n := timesForced(c.Rings()); n > 0 {
		t.Fatalf("%s: the ring was forced %d times", what, n)
	}
}

func timesForced(r *sim.Rings) int { return len(r.At(r.Last()).Forced) }

// keepersOf are the machines of those who vote on the ring, and the others.
func keepersOf(c *sim.Cluster) (keepers, others []*sim.Machine) {
	r := c.Rings().At(c.Rings().Last())
	for _, m := range c.Machines {
		if r.IsKeeper(m.ID()) {
			keepers = append(keepers, m)
		} else {
			others = append(others, m)
		}
	}
	return keepers, others
}

// all wants everything that load has written to be there.
func all(t *testing.T, cl *sim.Client, prefix string, n int) {
	t.Helper()
	for i := range n {
		read := cl.Get(fmt.Sprintf("%s%d", prefix, i), client.Quorum, 5*time.Second)
		if want(t, read.Op, sim.Done); len(read.Saw) != 1 {
			t.Errorf("%v", read)
		}
	}
}

// Operators of random stories force a ring only where a majority of the keepers is gone for
// good, and nobody else is missing: what loses the vote in any other way is found.
func TestOperatorsForceNoRingWhoseKeepersLive(t *testing.T) {
	in(t, sim.Options{Seed: 1, Nodes: 5, Replicas: 5, Partitions: 4}, func(t *testing.T, c *sim.Cluster) {
		cl := must(c.Client(sim.NewHistory(), nil))
		defer cl.Close()
		load(t, cl, "k", 20)
		m, _ := keepersOf(c)
		if len(m) != 5 {
			t.Fatalf("there are %d keepers", len(m))
		}
		newcomer := c.Spare()
		c.Partition([]int{0}, []int{1}, []int{2}, []int{3}, []int{4})
		check(t, newcomer.Arrive(false))
		unforced(t, c, "all run, and do not hear each other")
		check(t, c.Heal())
		check(t, c.CheckSettled(time.Minute))
		for _, down := range m[:3] {
			down.Stop()
		}
		unforced(t, c, "three of five are down")
		m[0].LoseDisk()
		m[1].LoseDisk()
		unforced(t, c, "two of five have lost their disks, and one is down")
		m[2].LoseDisk()
		m[3].Stop()
		unforced(t, c, "three of five have lost their disks, and one is down")
		check(t, m[3].Start())
		for _, empty := range m[:3] {
			check(t, empty.Start())
		}
		check(t, c.CheckSettled(5*time.Minute))
		if n := timesForced(c.Rings()); n != 1 {
			t.Errorf("the ring was forced %d times", n)
		}
		check(t, c.Rings().Err())
		all(t, cl, "k", 20)
	})
}

// breaks has faults break the first machine's disk from now on, but not yet: the only one
// that votes is spared.
func breaks(t *testing.T, c *sim.Cluster) {
	t.Helper()
	lost := sim.LossFaults()[slices.IndexFunc(sim.LossFaults(), func(f sim.Fault) bool { return f.Name == "lost disk" })]
	if _, end := lost.Begin(c, rand.New(rand.NewPCG(1, 1))); end != nil {
		t.Fatal("the only one that votes has lost its disk")
	}
}

// forget has a machine's disk forget some of what it has synced. It knows who it is.
func forget(t *testing.T, m *sim.Machine) {
	t.Helper()
	id := m.ID()
	m.Kill()
	journal, ok := m.Disk.Newest(storage.TypeJournal)
	if !ok {
		t.Fatal("there is no journal")
	}
	m.Disk.Flip(journal, m.Disk.Size(journal)*3/4, 1)
	if check(t, m.Start()); m.ID() != id {
		t.Fatalf("%s came back as %s", id, m.ID())
	}
}

// Of two machines one votes, and its disk forgets what it has voted. It is stopped, the
// other one forces the ring, and it goes on with its copies, without a vote.
func TestAKeeperThatForgotItsVotesIsStoppedWhileTheRingIsForced(t *testing.T) {
	in(t, sim.Options{Seed: 2, Nodes: 2, Replicas: 2, Partitions: 4}, func(t *testing.T, c *sim.Cluster) {
		cl := must(c.Client(sim.NewHistory(), nil))
		defer cl.Close()
		load(t, cl, "k", 20)
		keepers, others := keepersOf(c)
		if len(keepers) != 1 || keepers[0] != c.Machines[0] {
			t.Fatalf("%d vote, not the first machine", len(keepers))
		}
		rots := keepers[0]
		id := rots.ID()
		forget(t, rots)
		newcomer := c.Spare()
		check(t, newcomer.Arrive(false))
		unforced(t, c, "no fault has broken the disk of whoever does not vote")
		breaks(t, c)
		check(t, c.CheckSettled(5*time.Minute))
		r := c.Rings().At(c.Rings().Last())
		if n := len(r.Forced); n != 1 || !slices.Equal(r.Forced[0].Survivors, []ring.NodeID{others[0].ID()}) {
			t.Fatalf("the ring was forced %d times: %+v", n, r.Forced)
		}
		if rots.ID() != id || r.Member(id) == nil || r.IsKeeper(id) || r.HomeCount(id) == 0 || r.Member(newcomer.ID()) == nil {
			t.Errorf("then %s is %s, a member: %+v, that votes: %v", rots.Name, rots.ID(), r.Member(id), r.IsKeeper(id))
		}
		all(t, cl, "k", 20)
	})
}

// A member that is to leave stays while the vote would be left to one that never votes
// again. Operators have an empty machine take the place of that one, and nobody forces the
// ring.
func TestOperatorsReplaceWhoNeverVotesAgain(t *testing.T) {
	in(t, sim.Options{Seed: 2, Nodes: 2, Replicas: 2, Partitions: 4}, func(t *testing.T, c *sim.Cluster) {
		cl := must(c.Client(sim.NewHistory(), nil))
		defer cl.Close()
		load(t, cl, "k", 20)
		breaks(t, c)
		leaver := c.Spare()
		check(t, leaver.Arrive(false))
		check(t, c.CheckSettled(time.Minute))
		silent := c.Machines[0]
		id, goes := silent.ID(), leaver.ID()
		forget(t, silent)
		must(c.Change(1, api.ChangeRequest{Verb: api.VerbLeave, Member: goes.String()}))
		check(t, c.CheckSettled(5*time.Minute))
		r := c.Rings().At(c.Rings().Last())
		if len(r.Members) != 2 || r.Member(id) != nil || r.Member(goes) != nil || len(r.Forced) > 0 {
			t.Errorf("members are %+v, and the ring was forced %d times", r.Members, len(r.Forced))
		}
		all(t, cl, "k", 20)
	})
}
