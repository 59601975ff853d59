package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
)

// force has a node force the ring with some survivors.
func (n *node) force(survivors ...*node) (*ring.Record, error) {
	ctx, cancel := within(30 * time.Second)
	defer cancel()
	f := Forcing{Who: "ada@host", Time: uint64(time.Now().UnixMilli())}
	for _, s := range survivors {
		f.Survivors = append(f.Survivors, s.id)
	}
	return n.Force(ctx, f)
}

func (n *node) mustForce(survivors ...*node) *ring.Record {
	n.t.Helper()
	r, err := n.force(survivors...)
	if err != nil {
		n.t.Fatalf("seed %d: %v", n.seed, err)
	}
	for _, s := range survivors {
		if s.Current().Epoch < r.Epoch {
			n.t.Fatalf("%s holds epoch %d, forced was %d", s.addr, s.Current().Epoch, r.Epoch)
		}
	}
	return r
}

// The whole story: keepers are lost, the refusal names them, survivors force the ring, and
// the lost ones come back as members who do not vote, until they are readmitted.
func TestSurvivorsForceTheRingAndLostKeepersComeBackAsMembers(t *testing.T) {
	for seed := range uint64(runs(6)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(5, 3)
			w.storm(seed%2 == 1)
			if err := nodes[4].add(1); err != nil {
				t.Fatal(err)
			}
			w.agree(3, nodes...)
			for _, n := range nodes[2:] {
				n.kill()
			}
			ctx, cancel := within(20 * time.Second)
			_, err := nodes[0].Propose(ctx, standby(guest(2)))
			cancel()
			var missing *MissingError
			if !errors.As(err, &missing) || !Unsent(err) {
				t.Fatalf("seed %d: without a majority of keepers: %v", seed, err)
			}
			want := []string{nodes[2].addr, nodes[3].addr, nodes[4].addr}
			slices.Sort(missing.Names)
			if seed%2 == 0 && (!slices.Equal(missing.Names, want) || missing.Keepers != 5 || len(missing.Survivors) != 2) {
				t.Errorf("it names %v of %d, and survivors %v", missing.Names, missing.Keepers, missing.Survivors)
			}
			w.storm(false) // all must answer, and there is no second try within one
			before := nodes[0].Current()
			r := nodes[0].mustForce(nodes[0], nodes[1])
			if r.LastForced().Base != before.Epoch || r.Epoch <= before.Epoch || len(r.Members) != len(before.Members) {
				t.Fatalf("forced %+v", r.LastForced())
			}
			w.storm(seed%2 == 1)
			if again, err := nodes[1].force(nodes[:2]...); seed%2 == 0 && (err != nil || again.Epoch != r.Epoch) {
				t.Errorf("once more, it is %v, %v", again, err)
			}
			if err := nodes[1].add(3); err != nil {
				t.Fatal(err)
			}
			for _, n := range nodes[2:] {
				n.start()
			}
			r = w.agree(r.Epoch+1, nodes...)
			for _, n := range nodes[2:] {
				if r.IsKeeper(n.id) || !r.IsApart(n.id) {
					t.Errorf("%s is a keeper", n.addr)
				}
			}
			// What they want is decided by those who vote now.
			if err := nodes[4].add(4); err != nil {
				t.Fatal(err)
			}
			for _, n := range nodes {
				ctx, cancel := within(time.Minute)
				if _, err := nodes[3].Propose(ctx, func(r *ring.Record) (*ring.Record, error) { return r.WithReadmitted(n.id) }); err != nil {
					t.Fatal(err)
				}
				cancel()
			}
			r = w.agree(r.Epoch+4, nodes...)
			if len(r.Keepers) != 5 {
				t.Errorf("%d keepers after all were readmitted", len(r.Keepers))
			}
			w.storm(false) // now all of the rest must vote
			nodes[0].kill()
			nodes[1].kill()
			if err := nodes[2].add(5); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestForcingIsRefusedWhereItIsNotSafe(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(5, 3)
		before := nodes[0].Current()
		refused := func(says string, by *node, survivors ...*node) {
			t.Helper()
			_, err := by.force(survivors...)
			if !errors.Is(err, ErrForced) || !strings.Contains(err.Error(), says) {
				t.Errorf("%v, want one that says %q", err, says)
			}
		}
		refused("not needed: 3 of the 5", nodes[0], nodes[:3]...)
		refused("lives, it is reached by", nodes[0], nodes[:2]...)
		refused("among the survivors", nodes[0], nodes[1:3]...)
		refused("named twice", nodes[0], nodes[0], nodes[0])
		stranger := &node{id: ring.NodeID{0xee}}
		refused("is no member", nodes[0], nodes[0], stranger)
		nodes[2].kill()
		nodes[3].kill()
		nodes[4].kill()
		w.cut(nodes[1])
		refused("survivor "+nodes[1].addr, nodes[0], nodes[:2]...)
		w.heal()
		refused("survivor "+nodes[2].addr, nodes[0], nodes[0], nodes[2])
		if r := nodes[0].Current(); r.Digest() != before.Digest() {
			t.Fatalf("the ring was changed: %v", r.Changes(before))
		}
		// Nobody is bound by what was refused.
		nodes[2].start()
		if err := nodes[0].add(1); err != nil {
			t.Fatal(err)
		}
	})
}

