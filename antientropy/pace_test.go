package antientropy

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/ring"
)

// loadedCircuits answer as slowly as they are told.
type loadedCircuits struct{ p95 map[ring.NodeID]time.Duration }

func (c *loadedCircuits) Open(ring.NodeID) bool { return false }

func (c *loadedCircuits) Latency(id ring.NodeID) (mean, p95 time.Duration) {
	return c.p95[id] / 2, c.p95[id]
}

// drain takes bytes for a while and says how many a second.
func drain(p *pacer, seconds int) float64 {
	began, n := time.Now(), 0
	for time.Since(began) < time.Duration(seconds)*time.Second {
		if p.take(context.Background(), 50_000) != nil {
			return 0
		}
		n += 50_000
	}
	return float64(n) / time.Since(began).Seconds()
}

func TestPaceKeepsToItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(1<<20, &loadedCircuits{}, nil)
		if rate := drain(p, 60); rate < 0.95*(1<<20) || rate > 1.05*(1<<20) {
			t.Errorf("%.0f bytes a second, want %d", rate, 1<<20)
		}
		time.Sleep(time.Hour) // idle time does not become a flood
		began := time.Now()
		for range 100 {
			if err := p.take(context.Background(), 50_000); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 4*time.Second {
			t.Errorf("5 MB in %v after a pause", took)
		}
	})
}

func TestPaceYieldsToBusyPeersAndGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &loadedCircuits{p95: map[ring.NodeID]time.Duration{nodeID(1): time.Millisecond, nodeID(2): time.Millisecond}}
		p := newPacer(1<<20, c, nil)
		p.note(nodeID(1), 300*time.Millisecond)
		p.note(nodeID(2), 300*time.Millisecond)
		drain(p, 10)
		c.p95[nodeID(2)] = 50 * time.Millisecond
		drain(p, 20)
		if rate, least := drain(p, 60), float64(1<<20)*paceSlowest; rate < 0.8*least || rate > 1.2*least {
			t.Errorf("%.0f bytes a second beside a busy peer, want %.0f", rate, least)
		}
		c.p95[nodeID(2)] = time.Millisecond
		drain(p, 20)
		if rate := drain(p, 60); rate < 0.95*(1<<20) {
			t.Errorf("%.0f bytes a second after that", rate)
		}
	})
}

// A busy peer is slow with small answers of repair's own too: they hide nothing.
func TestPaceYieldsAlthoughItsOwnSmallCallsAreAsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &loadedCircuits{p95: map[ring.NodeID]time.Duration{nodeID(1): time.Millisecond}}
		p := newPacer(1<<20, c, nil)
		p.noteSized(nodeID(1), time.Millisecond, 500)
		drain(p, 10)
		c.p95[nodeID(1)] = 50 * time.Millisecond
		p.noteSized(nodeID(1), 40*time.Millisecond, 500)
		drain(p, 20)
		if rate := drain(p, 60); rate > 2*paceSlowest*(1<<20) {
			t.Errorf("%.0f bytes a second", rate)
		}
	})
}

// Long answers are those of repair itself: nobody else is there to yield to.
func TestPaceDoesNotYieldToItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &loadedCircuits{p95: map[ring.NodeID]time.Duration{nodeID(1): time.Millisecond}}
		p := newPacer(1<<20, c, nil)
		p.noteSized(nodeID(1), 40*time.Millisecond, 1<<20)
		drain(p, 10)
		c.p95[nodeID(1)] = 50 * time.Millisecond
		if rate := drain(p, 60); rate < 0.95*(1<<20) {
			t.Errorf("%.0f bytes a second", rate)
		}
	})
}

func TestPaceEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(1000, &loadedCircuits{}, nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := p.take(ctx, 1<<20); err == nil {
			t.Error("a megabyte at a thousand bytes a second took a second")
		}
	})
}
