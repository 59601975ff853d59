package membership_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/membership"
)

func id(n byte) ring.NodeID { return ring.NodeID{n} }

func peer(n byte) gossip.Peer {
	return gossip.Peer{ID: id(n), Name: string('a' + rune(n)), RPCAddr: "10.0.0." + string('0'+rune(n)) + ":1"}
}

// until waits for a member's view to satisfy want, and says how long it took.
func until(t *testing.T, m *membership.Member, limit time.Duration, want func(*gossip.View) bool) time.Duration {
	t.Helper()
	began := time.Now()
	timeout := time.After(limit)
	for {
		changed := m.Changed()
		if want(m.View()) {
			return time.Since(began)
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("after %v the view is %+v", limit, m.View())
		}
	}
}

func sees(n byte, alive bool) func(*gossip.View) bool {
	return func(v *gossip.View) bool {
		p := v.Peer(id(n))
		return p != nil && p.Alive == alive
	}
}

func TestViewsFollowTheTruthLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cut atomic.Bool
		w := membership.New(membership.Config{Seed: 1, Reaches: func(from, to ring.NodeID) bool {
			return !cut.Load() || from == to || from != id(1) // 1 is heard by nobody
		}})
		defer w.Close()
		a, b := w.Join(peer(1)), w.Join(peer(2))
		if p := a.View().Peer(id(1)); p == nil || !p.Alive {
			t.Fatal("a member does not see itself")
		}
		until(t, a, time.Second, sees(2, true))
		until(t, b, time.Second, sees(1, true))
		cut.Store(true)
		for _, m := range []*membership.Member{a, b} {
			other := byte(2)
			if m == b {
				other = 1
			}
			took := until(t, m, 10*time.Second, sees(other, false))
			if m == a && took < 3*time.Second {
				t.Fatalf("a failure was noticed after %v", took)
			}
		}
		cut.Store(false)
		until(t, a, 10*time.Second, sees(2, true))
		until(t, b, 10*time.Second, sees(1, true))
	})
}

func TestStatesSpreadToThoseWhoCanBeReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cut atomic.Bool
		w := membership.New(membership.Config{Seed: 2, Reaches: func(ring.NodeID, ring.NodeID) bool { return !cut.Load() }})
		defer w.Close()
		a, b := w.Join(peer(1)), w.Join(peer(2))
		until(t, b, time.Second, sees(1, true))
		epoch := func(e uint64) func(*gossip.View) bool {
			return func(v *gossip.View) bool { p := v.Peer(id(1)); return p.Alive && p.State.Epoch == e }
		}
		a.Announce(gossip.State{Epoch: 7})
		if a.View().Peer(id(1)).State.Epoch != 7 {
			t.Fatal("a member does not see its own state at once")
		}
		if took := until(t, b, time.Second, epoch(7)); took == 0 {
			t.Fatal("the state arrived in no time")
		}
		cut.Store(true)
		a.Announce(gossip.State{Epoch: 8})
		until(t, b, 10*time.Second, sees(1, false))
		if got := b.View().Peer(id(1)).State.Epoch; got != 7 {
			t.Fatalf("epoch %d crossed a cut", got)
		}
		cut.Store(false)
		until(t, b, 10*time.Second, epoch(8))
	})
}

func TestScriptsMakeViewsWrongOnPurpose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := membership.New(membership.Config{Seed: 3})
		defer w.Close()
		a, b, c := w.Join(peer(1)), w.Join(peer(2)), w.Join(peer(3))
		for _, m := range []*membership.Member{b, c} {
			until(t, m, time.Second, sees(1, true))
		}
		w.Set(id(2), id(1), false)
		w.Freeze(id(3), id(1))
		a.Announce(gossip.State{Epoch: 1})
		time.Sleep(time.Minute)
		if b.View().Peer(id(1)).Alive {
			t.Fatal("the script's word does not hold")
		}
		if p := c.View().Peer(id(1)); !p.Alive || p.State.Epoch != 0 {
			t.Fatalf("a frozen state arrived: %+v", p)
		}
		w.Follow()
		until(t, b, 10*time.Second, sees(1, true))
		until(t, c, 10*time.Second, func(v *gossip.View) bool { return v.Peer(id(1)).State.Epoch == 1 })
	})
}

func TestMemberComesBackAtAnotherAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := membership.New(membership.Config{Seed: 4})
		defer w.Close()
		a, b := w.Join(peer(1)), w.Join(peer(2))
		until(t, b, time.Second, sees(1, true))
		a.Close()
		until(t, b, 10*time.Second, sees(1, false))
		moved := peer(1)
		moved.RPCAddr = "10.9.9.9:1"
		w.Join(moved)
		until(t, b, 10*time.Second, func(v *gossip.View) bool {
			p := v.Peer(id(1))
			return p.Alive && p.RPCAddr == "10.9.9.9:1"
		})
		b.Forget(id(1))
		if b.View().Peer(id(1)) != nil {
			t.Fatal("a forgotten member is still there")
		}
		time.Sleep(time.Minute)
		if b.View().Peer(id(1)) != nil {
			t.Fatal("a forgotten member came back")
		}
	})
}
