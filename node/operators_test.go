package node_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// Three join at the same moment, under load.
func TestFault46_ThreeJoinAtTheSameMoment(t *testing.T) {
	inBubble(t, 70, 16, 3, func(b *bubble) {
		b.found(3)
		c := b.check(24, 50*time.Millisecond, b.boxes[:3]...)
		for range 3 {
			b.box()
		}
		for _, x := range b.boxes[3:] {
			x.start()
		}
		b.settled(b.boxes...)
		c.end()
		c.undisturbed()
	})
}

// Two operators who want the opposite at once are both told the truth, and the cluster
// comes to rest with one of the two.
func TestContradictingOperatorsAreBothToldTheTruth(t *testing.T) {
	for seed := range uint64(6) {
		inBubble(t, 80+seed, 8, 3, func(b *bubble) {
			b.found(4)
			target := b.boxes[3]
			c := b.check(8, 100*time.Millisecond, b.boxes[:3]...)
			var asked sync.WaitGroup
			epochs := make([]uint64, 2)
			for i, verb := range []api.Verb{api.VerbLeave, api.VerbJoin} {
				asked.Go(func() {
					time.Sleep(time.Duration(seed) * time.Duration(i) * 5 * time.Millisecond)
					resp, err := b.boxes[i].ask(api.ChangeRequest{Verb: verb, Member: target.name})
					switch {
					case err == nil:
						epochs[i] = resp.Epoch
					case !errors.Is(err, api.ErrRefused) && !errors.Is(err, api.ErrBadRequest) && !errors.Is(err, api.ErrUnknown):
						t.Errorf("seed %d: %v: %v", seed, verb, err)
					}
				})
			}
			asked.Wait()
			if epochs[0] > epochs[1] || epochs[1] == 0 {
				b.settled(b.boxes[:3]...)
				<-target.node.Done()
			} else {
				b.settled(b.boxes...)
			}
			c.end()
		})
	}
}

// Who leaves may be a keeper, and the founder: others vote in its place.
func TestAKeeperLeaves(t *testing.T) {
	inBubble(t, 90, 8, 3, func(b *bubble) {
		b.found(4)
		r := b.settled(b.boxes...)
		i := 0
		for !r.IsKeeper(b.boxes[i].id) {
			i++
		}
		leaver := b.boxes[i]
		stay := append(append([]*box{}, b.boxes[:i]...), b.boxes[i+1:]...)
		c := b.check(16, 50*time.Millisecond, stay...)
		leaver.must(api.ChangeRequest{Verb: api.VerbLeave})
		<-leaver.node.Done()
		r = b.settled(stay...)
		if r.IsKeeper(leaver.id) || len(r.Keepers) != 3 {
			t.Errorf("keepers are %v after %s left", r.Keepers, leaver.id)
		}
		c.end()
		c.undisturbed()
	})
}

// Who died before it got any slots has no place that could be taken: it is not given up
// for somebody who is refused then, so that there would be too few members for ever.
func TestWhoHasNoSlotsIsNotGivenUpForAReplacement(t *testing.T) {
	inBubble(t, 104, 8, 3, func(b *bubble) {
		b.found(3)
		b.settled(b.boxes...)
		heir := b.box()
		heir.change = func(c *node.Config) { c.Standby = true }
		heir.start()
		via := b.boxes[0]
		b.until("the heir is on standby", func() bool { return via.record().Member(heir.id) != nil })
		dead := b.box()
		dead.start()
		b.until("the newcomer is a member", func() bool { return via.record().Member(dead.id) != nil })
		dead.kill()
		if n := via.record().HomeCount(dead.id); n > 0 {
			t.Fatalf("%s has %d slots already", dead.name, n)
		}
		via.sees(dead.id, false)
		time.Sleep(20 * time.Second)
		_, err := via.ask(api.ChangeRequest{Verb: api.VerbReplace, Member: dead.id.String(), With: heir.id.String()})
		if !errors.Is(err, api.ErrRefused) || !strings.Contains(err.Error(), "kith join") {
			t.Errorf("to replace one that has no slots: %v", err)
		}
		if is := via.record().Member(dead.id); is == nil || is.State != ring.Active {
			t.Errorf("it is %+v then", is)
		}
		via.must(api.ChangeRequest{Verb: api.VerbJoin, Member: heir.id.String()})
		via.must(api.ChangeRequest{Verb: api.VerbRemove, Member: dead.id.String()})
		b.settled(append(b.boxes[:3:3], heir)...)
	})
}

