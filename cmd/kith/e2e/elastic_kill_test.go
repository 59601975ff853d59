package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
)

// record is the ring record as the servers that run have it.
func record(t *testing.T, cl *client.Client) *ring.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	view, err := cl.Ring(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return view.Record
}

// end is one of the two members of a move.
type end func(*ring.Move) ring.NodeID

func source(m *ring.Move) ring.NodeID { return m.From }
func target(m *ring.Move) ring.NodeID { return m.To }

// in counts the moves of which a server is that end, in a phase.
func in(r *ring.Record, name string, of end, phase ring.Phase) (n int) {
	for i := range r.Moves {
		m := &r.Moves[i]
		if is := r.Member(of(m)); is.Name == name && m.Phase == phase {
			n++
		}
	}
	return n
}

// killIn kills a server while it is the end of moves in a phase, as the others' record
// shows once it is dead, and starts it again. A phase may be over before the kill
// comes: then it is tried with the next moves.
func (c *cluster) killIn(cl *client.Client, victim int, of end, phase ring.Phase) {
	c.t.Helper()
	s := c.servers[victim]
	var others []int
	for i := range c.servers {
		if i != victim {
			others = append(others, i)
		}
	}
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); {
		r := record(c.t, cl)
		if in(r, s.name, of, phase) == 0 {
			continue
		}
		c.kill(victim)
		r = record(c.t, c.dial(others...))
		hit := in(r, s.name, of, phase)
		c.start(victim)
		if hit > 0 {
			c.t.Logf("%s was killed with %d moves in %v", s.name, hit, phase)
			return
		}
	}
	c.t.Fatalf("%s could not be killed while its moves were in %v", s.name, phase)
}

// slowMoves starts n servers whose slots move slowly, with keys that two callers write
// and read.
func slowMoves(t *testing.T, n int) (*cluster, *client.Client, *checker) {
	t.Helper()
	keys, flags := elasticSize(t, 5_000)
	c := newCluster(t, n, append(flags, slowly...)...)
	c.startAll()
	cl := c.dialAll()
	k := c.loaded(cl, keys, 500)
	k.start(2)
	return c, cl, k
}

// slowly is how a server pulls so that its moves can be caught in the middle.
var slowly = []string{"--repair-rate", "1MiB"}

// killInEach kills a server in each phase of the moves that it is that end of.
func (c *cluster) killInEach(cl *client.Client, victim int, of end) {
	c.t.Helper()
	for _, phase := range []ring.Phase{ring.PhasePlan, ring.PhaseDual, ring.PhaseReadNew} {
		c.killIn(cl, victim, of, phase)
	}
}

// allRight waits until these members have it all, and checks that nothing was lost and
// no read was wrong.
func (c *cluster) allRight(k *checker, names ...string) {
	c.t.Helper()
	c.settles(3*time.Minute, names...)
	c.waitReady()
	k.goesOn(200)
	k.end(false)
	c.equalHomes(k)
}

// TestFault19_TheTargetOfMovesIsKilledInEachPhase: it comes back, and the moves go on
// where they were. Nothing is lost, and no read is wrong.
func TestFault19_TheTargetOfMovesIsKilledInEachPhase(t *testing.T) {
	c, cl, k := slowMoves(t, 3)
	i := c.add(slowly...)
	c.start(i)
	c.killInEach(cl, i, target)
	c.allRight(k, "n1", "n2", "n3", "n4")
}

// TestFault19_TheSourceOfMovesIsKilledInEachPhase: the other homes give what it had, or
// it does when it is back.
func TestFault19_TheSourceOfMovesIsKilledInEachPhase(t *testing.T) {
	c, cl, k := slowMoves(t, 4)
	c.must("leave", "n4")
	c.killInEach(cl, 3, source)
	c.waitGone(3)
	c.allRight(k, "n1", "n2", "n3")
}

// TestAJoinIsTakenBackInTheMiddle: what has moved moves back, also where an end of the
// moves is killed meanwhile, and who was about to join is on standby in the end.
func TestAJoinIsTakenBackInTheMiddle(t *testing.T) {
	c, cl, k := slowMoves(t, 3)
	i := c.add(slowly...)
	c.start(i)
	until(t, "moves are in read-new", time.Minute, func() bool { return in(record(t, cl), "n4", target, ring.PhaseReadNew) > 0 })
	c.must("ring", "abort", "n4")
	c.kill(i)
	r := record(t, c.dial(0, 1, 2))
	t.Logf("n4 was killed with %d moves in read-new and %d in back", in(r, "n4", target, ring.PhaseReadNew), in(r, "n4", target, ring.PhaseBack))
	c.start(i)
	c.allRight(k, "n1", "n2", "n3")
	until(t, "n4 is on standby", time.Minute, func() bool { d := c.ring(); return d.stateOf("n4") == "standby" })
	// It can join again, and be told so by hand.
	c.must("join", "n4", "--wait", "--timeout", "3m")
	c.settles(time.Minute, "n1", "n2", "n3", "n4")
}
