package node_test

import (
	"testing"
	"time"

	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/ring"
)

// willing founds a cluster of n machines that give up members which are dead for a minute.
func (b *bubble) willing(n int) {
	for i := range n {
		x := b.box()
		x.change = func(c *node.Config) { c.AutoHeal, c.DeadAfter = true, time.Minute }
		if i == 0 {
			x.founder = n
		}
		x.start()
	}
	b.until("the cluster is ready", b.boxes[0].ready)
}

// A member that is dead for long is given up where that is asked for: the others have all
// of its slots, and nothing acknowledged is lost.
func TestADeadMemberIsGivenUpWhereThatIsAskedFor(t *testing.T) {
	inBubble(t, 70, 8, 3, func(b *bubble) {
		b.willing(5)
		dead := b.boxes[4]
		dead.kill()
		time.Sleep(50 * time.Second)
		if m := b.boxes[0].record().Member(dead.id); m == nil || m.State != ring.Active {
			t.Fatalf("after 50 seconds the dead member is %+v", m)
		}
		c := b.check(16, 100*time.Millisecond, b.boxes[:2]...)
		b.settled(b.boxes[:4]...)
		c.end()
		b.until("the dead member is none any more", func() bool { return b.boxes[0].record().Member(dead.id) == nil })
	})
}

// Who did not ask for it keeps its dead members.
func TestADeadMemberKeepsItsSlotsUnasked(t *testing.T) {
	inBubble(t, 72, 8, 3, func(b *bubble) {
		b.found(5)
		dead := b.boxes[4]
		dead.kill()
		time.Sleep(10 * time.Minute)
		if m := b.boxes[0].record().Member(dead.id); m == nil || m.State != ring.Active {
			t.Errorf("unasked, the dead member is %+v", m)
		}
	})
}

// The members of a minority give nobody up.
func TestAMinorityGivesNobodyUp(t *testing.T) {
	inBubble(t, 71, 8, 3, func(b *bubble) {
		b.willing(5)
		before := b.boxes[0].record()
		for _, x := range b.boxes[2:] {
			x.kill()
		}
		time.Sleep(10 * time.Minute)
		if r := b.boxes[0].record(); r.Digest() != before.Digest() {
			t.Errorf("two of five have changed the ring: %v", r.Changes(before))
		}
	})
}
