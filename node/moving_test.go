package node_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

var phases = []ring.Phase{ring.PhasePlan, ring.PhaseDual, ring.PhaseReadNew}

// Whoever gets slots, and whoever gives them, may be killed in each phase and come
// back: what was begun goes on, and nothing acknowledged is lost meanwhile.
func TestFault19_WhoeverIsKilledInEachPhaseOfAMoveGoesOn(t *testing.T) {
	for i, phase := range phases {
		for j, victim := range []string{"target", "source"} {
			t.Run(fmt.Sprintf("%s in %v", victim, phase), func(t *testing.T) {
				inBubble(t, uint64(10+2*i+j), 8, 3, func(b *bubble) {
					b.found(3)
					newcomer := b.box()
					newcomer.slow(30 * time.Millisecond)
					c := b.check(16, 100*time.Millisecond, b.boxes[:2]...)
					newcomer.start()
					move := b.boxes[0].phase(phase, func(m ring.Move) bool { return victim == "target" || m.From == b.boxes[2].id })
					x := newcomer
					if victim == "source" {
						x = b.boxes[2]
					}
					t.Logf("killed in %v", &move)
					x.kill()
					time.Sleep(5 * time.Second)
					x.start()
					b.settled(b.boxes...)
					c.end()
				})
			})
		}
	}
}

// dies kills a machine for good, in the phase of a move that it has a part in, while
// clients use the first machines: it is removed, and the survivors have everything.
func (b *bubble) dies(phase ring.Phase, clients int, dead, newcomer *box, survivors ...*box) {
	b.t.Helper()
	newcomer.slow(30 * time.Millisecond)
	c := b.check(16, 100*time.Millisecond, b.boxes[:clients]...)
	newcomer.start()
	b.boxes[0].phase(phase, func(m ring.Move) bool { return m.From == dead.id || m.To == dead.id })
	dead.kill()
	if _, err := b.boxes[0].ask(api.ChangeRequest{Verb: api.VerbRemove, Member: b.boxes[1].name}); !errors.Is(err, api.ErrRefused) {
		b.t.Errorf("a member that lives is removed: %v", err)
	}
	b.until("nobody reaches the dead one", func() bool {
		_, err := b.boxes[0].ask(api.ChangeRequest{Verb: api.VerbRemove, Member: dead.name})
		return err == nil
	})
	b.settled(survivors...)
	c.end()
}

// A member that gives slots away dies for good, in each phase: it is removed, and the
// others have everything.
func TestFault52_ASourceThatDiesForGoodIsRemoved(t *testing.T) {
	for i, phase := range phases {
		t.Run(phase.String(), func(t *testing.T) {
			inBubble(t, uint64(30+i), 8, 3, func(b *bubble) {
				b.found(4)
				newcomer, dead := b.box(), b.boxes[3]
				b.dies(phase, 2, dead, newcomer, b.boxes[0], b.boxes[1], b.boxes[2], newcomer)
				dead.start()
				<-dead.node.Done()
				if err := dead.node.Err(); !errors.Is(err, ring.ErrBanned) {
					t.Errorf("a removed member that comes back ends with %v", err)
				}
			})
		})
	}
}

// A newcomer that dies for good in each phase is removed, and its slots are where they
// were.
func TestFault52_ATargetThatDiesForGoodIsRemoved(t *testing.T) {
	for i, phase := range phases {
		t.Run(phase.String(), func(t *testing.T) {
			inBubble(t, uint64(40+i), 8, 3, func(b *bubble) {
				b.found(3)
				newcomer := b.box()
				b.dies(phase, 3, newcomer, newcomer, b.boxes[:3]...)
			})
		})
	}
}

// A joining that is taken back, in each phase, leaves the newcomer on standby without a
// slot; a leaving that is taken back leaves the member with its share.
func TestWhatIsTakenBackLeavesEverythingAsItWas(t *testing.T) {
	for i, phase := range phases {
		t.Run("join in "+phase.String(), func(t *testing.T) {
			inBubble(t, uint64(50+i), 8, 3, func(b *bubble) {
				b.found(3)
				newcomer := b.box()
				newcomer.slow(50 * time.Millisecond)
				c := b.check(16, 100*time.Millisecond, b.boxes[:3]...)
				newcomer.start()
				b.boxes[0].phase(phase, func(ring.Move) bool { return true })
				b.boxes[1].must(api.ChangeRequest{Verb: api.VerbAbort, Member: newcomer.name})
				r := b.settled(b.boxes[:3]...)
				b.until("the newcomer is on standby", func() bool {
					r = newcomer.record()
					return r != nil && r.Member(newcomer.id).State == ring.Standby
				})
				c.end()
				c.undisturbed()
				newcomer.must(api.ChangeRequest{Verb: api.VerbJoin})
				b.settled(b.boxes...)
			})
		})
		t.Run("leave in "+phase.String(), func(t *testing.T) {
			inBubble(t, uint64(60+i), 8, 3, func(b *bubble) {
				b.found(4)
				b.boxes[0].slow(30 * time.Millisecond)
				c := b.check(16, 100*time.Millisecond, b.boxes...)
				b.boxes[3].must(api.ChangeRequest{Verb: api.VerbLeave})
				b.boxes[0].phase(phase, func(ring.Move) bool { return true })
				b.boxes[1].must(api.ChangeRequest{Verb: api.VerbAbort})
				b.settled(b.boxes...)
				c.end()
				c.undisturbed()
			})
		})
	}
}
