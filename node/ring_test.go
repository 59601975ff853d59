package node_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

func (x *box) plan(req api.ChangeRequest) *api.PlanResponse {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	resp, err := api.Plan.Call(ctx, x.me, x.peer(), &req)
	if err != nil {
		x.t.Fatalf("plan of %v: %v", req.Verb, err)
	}
	return resp
}

func (x *box) moves() *api.MovesResponse {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	resp, err := api.Moves.Call(ctx, x.me, x.peer(), &api.MovesRequest{})
	if err != nil {
		x.t.Fatalf("moves at %s: %v", x.name, err)
	}
	return resp
}

// history is what the machine tells of the ring's changes, as one text.
func (x *box) history() (text string) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	resp, err := api.History.Call(ctx, x.me, x.peer(), &api.HistoryRequest{})
	if err != nil {
		x.t.Fatalf("history at %s: %v", x.name, err)
	}
	last := uint64(0)
	for _, c := range resp.Changes {
		if c.Epoch <= last || c.Time == 0 {
			x.t.Errorf("history has epoch %d at %d behind %d", c.Epoch, c.Time, last)
		}
		last = c.Epoch
		text += strings.Join(c.Said, "\n") + "\n"
	}
	return text
}

// A plan changes nothing, and what it says is what happens.
func TestAPlanSaysWhatWillHappen(t *testing.T) {
	inBubble(t, 200, 16, 3, func(b *bubble) {
		b.found(3)
		guest := b.box()
		guest.change = func(c *node.Config) { c.Standby = true }
		guest.start()
		b.until("the newcomer is on standby", func() bool { r := guest.record(); return r != nil && r.Member(guest.id) != nil })
		req := api.ChangeRequest{Verb: api.VerbJoin, Member: guest.name}
		before := b.boxes[0].record()
		plan := b.boxes[1].plan(req)
		if after := b.boxes[0].record(); after.Digest() != before.Digest() {
			t.Fatal("a plan has changed the ring")
		}
		if plan.Slots != 12 || plan.Least != 12 || plan.Epoch != before.Epoch || len(plan.Members) != 4 {
			t.Errorf("the plan is %+v", plan)
		}
		guest.must(req)
		r := b.settled(b.boxes...)
		moved := 0
		for _, m := range plan.Members {
			if got := r.HomeCount(m.ID); got != m.Then {
				t.Errorf("%s has %d slots, planned were %d", m.Name, got, m.Then)
			}
			moved += m.In
		}
		if moved != plan.Slots {
			t.Errorf("%d slots in, %d to be moved", moved, plan.Slots)
		}
		if leave := b.boxes[0].plan(api.ChangeRequest{Verb: api.VerbLeave, Member: guest.name}); leave.Slots != 12 {
			t.Errorf("a leave of the newcomer would move %d slots", leave.Slots)
		}
	})
}

// Every node keeps in words what the ring's records have changed, also through a
// restart, and no more than a bound.
func TestHistoryOutlivesARestart(t *testing.T) {
	inBubble(t, 201, 8, 3, func(b *bubble) {
		b.found(3)
		x := b.boxes[1]
		for i := range 300 {
			b.boxes[0].must(api.ChangeRequest{Verb: api.VerbWeight, Member: "n1", Number: 1 + (i+1)%2})
		}
		time.Sleep(10 * time.Second)
		text := x.history()
		if !strings.Contains(text, "had weight 1 and has 2") || strings.Contains(text, "the cluster is founded") {
			t.Errorf("after 300 changes the history is:\n%s", text)
		}
		x.kill()
		x.start()
		b.until("it is back", func() bool { return x.ready() })
		if again := x.history(); again != text {
			t.Errorf("after a restart the history is:\n%s\nwant\n%s", again, text)
		}
	})
}

