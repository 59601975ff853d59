package heal

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/ring"
)

// run has one healer of the world run until the test ends, with changes to its config.
func (w *world) run(change func(*Config)) *Healer {
	cfg := Config{
		Self: id(1), Rings: w, After: time.Minute, Heal: true, Seed: 1, Logger: slog.New(slog.DiscardHandler),
		Away: func(m ring.NodeID) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.away[m]
		},
	}
	change(&cfg)
	h := New(cfg)
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(func() { cancel(); running.Wait() })
	return h
}

// A member that comes back for a moment, while a command runs for another one, has not
// been away all the time.
func TestWhoFlapsWhileACommandRunsIsNotDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, record(t, 7, 0, 3))
		var mu sync.Mutex
		var told []Death
		w.run(func(c *Config) {
			c.Heal = false
			c.Command = func(_ context.Context, d Death) error {
				mu.Lock()
				told = append(told, d)
				mu.Unlock()
				time.Sleep(65 * time.Second)
				return nil
			}
		})
		w.set(id(2), true)
		time.Sleep(30 * time.Second)
		w.set(id(3), true)
		time.Sleep(50 * time.Second) // the command runs
		w.set(id(3), false)
		time.Sleep(10 * time.Second)
		w.set(id(3), true)
		back := time.Now()
		time.Sleep(50 * time.Second)
		mu.Lock()
		if len(told) != 1 || told[0].Member.ID != id(2) {
			t.Errorf("told of %d deaths, want that of the second member alone", len(told))
		}
		mu.Unlock()
		time.Sleep(2 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(told) != 2 || told[1].Member.ID != id(3) || told[1].Since.Before(back) {
			t.Errorf("told %+v, want of the third member, away since %v or later", told, back)
		}
	})
}

// slow is a world in which proposals take their time before they are looked at.
type slow struct {
	*world
	wait time.Duration
}

func (s slow) Propose(ctx context.Context, change func(*ring.Record) (*ring.Record, error)) (*ring.Record, error) {
	select {
	case <-time.After(s.wait):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.world.Propose(ctx, change)
}

// A member that comes back while its giving up is being proposed is not given up, and has
// not been away all the time for the next try.
func TestWhoFlapsWhileItIsProposedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, record(t, 5, 0, 3))
		w.run(func(c *Config) { c.Rings = slow{w, 25 * time.Second} })
		w.set(id(2), true)
		time.Sleep(70 * time.Second) // the proposal is under way
		w.set(id(2), false)
		time.Sleep(40 * time.Second)
		if w.state(id(2)) != ring.Active {
			t.Fatalf("who is back is %v", w.state(id(2)))
		}
		w.set(id(2), true)
		time.Sleep(70 * time.Second)
		w.set(id(2), false)
		time.Sleep(5 * time.Second)
		w.set(id(2), true)
		time.Sleep(50 * time.Second)
		if w.state(id(2)) != ring.Active {
			t.Errorf("who was back in between is %v", w.state(id(2)))
		}
		time.Sleep(90 * time.Second)
		if w.state(id(2)) != ring.Leaving {
			t.Errorf("who stays away is %v", w.state(id(2)))
		}
	})
}

// With one home for each partition nobody is given up: what it has is nowhere else.
func TestTheOnlyHomeIsNeverGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, record(t, 5, 1, 1))
		h := w.run(func(*Config) {})
		before := w.Current()
		w.set(id(2), true)
		time.Sleep(time.Hour)
		if r := w.Current(); r.Digest() != before.Digest() {
			t.Errorf("the ring was changed: %v", r.Changes(before))
		}
		if h.Waits() == "" {
			t.Error("nothing is said of why it waits")
		}
	})
}
