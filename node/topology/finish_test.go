package topology

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kithdb/kith/paxos"
	"github.com/kithdb/kith/ring"
)

// leavesWithoutWord has a member that has handed over all that it had leave, and lose
// its power at the moment at which it alone holds the record that lets it go.
func (w *world) leavesWithoutWord(leaver *node) {
	w.t.Helper()
	epoch := leaver.Current().Epoch
	w.watch(func(from, _ ring.NodeID, route string, _ any) bool {
		return from == leaver.id && route == string(tellRoute) && leaver.Current().Epoch > epoch
	})
	w.onAdopt = func(d *disk, r *ring.Record) {
		if d == leaver.disk && r.IsBanned(leaver.id) {
			w.cut(leaver)
		}
	}
	ctx, cancel := within(farewellMax / 2)
	defer cancel()
	_, err := leaver.Propose(ctx, func(r *ring.Record) (*ring.Record, error) { return r.WithoutMember(leaver.id) })
	if !errors.Is(err, ErrUnconfirmed) {
		w.t.Fatalf("seed %d: %v", w.seed, err)
	}
	leaver.kill()
}

// leaving is a member with no slots that is leaving.
func (w *world) leaving(nodes []*node) *node {
	w.t.Helper()
	n := w.bystander(nodes)
	ctx, cancel := within(farewellMax)
	defer cancel()
	r, err := nodes[0].Propose(ctx, func(r *ring.Record) (*ring.Record, error) { return r.WithLeave(n.id) })
	if err != nil {
		w.t.Fatal(err)
	}
	w.agree(r.Epoch, append(nodes, n)...)
	return n
}

// What is decided is known in the end, also if the only one who knew it has left for ever.
func TestWhatALeaverAloneKnewIsFinishedByKeepers(t *testing.T) {
	for seed := range uint64(runs(4)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(3, 3)
			leaver := w.leaving(nodes)
			w.leavesWithoutWord(leaver)
			r := w.agree(leaver.Current().Epoch, nodes...)
			if !r.IsBanned(leaver.id) {
				t.Errorf("seed %d: at epoch %d the leaver is a member still", seed, r.Epoch)
			}
		})
	}
}

// A member that has left ends once the keepers have the record that let it go.
func TestALeaverStaysUntilKeepersHaveHeard(t *testing.T) {
	for seed := range uint64(runs(4)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(3, 3)
			leaver := w.leaving(nodes)
			var told atomic.Int32
			w.watch(func(from, _ ring.NodeID, route string, _ any) bool {
				return from == leaver.id && route == string(tellRoute) && told.Add(1) <= 3
			})
			ctx, cancel := within(farewellMax)
			defer cancel()
			go func() {
				_, _ = leaver.Propose(ctx, func(r *ring.Record) (*ring.Record, error) { return r.WithoutMember(leaver.id) })
			}()
			<-leaver.life.done
			if !errors.Is(leaver.life.err, ring.ErrBanned) {
				t.Fatalf("seed %d: it ended by %v", seed, leaver.life.err)
			}
			heard := 0
			for _, n := range nodes {
				if n.Current().IsBanned(leaver.id) {
					heard++
				}
			}
			if heard < 2 {
				t.Errorf("seed %d: %d of 3 keepers have heard of it", seed, heard)
			}
		})
	}
}

// A member that has asked to be let go has left, also if it hears of it late: others have
// finished what it asked for, and have gone on.
func TestALeaverThatHearsLateHasLeft(t *testing.T) {
	for seed := range uint64(runs(4)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(3, 3)
			leaver := w.leaving(nodes)
			epoch := leaver.Current().Epoch
			w.watch(func(from, to ring.NodeID, _ string, msg any) bool {
				req, ok := msg.(*voteRequest)
				return ok && req.Accept && from == leaver.id && to != nodes[0].id
			})
			ctx, cancel := within(5 * time.Second)
			defer cancel()
			_, err := leaver.Propose(ctx, func(r *ring.Record) (*ring.Record, error) { return r.WithoutMember(leaver.id) })
			if undecided := new(paxos.UndecidedError); !errors.As(err, &undecided) || !undecided.Sent {
				t.Fatalf("seed %d: %v", seed, err)
			}
			w.cut(leaver)
			w.watch(nil)
			if r := w.agree(epoch+1, nodes...); !r.IsBanned(leaver.id) {
				t.Fatalf("seed %d: at epoch %d the leaver is a member still", seed, r.Epoch)
			}
			if err := nodes[0].add(1); err != nil {
				t.Fatal(err)
			}
			w.agree(epoch+2, nodes...)
			w.heal()
			<-leaver.life.done
			if !errors.Is(leaver.life.err, ring.ErrBanned) || !leaver.Left() || leaver.Current().Epoch < epoch+2 {
				t.Errorf("seed %d: it ended at epoch %d by %v, and has left: %v", seed, leaver.Current().Epoch, leaver.life.err, leaver.Left())
			}
		})
	}
}