// While slots move, any node tells who gets what from whom, and status says what part
// everybody has.
func TestMovesAreSeenFromEverywhere(t *testing.T) {
	inBubble(t, 202, 16, 3, func(b *bubble) {
		b.found(3)
		c := b.check(16, 20*time.Millisecond, b.boxes...)
		newcomer := b.box()
		newcomer.slow(100 * time.Millisecond)
		newcomer.start()
		b.boxes[0].phase(ring.PhaseReadNew, func(ring.Move) bool { return true })
		for _, x := range b.boxes {
			m := x.moves()
			if len(m.Moves) == 0 || m.Running == 0 || m.Running+m.Queued != len(m.Moves) {
				t.Errorf("%s sees %d running, %d queued: %v", x.name, m.Running, m.Queued, m.Moves)
			}
			for _, move := range m.Moves {
				if move.To != newcomer.id {
					t.Errorf("%s sees a move to %s", x.name, move.To)
				}
			}
			for _, s := range x.status().Members {
				if s.Membership != "active" || (s.MovesIn > 0) != (s.Name == newcomer.name) || (s.MovesOut > 0) == (s.Name == newcomer.name) {
					t.Errorf("%s sees %s as %s with %d moves in and %d out", x.name, s.Name, s.Membership, s.MovesIn, s.MovesOut)
				}
			}
		}
		b.settled(b.boxes...)
		if m := b.boxes[0].moves(); m.Bytes == 0 || m.Done == 0 || len(m.Moves) > 0 {
			t.Errorf("in the end %d bytes were pulled, %d moves done, %d are left", m.Bytes, m.Done, len(m.Moves))
		}
		c.end()
	})
}

// Nobody on a minority's side changes the ring; once it is healed, what was asked for
// is done.
func TestFault47_AMinorityChangesNothing(t *testing.T) {
	inBubble(t, 203, 8, 3, func(b *bubble) {
		b.found(5)
		r := b.settled(b.boxes...)
		var minority, majority []*box
		for _, x := range b.boxes {
			if r.IsKeeper(x.id) && len(minority) < len(r.Keepers)/2 {
				minority = append(minority, x)
			} else {
				majority = append(majority, x)
			}
		}
		c := b.check(8, 100*time.Millisecond, b.boxes...)
		b.net.Partition(namesOf(minority), namesOf(majority))
		time.Sleep(20 * time.Second)
		if _, err := minority[0].ask(api.ChangeRequest{Verb: api.VerbWeight, Member: "n1", Number: 3}); err == nil {
			t.Error("a minority has set a weight")
		}
		leaver := majority[0]
		majority[1].must(api.ChangeRequest{Verb: api.VerbLeave, Member: leaver.name})
		time.Sleep(30 * time.Second)
		for _, x := range minority {
			if got := x.record(); got.Epoch != r.Epoch {
				t.Errorf("%s, in the minority, holds epoch %d", x.name, got.Epoch)
			}
		}
		b.net.Heal()
		<-leaver.node.Done()
		b.settled(append(minority, majority[1:]...)...)
		c.end()
	})
}

func namesOf(boxes []*box) (names []string) {
	for _, x := range boxes {
		names = append(names, x.name)
	}
	return names
}

// Who leaves may be killed on its way, and goes on when it is back; with one home a
// key, what it has waits for it, and that is said.
func TestFault19_WhoLeavesIsKilledOnItsWay(t *testing.T) {
	for _, replicas := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d homes", replicas), func(t *testing.T) {
			inBubble(t, 204, 8, replicas, func(b *bubble) {
				b.found(4)
				leaver := b.boxes[3]
				leaver.slow(50 * time.Millisecond)
				c := b.check(8, 100*time.Millisecond, b.boxes[:3]...)
				leaver.must(api.ChangeRequest{Verb: api.VerbLeave})
				b.boxes[0].phase(ring.PhaseDual, func(ring.Move) bool { return true })
				leaver.kill()
				time.Sleep(time.Minute)
				if r := b.boxes[0].record(); r.Member(leaver.id) == nil {
					t.Error("it is no member any more, and may keep what others need")
				}
				if replicas == 1 {
					waits := ""
					for _, m := range b.boxes[0].moves().Moves {
						waits += m.Waits + "\n"
					}
					if !strings.Contains(waits, "nobody can be reached to pull from") {
						t.Errorf("moves from the only home, which is away, wait for:\n%s", waits)
					}
				}
				leaver.start()
				<-leaver.node.Done()
				b.settled(b.boxes[:3]...)
				c.end()
			})
		})
	}
}
