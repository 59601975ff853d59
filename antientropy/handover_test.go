package antientropy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// isolate cuts a node off from all others, in both directions.
func (w *moveWorld) isolate(i int) {
	for j := range w.nodes {
		if j != i {
			w.cut(i, j)
			w.cut(j, i)
		}
	}
}

// moveWithout moves the slot while its home is away: the target pulls from the others.
func (w *moveWorld) moveWithout() {
	w.t.Helper()
	others := []int{0, 1, 2, 3, 4}
	others = append(others[:w.from], others[w.from+1:]...)
	w.step(ring.StepDual, others...)
	w.mustSync(w.to, w.a, w.b)
	w.step(ring.StepReadNew, others...)
	w.mustSync(w.to, w.a, w.b)
	w.step(ring.StepDone, others...)
}

// handedOver says what a node still has of what it let go.
func (w *moveWorld) handedOver(i int) error {
	d := w.nodes[i].disk
	if left, kept := d.Dropping(), d.Stats().StandIns; len(left) > 0 || kept > 0 {
		return fmt.Errorf("node %d drops %v, and keeps %d records", i, left, kept)
	}
	return nil
}

// with says which of some nodes lack a key, alive.
func (w *moveWorld) with(key string, nodes ...int) func() error {
	return func() error {
		for _, i := range nodes {
			if _, alive := w.at(i, key); !alive {
				return fmt.Errorf("node %d does not have %s", i, key)
			}
		}
		return nil
	}
}

// A write that was acknowledged by one home alone, which was cut off while its slot moved
// and has no part in it any more, comes to the new homes. It is read nowhere before.
func TestWhatADroppedHomeAloneHoldsComesToTheNewHomes(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 41}, func(w *moveWorld) {
		w.fill(50, 100, w.a, w.b)
		w.isolate(w.from)
		w.write(w.from, "alone", "v")
		w.write(w.from, "k-0007", "newer")
		w.write(w.a, "later", "v", w.b)
		w.moveWithout()
		w.net.Heal()
		w.nodes[w.from].take(w.rec)
		if _, err := w.nodes[w.from].disk.Get(movedPartition, []byte("alone")); !errors.Is(err, store.ErrDropping) {
			t.Fatalf("what was let go is read: %v", err)
		}
		if st := w.nodes[w.from].repair.Status(); st.HandingOver != 1 {
			t.Errorf("status: %+v", st)
		}
		w.eventually(time.Minute, "handed over", func() error { return w.handedOver(w.from) })
		if err := w.nobody("alone", w.from)(); err != nil {
			t.Error(err)
		}
		for _, i := range []int{w.a, w.b, w.to} {
			if err := errors.Join(w.with("alone", i)(), w.with("later", i)()); err != nil {
				t.Error(err)
			}
			r := w.held(i)["k-0007"]
			if live := aliveIn(&r, 0); len(live) != 1 || string(r.Siblings[0].Value) != "newer" {
				t.Errorf("node %d: %+v", i, r.Siblings)
			}
		}
	})
}

