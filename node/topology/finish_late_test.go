package topology

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kithdb/kith/paxos"
	"github.com/kithdb/kith/ring"
)

// leavesOpen has a proposer ask for a guest, die, and be heard by no other keeper than
// one: both have accepted what was not decided. Both lives are over then.
func (w *world) leavesOpen(proposer, one *node, wish int) {
	w.t.Helper()
	w.watch(func(from, to ring.NodeID, _ string, msg any) bool {
		req, ok := msg.(*voteRequest)
		return ok && req.Accept && from == proposer.id && to != one.id
	})
	ctx, cancel := within(5 * time.Second)
	defer cancel()
	_, err := proposer.Propose(ctx, standby(guest(wish)))
	if undecided := new(paxos.UndecidedError); !errors.As(err, &undecided) || !undecided.Sent {
		w.t.Fatalf("seed %d: %v", w.seed, err)
	}
	proposer.kill()
	one.kill()
	w.watch(nil)
	for _, n := range []*node{proposer, one} {
		if cell, err := cellOf(n.disk.meta[metaCell], n.Current().Epoch+1); err != nil || cell.Accepted.IsZero() {
			w.t.Fatalf("seed %d: %s has not accepted anything: %v", w.seed, n.addr, err)
		}
	}
}

// never fails if a guest is a member of any record that the nodes come to.
func (w *world) never(wish int, nodes ...*node) {
	w.t.Helper()
	time.Sleep(3 * finishAfter)
	r := w.agree(nodes[0].Current().Epoch, nodes...)
	if r.Member(guest(wish).ID) != nil {
		w.t.Errorf("seed %d: at epoch %d stands what was superseded: %v", w.seed, r.Epoch, r.Members)
	}
}

// What others have decided instead is not undone by keepers that were away, and had
// accepted something else: not by trying to finish it, cut off, nor afterwards.
func TestWhatWasSupersededIsNotFinished(t *testing.T) {
	for seed := range uint64(runs(4)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(5, 3)
			w.leavesOpen(nodes[0], nodes[1], 1)
			if err := nodes[2].add(2); err != nil {
				t.Fatal(err)
			}
			w.cut(nodes[0], nodes[1])
			nodes[0].start()
			nodes[1].start()
			time.Sleep(2 * finishAfter)
			for _, n := range nodes[:2] {
				if r := n.Current(); r.Member(guest(1).ID) != nil {
					t.Errorf("seed %d: two of five have decided", seed)
				}
			}
			w.heal()
			w.never(1, nodes...)
		})
	}
}

// Keepers that were lost, and over whom the ring was forced, finish nothing of their own
// when they come back: they take the record that was forced, whichever of them had
// accepted what.
func TestNothingIsFinishedBesideARingThatWasForced(t *testing.T) {
	for seed := range uint64(runs(4)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(5, 3)
			w.leavesOpen(nodes[3], nodes[4], 1)
			nodes[2].kill()
			forced := nodes[0].mustForce(nodes[0], nodes[1])
			for _, n := range nodes[2:] {
				n.start()
			}
			w.agree(forced.Epoch, nodes...)
			w.never(1, nodes...)
		})
	}
}

// A survivor has what the lost ones may have decided: then the forced record stands on
// that, and it is finished by nobody else.
func TestWhatASurvivorHasAcceptedIsForcedOnTopOfAndNotFinishedTwice(t *testing.T) {
	for seed := range uint64(runs(4)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(5, 3)
			w.leavesOpen(nodes[3], nodes[1], 1)
			nodes[2].kill()
			nodes[4].kill()
			nodes[1].start()
			w.until("the survivors meet", func() bool { return len(nodes[1].Reaching(t.Context(), nodes[0].id)) > 0 })
			forced := nodes[0].mustForce(nodes[0], nodes[1])
			if forced.Member(guest(1).ID) == nil {
				t.Fatalf("seed %d: what may be decided is not in the forced record", seed)
			}
			for _, n := range nodes[2:] {
				n.start()
			}
			time.Sleep(3 * finishAfter)
			r := w.agree(forced.Epoch, nodes...)
			if r.Epoch != forced.Epoch {
				t.Errorf("seed %d: epoch %d came of itself behind the forced one, %d", seed, r.Epoch, forced.Epoch)
			}
		})
	}
}

// A proposal that is open and cannot be finished does not keep this keeper's own changes
// waiting so long that their callers are not told who is missing.
func TestWhatCannotBeFinishedHoldsUpNobodysChange(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(5, 3)
		w.leavesOpen(nodes[0], nodes[1], 1)
		for _, n := range nodes[3:] {
			n.kill()
		}
		nodes[1].start() // and one more lives, which has not accepted it
		time.Sleep(finishAfter)
		for range 40 { // at every moment of its tries
			ctx, cancel := within(4 * time.Second)
			_, err := nodes[1].Propose(ctx, standby(guest(2)))
			cancel()
			var missing *MissingError
			if !errors.As(err, &missing) || !Unsent(err) {
				t.Fatalf("without a majority of keepers: %v", err)
			}
			time.Sleep(700 * time.Millisecond)
		}
	})
}

// A member that has left, and tries to tell keepers that it cannot reach, ends at once
// when it is stopped. One that was stopped before it began does nothing at all.
func TestNobodyIsToldForLongerThanThisNodeRuns(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(3, 3)
		leaver := w.leaving(nodes)
		w.onAdopt = func(d *disk, r *ring.Record) {
			if d == leaver.disk && r.IsBanned(leaver.id) {
				w.cut(leaver)
			}
		}
		proposed := make(chan error, 1)
		ctx, cancel := within(time.Second)
		defer cancel()
		go func() {
			_, err := leaver.Propose(ctx, func(r *ring.Record) (*ring.Record, error) { return r.WithoutMember(leaver.id) })
			proposed <- err
		}()
		w.until("the leaver knows that it has left", leaver.Left)
		if err := <-proposed; !errors.Is(err, ErrUnconfirmed) {
			t.Fatal(err)
		}
		select {
		case <-leaver.life.done:
			t.Fatalf("it has not tried to tell: %v", leaver.life.err)
		default:
		}
		late := w.node(Config{})
		if err := late.open(); err != nil {
			t.Fatal(err)
		}
		for name, stop := range map[string]func(){
			"in its farewell": func() { leaver.life.stop(); <-leaver.life.done },
			"before it runs": func() {
				ended, end := context.WithCancel(t.Context())
				end()
				if err := late.Run(ended); err != nil {
					t.Error(err)
				}
			},
		} {
			begun := time.Now()
			stop()
			if took := time.Since(begun); took > 0 {
				t.Errorf("%s: it took %v", name, took)
			}
		}
	})
}