// One survivor is reached by the look and not by the rest: the others are free again.
func TestWhoHasPromisedIsReleasedIfOthersDoNot(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(5, 3)
		for _, n := range nodes[2:] {
			n.kill()
		}
		w.watch(func(_, to ring.NodeID, _ string, msg any) bool {
			m, ok := msg.(*surviveRequest)
			return ok && to == nodes[1].id && m.Step != stepLook
		})
		if _, err := nodes[0].force(nodes[:2]...); !errors.Is(err, ErrForced) {
			t.Fatal(err)
		}
		if nodes[0].pledged.Load().binds(nodes[0].Current()) {
			t.Error("it is still bound")
		}
		w.watch(nil)
		for _, n := range nodes[2:] {
			n.start()
		}
		if err := nodes[0].add(1); err != nil {
			t.Fatal(err)
		}
	})
}

// What the lost keepers may have decided with one of the survivors is not undone.
func TestWhatMayBeDecidedIsForcedOnTopOf(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(5, 3)
		w.watch(func(from, to ring.NodeID, route string, msg any) bool { return route == string(tellRoute) })
		value := nodes[1].successor(7)
		for _, n := range nodes[1:4] {
			if r, err := n.prepare(3); err != nil || !r.OK {
				t.Fatal(r, err)
			}
			if r, err := n.accept(3, value); err != nil || !r.OK {
				t.Fatal(r, err)
			}
		}
		for _, n := range nodes[2:] {
			n.kill()
		}
		w.watch(nil)
		r := nodes[0].mustForce(nodes[0], nodes[1])
		if r.Member(guest(7).ID) == nil || r.LastForced().Base != 3 {
			t.Fatalf("what was decided is gone: base %d", r.LastForced().Base)
		}
	})
}

// The one that forces dies when so many of its messages have left. Whoever repeats it
// finishes what was begun, or begins anew; never are there two records.
func TestForcingCanBeRepeatedAfterACrashAnywhere(t *testing.T) {
	for left := range 12 {
		inWorld(t, uint64(left), func(t *testing.T, w *world) {
			nodes := w.founded(7, 3)
			for _, n := range nodes[3:] {
				n.kill()
			}
			sent, out := 0, make(chan struct{})
			w.watch(func(from, to ring.NodeID, route string, _ any) bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				if from != nodes[0].id || route != string(surviveRoute) && (route != string(tellRoute) || sent < 4) {
					return false
				}
				if sent++; sent == left+1 {
					close(out)
				}
				return sent > left
			})
			ctx, cancel := context.WithCancel(context.Background())
			failed := make(chan error, 1)
			go func() {
				_, err := nodes[0].Force(ctx, Forcing{Survivors: []ring.NodeID{nodes[0].id, nodes[1].id, nodes[2].id}})
				failed <- err
			}()
			select {
			case <-out:
			case err := <-failed: // fewer messages than that are enough
				if err != nil {
					t.Fatal(err)
				}
				failed <- nil
			}
			nodes[0].kill()
			cancel()
			<-failed
			time.Sleep(time.Second) // what left arrives
			w.watch(nil)
			nodes[0].start()
			if left%2 == 0 {
				nodes[1].mustForceOrStands(nodes[:3]...)
			} else {
				nodes[0].mustForceOrStands(nodes[:3]...)
			}
			r := w.agree(3, nodes[:3]...)
			if len(r.Forced) != 1 {
				t.Fatalf("%d messages: forced %d times", left, len(r.Forced))
			}
			if err := nodes[2].add(1); err != nil {
				t.Fatalf("%d messages: %v", left, err)
			}
			for _, n := range nodes[3:] {
				n.start()
			}
			w.agree(r.Epoch+1, nodes...)
		})
	}
}

// mustForceOrStands repeats, where that is not needed any more, too.
func (n *node) mustForceOrStands(survivors ...*node) {
	n.t.Helper()
	if _, err := n.force(survivors...); err != nil && !(errors.Is(err, ErrForced) && strings.Contains(err.Error(), "not needed")) {
		n.t.Fatalf("seed %d: repeated: %v", n.seed, err)
	}
}

