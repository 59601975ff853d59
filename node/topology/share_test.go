package topology

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
)

func TestANewcomerTakesItsShareAndWhoStandsByDoesNot(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(3, 3)
		sharer, guest := w.node(Config{Share: true}), w.node(Config{})
		sharer.start()
		guest.start()
		r := w.agree(4, append(nodes, sharer, guest)...)
		if m := r.Member(sharer.id); m == nil || m.State != ring.Active {
			t.Errorf("the one that takes its share is %+v", m)
		}
		if m := r.Member(guest.id); m == nil || m.State != ring.Standby {
			t.Errorf("the one that does not is %+v", m)
		}
		if len(r.Moves) == 0 {
			t.Error("no slot is to be moved to the newcomer")
		}
		// Taken back, the joining does not begin anew, in this life or another.
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r, err := nodes[0].Propose(ctx, func(r *ring.Record) (*ring.Record, error) { return r.WithRetreat(sharer.id) })
		if err != nil {
			t.Fatal(err)
		}
		sharer.kill()
		sharer.start()
		time.Sleep(time.Minute)
		if again := w.agree(r.Epoch, append(nodes, sharer, guest)...); again.Epoch != r.Epoch {
			t.Errorf("the record changed: %v", again.Changes(r))
		}
	})
}

func TestWhoseNamesakeIsAwayStaysOnStandby(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		nodes := w.founded(3, 3)
		nodes[2].kill()
		guest := w.node(Config{Share: true})
		guest.cfg.Self.Name = nodes[2].cfg.Self.Name
		guest.start()
		r := w.agree(3, nodes[0], nodes[1], guest)
		if m := r.Member(guest.id); m == nil || m.State != ring.Standby {
			t.Errorf("the namesake of a member that is away is %+v", m)
		}
	})
}

// Two who want the opposite each get their wish decided once: what was decided and
// then undone by somebody else is not proposed anew.
func TestContradictingChangesAreDecidedOnceEach(t *testing.T) {
	for seed := range uint64(20) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(4, 3)
			first := w.agree(2, nodes...)
			target := nodes[3].id
			leave := func(r *ring.Record) (*ring.Record, error) { return r.WithLeave(target) }
			stay := func(r *ring.Record) (*ring.Record, error) { return r.WithJoin(*r.Member(target)) }
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var asked sync.WaitGroup
			for i, change := range []func(*ring.Record) (*ring.Record, error){leave, stay} {
				asked.Go(func() {
					r, err := nodes[i].Propose(ctx, change)
					if err != nil {
						t.Error(err)
						return
					}
					if want := [...]ring.MemberState{ring.Leaving, ring.Active}[i]; r.Member(target).State != want {
						t.Errorf("seed %d: the record that was returned has %v, want %v", seed, r.Member(target).State, want)
					}
				})
			}
			asked.Wait()
			if r := w.agree(first.Epoch, nodes...); r.Epoch > first.Epoch+2 {
				t.Errorf("seed %d: %d records for two wishes", seed, r.Epoch-first.Epoch)
			}
		})
	}
}
