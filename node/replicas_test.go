package node_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// replicated waits until every key has so many homes, with these members active.
func (b *bubble) replicated(n int, active ...*box) *ring.Record {
	b.t.Helper()
	b.until(fmt.Sprintf("every key has %d homes", n), func() bool {
		r := b.up()[0].record()
		return r != nil && r.Replicas == n && r.Before == 0
	})
	return b.settled(active...)
}

// From one home to three and five, and back again, while clients write and read at
// quorum: nothing acknowledged is lost, no read goes back, and nothing is refused.
func TestTheNumberOfReplicasChangesUnderLoad(t *testing.T) {
	inBubble(t, 200, 8, 1, func(b *bubble) {
		b.found(5)
		c := b.check(12, 80*time.Millisecond, b.boxes...)
		time.Sleep(time.Second)
		for i, n := range []int{3, 5, 3, 1} {
			resp := b.boxes[i].must(api.ChangeRequest{Verb: api.VerbReplicas, Number: n})
			if !resp.Changed || len(resp.Said) == 0 {
				t.Errorf("%d replicas: %+v", n, resp)
			}
			b.replicated(n, b.boxes...)
			if resp := b.boxes[0].must(api.ChangeRequest{Verb: api.VerbReplicas, Number: n}); resp.Changed {
				t.Errorf("%d replicas again: %+v", n, resp)
			}
		}
		c.end()
		c.undisturbed()
	})
}

// Whoever is killed in each phase while slots are added or taken away, and comes back:
// everything goes on, and nothing is lost.
func TestFault19_WhoeverIsKilledWhileTheNumberOfReplicasChangesGoesOn(t *testing.T) {
	for i, c := range []struct {
		from, to int
		phase    ring.Phase
		who      string
	}{
		{1, 2, ring.PhaseDual, "newcomer"}, {1, 2, ring.PhaseReadNew, "home"}, {2, 3, ring.PhaseReadNew, "newcomer"},
		{2, 1, ring.PhaseDual, "leaver"}, {2, 1, ring.PhaseDual, "home"}, {3, 2, ring.PhaseDual, "leaver"}, {3, 2, ring.PhaseDual, "home"},
	} {
		t.Run(fmt.Sprintf("%d to %d, the %s in %v", c.from, c.to, c.who, c.phase), func(t *testing.T) {
			inBubble(t, uint64(210+i), 8, c.from, func(b *bubble) {
				b.found(4)
				check := b.check(6, 200*time.Millisecond, b.boxes...)
				time.Sleep(time.Second)
				for _, x := range b.boxes {
					x.slow(20 * time.Millisecond)
				}
				b.boxes[0].must(api.ChangeRequest{Verb: api.VerbReplicas, Number: c.to})
				m := b.boxes[0].phase(c.phase, func(m ring.Move) bool { return true })
				id := m.To
				switch c.who {
				case "home":
					for _, home := range b.boxes[0].record().Homes(m.Partition) {
						if home != m.From && home != m.To {
							id = home
						}
					}
				case "leaver":
					id = m.From
				}
				for _, x := range b.boxes {
					if x.id == id {
						x.kill()
						time.Sleep(20 * time.Second) // so long that others turn back what waits for it
						x.start()
					}
				}
				b.replicated(c.to, b.boxes...)
				check.end()
			})
		})
	}
}