// Keepers that were given up, and live, go on by themselves. When both sides meet, they
// refuse each other, and say so.
func TestKeepersThatLiveAreASplitThatBothSidesName(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(5, 3)
		w.cut(nodes[0], nodes[1])
		forced := nodes[0].mustForce(nodes[0], nodes[1])
		for i := range 3 {
			if err := nodes[3].add(10 + i); err != nil {
				t.Fatal(err)
			}
		}
		w.heal()
		w.until("all know of the split", func() bool {
			return !slices.ContainsFunc(nodes, func(n *node) bool { return n.Split() == "" })
		})
		for _, n := range nodes {
			if !strings.Contains(n.Split(), fmt.Sprint("epoch ", forced.Epoch)) || !strings.Contains(n.Split(), nodes[0].addr) {
				t.Errorf("%s does not name it: %s", n.addr, n.Split())
			}
		}
		if r := nodes[2].Current(); len(r.Forced) > 0 || r.Epoch != 5 {
			t.Errorf("one side took over epoch %d", r.Epoch)
		}
		if r := nodes[0].Current(); r.Digest() != forced.Digest() {
			t.Errorf("the other side took over epoch %d", r.Epoch)
		}
		// Each goes on, and never with votes of the other.
		if err := nodes[0].add(1); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := within(20 * time.Second)
		defer cancel()
		if _, err := nodes[2].Propose(ctx, standby(guest(2))); err == nil && nodes[1].Current().Member(guest(2).ID) != nil {
			t.Error("a vote of the one side has counted for the other")
		}
	})
}

func TestBothSidesForcedByMistakeRefuseEachOther(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(5, 3)
		nodes[4].kill()
		w.cut(nodes[0], nodes[1])
		one := nodes[0].mustForce(nodes[0], nodes[1])
		two := nodes[2].mustForce(nodes[2], nodes[3])
		for i, n := range []*node{nodes[1], nodes[3]} {
			if err := n.add(i); err != nil {
				t.Fatal(err)
			}
		}
		w.heal()
		w.until("all know of the split", func() bool {
			return !slices.ContainsFunc(nodes[:4], func(n *node) bool { return n.Split() == "" })
		})
		time.Sleep(2 * time.Minute)
		for i, n := range nodes[:4] {
			want := one
			if i > 1 {
				want = two
			}
			if r := n.Current(); r.LastForced().Epoch != want.Epoch {
				t.Errorf("%s has changed sides", n.addr)
			}
			if n.Split() == "" {
				t.Errorf("%s does not speak of it any more", n.addr)
			}
		}
		if _, err := nodes[0].force(nodes[:4]...); !errors.Is(err, ErrForced) || !errors.Is(err, ring.ErrSplit) {
			t.Errorf("both are forced into one: %v", err)
		}
		// Who was dead all the time belongs to nobody yet, and follows the first that it
		// hears of.
		nodes[4].start()
		w.until("it has followed one", func() bool { return len(nodes[4].Current().Forced) == 1 })
	})
}

// A lost keeper had decided something with others who are dead by now: it comes back with
// what counts no more, and is refused by name.
func TestAKeeperThatComesBackFromAnotherHistoryIsNamed(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(5, 3)
		w.cut(nodes[0], nodes[1])
		if err := nodes[3].add(10); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes[2:] {
			n.kill()
		}
		w.heal()
		nodes[0].mustForce(nodes[0], nodes[1])
		if err := nodes[1].add(1); err != nil {
			t.Fatal(err)
		}
		back := nodes[2]
		if back.disk.holds(t).Epoch == 2 {
			back = nodes[3]
		}
		back.start()
		w.until("both know", func() bool { return back.Split() != "" && nodes[0].Split() != "" })
		if back.Current().Epoch != 3 {
			t.Errorf("it adopted epoch %d in the place of what others agreed on", back.Current().Epoch)
		}
	})
}

// holds is the record on a disk.
func (d *disk) holds(t *testing.T) *ring.Record {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := ring.Decode(d.meta[metaRing])
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Two operators force the ring at once, with the same survivors: one record comes of it,
// and who is told that nothing was changed, or to repeat it, is told the truth.
func TestTwoOperatorsForceOneRecord(t *testing.T) {
	for seed := range uint64(runs(12)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(5, 3)
			for _, n := range nodes[2:] {
				n.kill()
			}
			errs := make([]error, 2)
			var asked sync.WaitGroup
			for i, n := range nodes[:2] {
				wait := time.Duration(w.dice.IntN(20)) * time.Millisecond
				asked.Go(func() {
					time.Sleep(wait)
					_, errs[i] = n.force(nodes[:2]...)
				})
			}
			asked.Wait()
			for i, err := range errs {
				if err != nil && !errors.Is(err, ErrForced) && !errors.Is(err, ErrForcing) {
					t.Errorf("seed %d: operator %d: %v", seed, i, err)
				}
			}
			nodes[0].mustForceOrStands(nodes[:2]...)
			r := w.agree(3, nodes[:2]...)
			if len(r.Forced) != 1 {
				t.Fatalf("seed %d: forced %d times: %v", seed, len(r.Forced), errs)
			}
			if err := nodes[1].add(1); err != nil {
				t.Fatal(err)
			}
		})
	}
}