// Wherever the node is killed while it hands over, nothing is lost.
func TestHandingOverGoesOnAfterKills(t *testing.T) {
	for seed := range uint64(realSeeds(t, 4)) {
		inMoveWorld(t, worldOptions{seed: 42 + seed}, func(w *moveWorld) {
			chance := rand.New(rand.NewPCG(seed, 1))
			w.isolate(w.from)
			w.fill(400, 200)
			w.moveWithout()
			w.net.Heal()
			w.nodes[w.from].take(w.rec)
			time.Sleep(handOverAfter)
			for range 30 {
				time.Sleep(time.Duration(chance.Int64N(int64(100 * time.Millisecond))))
				victim := w.from
				if chance.IntN(3) == 0 {
					victim = []int{w.a, w.b, w.to}[chance.IntN(3)]
				}
				if chance.IntN(2) == 0 {
					w.nodes[victim].disk.platter.PowerCut()
				}
				w.halt(victim)
				w.nodes[victim].disk.platter.Heal()
				w.start(victim)
				time.Sleep(time.Duration(chance.Int64N(int64(3 * time.Second))))
			}
			w.eventually(5*time.Minute, "handed over", func() error { return w.handedOver(w.from) })
			w.eventually(time.Minute, "all is there", func() error {
				for k := range 400 {
					if err := w.with(fmt.Sprintf("k-%04d", k), w.a, w.b, w.to)(); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}

// A partition that comes back to a node, before the homes could be told what it had of it,
// can be used in moments, with a new actor; what it had comes to all homes.
func TestAPartitionComesBackBeforeItWasHandedOver(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 51}, func(w *moveWorld) {
		w.fill(50, 100, w.a, w.b)
		w.isolate(w.from)
		old := w.write(w.from, "alone", "v")
		w.moveWithout()
		from := w.nodes[w.from]
		from.take(w.rec) // by a way that is not there for anything else
		time.Sleep(time.Minute)
		if len(from.disk.ToHandOver()) != 1 {
			t.Fatal("let go although nobody can be asked: this test tests nothing")
		}
		w.from, w.to = w.to, w.from // the slot goes back
		next, err := w.rec.WithMoves([]ring.Move{{Partition: movedPartition, Slot: 2, To: from.id}})
		if err != nil {
			t.Fatal(err)
		}
		w.rec = next
		w.step(ring.StepDual, w.everybody()...)
		w.eventually(15*time.Second, "the partition is usable", func() error {
			_, err := from.disk.Get(movedPartition, []byte("alone"))
			return err
		})
		w.net.Heal()
		time.Sleep(10 * time.Second) // circuits close
		w.mustSync(w.to, w.from)
		w.step(ring.StepReadNew, w.everybody()...)
		w.mustSync(w.to, w.from)
		if err := w.nobody("alone", w.everybody()...)(); err != nil {
			t.Errorf("it is read before the move is over: %v", err)
		}
		w.step(ring.StepDone, w.everybody()...)
		w.eventually(2*time.Minute, "it is with all homes", w.with("alone", w.a, w.b, w.to))
		w.eventually(time.Minute, "handed over", func() error { return errors.Join(w.handedOver(w.to), w.handedOver(w.from)) })
		now, err := version.Parse(w.write(w.to, "new", "v"))
		if err != nil {
			t.Fatal(err)
		}
		if r, err := version.Parse(old); err != nil || r.Siblings[0].Dot.Actor == now.Siblings[0].Dot.Actor {
			t.Errorf("%v was minted with the actor of before the drop, %v", now.Siblings[0].Dot, err)
		}
	})
}

// A value that was deleted while its home was away, and whose tombstone all have forgotten
// since, stays away when that home has let go of it; one that nobody has deleted comes.
func TestHandingOverBringsNothingForgottenBack(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 52, tune: soonForgetting}, func(w *moveWorld) {
		w.write(w.from, "dead", "v", w.a, w.b)
		w.write(w.from, "stays", "v", w.a, w.b)
		w.isolate(w.from)
		w.write(w.from, "alone", "v")
		w.deliver(w.nodes[w.a].put("dead", "", true, true), w.b)
		w.moveWithout()
		w.eventually(15*time.Minute, "forgotten", w.nobody("dead", w.a, w.b, w.to))
		w.net.Heal()
		w.nodes[w.from].take(w.rec)
		w.eventually(time.Minute, "handed over", func() error { return w.handedOver(w.from) })
		time.Sleep(time.Minute)
		for _, i := range []int{w.a, w.b, w.to} {
			if err := errors.Join(w.nobody("dead", i)(), w.with("stays", i)(), w.with("alone", i)()); err != nil {
				t.Error(err)
			}
		}
	})
}

// A delete that one home alone has acknowledged comes to the new homes, too, and is
// forgotten by all in the end.
func TestADeleteThatADroppedHomeAloneHoldsIsObeyed(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 53, tune: soonForgetting}, func(w *moveWorld) {
		w.write(w.from, "k", "v", w.a, w.b)
		w.isolate(w.from)
		w.nodes[w.from].put("k", "", true, true)
		w.moveWithout()
		w.net.Heal()
		w.nodes[w.from].take(w.rec)
		w.eventually(time.Minute, "deleted", func() error {
			for _, i := range []int{w.a, w.b, w.to} {
				if _, alive := w.at(i, "k"); alive {
					return fmt.Errorf("node %d has the value", i)
				}
			}
			return nil
		})
		w.eventually(15*time.Minute, "forgotten", w.nobody("k", w.everybody()...))
	})
}

// A write that only a home has that is away is not closed out while that one has let go
// of it and not yet handed it over.
func TestClosingWaitsForWhatIsToBeHandedOver(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 54, tune: soonClosing}, func(w *moveWorld) {
		w.write(w.from, "first", "v", w.a, w.b)
		w.isolate(w.from)
		w.write(w.from, "alone", "v")
		late := w.write(w.from, "late", "v")
		w.deliver(late, w.a, w.b) // behind a hole
		w.moveWithout()
		from := w.nodes[w.from]
		for _, h := range w.nodes {
			from.hide(h.id, true) // it answers, and cannot ask
		}
		w.net.Heal()
		from.take(w.rec)
		w.halt(w.from)
		w.start(w.from) // its actor is dead
		time.Sleep(15 * time.Minute)
		for _, h := range w.nodes {
			if n := h.repair.Status().Closed; n > 0 {
				t.Fatalf("%d actors were closed", n)
			}
		}
		if len(from.disk.ToHandOver()) != 1 {
			t.Fatal("nothing is to be handed over: this test tests nothing")
		}
		for _, h := range w.nodes {
			from.hide(h.id, false)
		}
		w.eventually(30*time.Minute, "handed over", func() error { return w.handedOver(w.from) })
		w.eventually(time.Minute, "it is with all homes", w.with("alone", w.a, w.b, w.to))
	})
}