// While a member is down that is needed, what waits for it says so and disturbs nobody;
// one that is given up is done without.
func TestAMemberThatIsDownIsWaitedForOrGivenUp(t *testing.T) {
	for i, c := range []struct {
		from, to int
		removed  bool
	}{{3, 2, false}, {3, 2, true}, {2, 3, false}, {2, 1, false}} {
		t.Run(fmt.Sprintf("%d to %d, removed %v", c.from, c.to, c.removed), func(t *testing.T) {
			inBubble(t, uint64(230+i), 8, c.from, func(b *bubble) {
				b.found(5)
				check := b.check(6, 250*time.Millisecond, b.boxes[:4]...)
				time.Sleep(time.Second)
				down := b.boxes[4]
				down.kill()
				time.Sleep(20 * time.Second)
				b.boxes[0].must(api.ChangeRequest{Verb: api.VerbReplicas, Number: c.to})
				time.Sleep(20 * time.Second)
				if r := b.boxes[0].record(); r.Before == 0 {
					t.Errorf("the change came to its end without %s: %d homes", down.name, r.HomeCount(down.id))
				}
				if c.removed {
					b.boxes[0].must(api.ChangeRequest{Verb: api.VerbRemove, Member: down.name})
					b.replicated(c.to, b.boxes[:4]...)
				} else {
					down.start()
					b.replicated(c.to, b.boxes...)
				}
				check.end()
			})
		})
	}
}

// Two operators want different numbers at the same moment: both are told what stands,
// and one of the two comes; and a wish is taken back halfway.
func TestOperatorsMayThinkAgainAboutTheNumberOfReplicas(t *testing.T) {
	inBubble(t, 240, 16, 3, func(b *bubble) {
		b.found(5)
		c := b.check(8, 150*time.Millisecond, b.boxes...)
		time.Sleep(time.Second)
		answers := make(chan error, 2)
		for i, n := range []int{5, 1} {
			go func() {
				_, err := b.boxes[i].ask(api.ChangeRequest{Verb: api.VerbReplicas, Number: n})
				answers <- err
			}()
		}
		for range 2 {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		want := b.boxes[0].record().Replicas
		if want != 5 && want != 1 {
			t.Fatalf("%d replicas are wanted", want)
		}
		b.replicated(want, b.boxes...)
		for _, x := range b.boxes {
			x.slow(30 * time.Millisecond)
		}
		for _, n := range []int{3, 5, 2} {
			before := b.boxes[0].record().Replicas
			if n == before {
				continue
			}
			b.boxes[1].must(api.ChangeRequest{Verb: api.VerbReplicas, Number: n})
			b.boxes[2].phase(ring.PhaseDual, func(ring.Move) bool { return true })
			b.boxes[2].must(api.ChangeRequest{Verb: api.VerbAbort})
			if r := b.replicated(before, b.boxes...); r.Replicas != before {
				t.Errorf("%d replicas after an abort, want %d", r.Replicas, before)
			}
		}
		if _, err := b.boxes[0].ask(api.ChangeRequest{Verb: api.VerbReplicas, Number: 6}); !errors.Is(err, api.ErrRefused) {
			t.Errorf("more replicas than members: %v", err)
		}
		c.end()
		c.undisturbed()
	})
}

// A dry run says what another number would move, and where it leads.
func TestAPlanOfReplicasSaysWhatItTakes(t *testing.T) {
	inBubble(t, 241, 16, 2, func(b *bubble) {
		b.found(4)
		for n, want := range map[int]int{1: 0, 2: 0, 3: 16, 4: 32} {
			plan := b.boxes[0].plan(api.ChangeRequest{Verb: api.VerbReplicas, Number: n})
			then := 0
			for _, m := range plan.Members {
				then += m.Then
			}
			if plan.Slots != want || then != 16*n {
				t.Errorf("%d replicas: %d slots move and %d are there, want %d and %d", n, plan.Slots, then, want, 16*n)
			}
		}
	})
}

// Operators change numbers of homes and the membership as they like, while machines are
// killed, cut off and come back: nothing acknowledged is lost, and all comes to an end.
func TestFault53_OtherNumbersOfReplicasEndWellWhateverInterruptsThem(t *testing.T) {
	for seed := range uint64(long(3)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, 2000+seed, 8, 1+int(seed%3), func(b *bubble) {
				s := &storyteller{bubble: b, rng: rand.New(rand.NewPCG(seed, 8)), resizes: true}
				s.tell()
			})
		})
	}
}