// A member on standby takes exactly the place of another one, which lives, or is dead.
func TestFault52_AReplacementTakesThePlace(t *testing.T) {
	for _, dead := range []bool{false, true} {
		t.Run(fmt.Sprintf("dead %v", dead), func(t *testing.T) {
			inBubble(t, 100, 8, 3, func(b *bubble) {
				b.found(4)
				heir := b.box()
				heir.change = func(c *node.Config) { c.Standby = true }
				heir.start()
				b.until("the heir is on standby", func() bool { r := heir.record(); return r != nil && r.Member(heir.id) != nil })
				old := b.boxes[3]
				before := b.boxes[0].record()
				c := b.check(16, 50*time.Millisecond, b.boxes[:3]...)
				if dead {
					old.kill()
					time.Sleep(20 * time.Second)
				}
				b.boxes[1].must(api.ChangeRequest{Verb: api.VerbReplace, Member: old.name, With: heir.id.Short()})
				if !dead {
					<-old.node.Done()
				}
				r := b.settled(b.boxes[0], b.boxes[1], b.boxes[2], heir)
				for p := range ring.Partition(r.Partitions) {
					for s, id := range before.Homes(p) {
						if id == old.id {
							id = heir.id
						}
						if got := r.Homes(p)[s]; got != id {
							t.Errorf("slot %d of partition %d is at %s, want %s", s, p, got.Short(), id.Short())
						}
					}
				}
				c.end()
				if !dead {
					c.undisturbed()
				}
			})
		})
	}
}

// With one home for a key, slots move while their only home is there, and reads see
// what was written.
func TestASingleHomeMovesWhileItIsThere(t *testing.T) {
	inBubble(t, 110, 8, 1, func(b *bubble) {
		b.found(2)
		c := b.check(16, 50*time.Millisecond, b.boxes[:1]...)
		b.box().start()
		b.settled(b.boxes...)
		b.boxes[0].must(api.ChangeRequest{Verb: api.VerbLeave, Member: b.boxes[1].name})
		<-b.boxes[1].node.Done()
		b.settled(b.boxes[0], b.boxes[2])
		c.end()
		c.undisturbed()
	})
}

// What cannot come to an end is refused, and the refusal names what to do.
func TestRefusalsSayWhatToDo(t *testing.T) {
	inBubble(t, 120, 8, 3, func(b *bubble) {
		b.found(3)
		for _, c := range []struct {
			req  api.ChangeRequest
			kind error
			says string
		}{
			{api.ChangeRequest{Verb: api.VerbLeave, Member: "n2"}, api.ErrRefused, "start another server with --join"},
			{api.ChangeRequest{Verb: api.VerbRemove, Member: "n2"}, api.ErrRefused, "kith leave"},
			{api.ChangeRequest{Verb: api.VerbReplace, Member: "n2", With: "n3"}, api.ErrRefused, "--standby"},
			{api.ChangeRequest{Verb: api.VerbReplicas, Number: 5}, api.ErrRefused, "start another server with --join"},
			{api.ChangeRequest{Verb: api.VerbReplicas}, api.ErrBadRequest, "1 to 7"},
			{api.ChangeRequest{Verb: api.VerbReplicas, Number: 8}, api.ErrBadRequest, "1 to 7"},
			{api.ChangeRequest{Verb: api.VerbAbort, Member: "n2"}, api.ErrRefused, "neither leaves nor joins"},
			{api.ChangeRequest{Verb: api.VerbWeight, Member: "n2", Number: 1 << 16}, api.ErrBadRequest, "1 to 65535"},
			{api.ChangeRequest{Verb: api.VerbWeight, Member: "n7", Number: 1}, api.ErrBadRequest, "kith status"},
			{api.ChangeRequest{Verb: api.VerbRemove}, api.ErrBadRequest, "no member is named"},
			{api.ChangeRequest{Verb: 99, Member: "n2"}, api.ErrBadRequest, "verb 99"},
		} {
			before := b.boxes[0].record().Epoch
			_, err := b.boxes[0].ask(c.req)
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v of %q: %v, want one that says %q", c.req.Verb, c.req.Member, err, c.says)
			}
			if after := b.boxes[0].record().Epoch; after != before {
				t.Errorf("%v of %q changed the ring", c.req.Verb, c.req.Member)
			}
		}
		// Without a majority of keepers nothing is changed, and that is certain.
		b.boxes[1].kill()
		b.boxes[2].kill()
		if _, err := b.boxes[0].ask(api.ChangeRequest{Verb: api.VerbWeight, Member: "n1", Number: 3}); !errors.Is(err, api.ErrUnavailable) {
			t.Errorf("a weight is set without a majority of keepers: %v", err)
		}
	})
}