// A home that is dead holds nobody up: what the others have is with a majority.
func TestADeadHomeDoesNotHoldUpAHandingOver(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 55}, func(w *moveWorld) {
		w.fill(50, 100, w.a, w.b)
		w.isolate(w.from)
		w.write(w.from, "alone", "v")
		w.moveWithout()
		w.halt(w.a)
		w.net.Heal()
		w.nodes[w.from].take(w.rec)
		w.eventually(time.Minute, "handed over", func() error { return w.handedOver(w.from) })
		if err := w.with("alone", w.b, w.to)(); err != nil {
			t.Error(err)
		}
		w.start(w.a)
		w.eventually(time.Minute, "the dead one has it", w.with("alone", w.a))
	})
}

// With fewer homes than a majority nothing is let go.
func TestNothingIsLetGoWithoutAMajorityOfTheHomes(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 56}, func(w *moveWorld) {
		w.fill(20, 100, w.a, w.b)
		w.isolate(w.from)
		w.write(w.from, "alone", "v")
		w.moveWithout()
		w.halt(w.a)
		w.halt(w.b)
		w.net.Heal()
		w.nodes[w.from].take(w.rec)
		time.Sleep(10 * time.Minute)
		if len(w.nodes[w.from].disk.ToHandOver()) != 1 {
			t.Error("it was let go")
		}
		w.start(w.b)
		w.eventually(time.Minute, "handed over", func() error { return w.handedOver(w.from) })
	})
}

// Whoever is no member has no say: what it kept was given up with it.
func TestWhoWasRemovedHasNoSay(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 57}, func(w *moveWorld) {
		stranger := rpc.Peer{ID: ring.NodeID{99}}
		home := w.nodes[w.a].repair
		b := w.minted(9, "k", "v")
		if _, err := home.serveStandIns(w.t.Context(), stranger, &standInsRequest{Partition: movedPartition, Records: [][]byte{b}}); !errors.Is(err, api.ErrRefused) {
			t.Errorf("its records: %v", err)
		}
		if _, err := home.serveClaims(w.t.Context(), stranger, &claimsRequest{Epoch: w.rec.Epoch, Partitions: []ring.Partition{movedPartition}}); !errors.Is(err, api.ErrRefused) {
			t.Errorf("its question: %v", err)
		}
		if err := w.nobody("k", w.a)(); err != nil {
			t.Error(err)
		}
	})
}

// A planned move costs what it must: the homes have everything, and learn so by clocks.
func TestAPlannedMoveIsHandedOverForNextToNothing(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 58}, func(w *moveWorld) {
		w.fill(300, 1000, w.a, w.b)
		w.traffic()
		w.step(ring.StepDual, w.everybody()...)
		w.write(w.from, "during", "v", w.a, w.b, w.to)
		w.mustSync(w.to, w.from)
		w.step(ring.StepReadNew, w.everybody()...)
		w.mustSync(w.to, w.from)
		w.step(ring.StepDone, w.everybody()...)
		w.eventually(time.Minute, "handed over", func() error { return w.handedOver(w.from) })
		calls, bytes := w.traffic()
		least := 300 * 1000
		if all := bytes[string(syncRoute)] + bytes[string(claimsRoute)] + bytes[string(standInsRoute)]; all > least*12/10 || all < least {
			t.Errorf("%d bytes, the least is %d: %v", all, least, bytes)
		}
		if n := calls[string(claimsRoute)]; n == 0 || n > 3 || calls[string(standInsRoute)] > 0 {
			t.Errorf("calls: %v", calls)
		}
		if err := w.with("during", w.a, w.b, w.to)(); err != nil {
			t.Error(err)
		}
	})
}

// Only what the homes lack is sent, and only to those who lack it.
func TestOnlyWhatIsLackingIsHandedOver(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 59}, func(w *moveWorld) {
		w.fill(300, 1000, w.a, w.b)
		w.isolate(w.from)
		for k := range 30 {
			w.write(w.from, fmt.Sprintf("alone-%d", k), string(make([]byte, 1000)))
		}
		w.moveWithout()
		w.net.Heal()
		w.traffic()
		w.nodes[w.from].take(w.rec)
		w.eventually(time.Minute, "handed over", func() error { return w.handedOver(w.from) })
		_, bytes := w.traffic()
		if n := bytes[string(standInsRoute)]; n < 30_000 || n > 3*30*1200 {
			t.Errorf("%d bytes were sent of 330 records, 30 of which three homes lack: %v", n, bytes)
		}
	})
}

// What is owed to a member ends with what the two share.
func TestWhatIsOwedEndsWithWhatIsShared(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 60}, func(w *moveWorld) {
		r := w.nodes[w.from].repair
		for i := range w.nodes {
			r.auditing.owe(w.nodes[i].id, movedPartition)
		}
		r.auditing.owe(ring.NodeID{99}, movedPartition)
		r.settle(w.nodes[w.a].id)
		r.auditing.mu.Lock()
		defer r.auditing.mu.Unlock()
		for id := range r.auditing.owed {
			if w.rec.HomeIndex(movedPartition, id) < 0 {
				t.Errorf("something is owed to %s, who is no home", id.Short())
			}
		}
		if len(r.auditing.owed[w.nodes[w.b].id]) != 1 {
			t.Error("what is owed to a home is forgotten")
		}
	})
}
