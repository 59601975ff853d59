package kv

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/store/version"
)

// Clocks only order concurrent writes for readers who want one winner; no write
// is lost by a wrong one. Still, stamps of a clock that is far ahead would win
// for as long as it is ahead: a node ahead of the median of its peers mints
// nothing, and a member whose clock is off is named.

const (
	skewEvery   = 5 * time.Second
	skewFirst   = 500 * time.Millisecond // while nothing is known
	skewKept    = 30 * time.Second       // a reading is of no use after
	skewTimeout = time.Second
	// skewDelayMax is the round trip above which a reading says too little.
	skewDelayMax = 200 * time.Millisecond
)

// skew knows how far the members' clocks are from this node's.
type skew struct {
	c *Coordinator

	mu      sync.Mutex
	offsets map[ring.NodeID]reading // guarded by mu
	stamps  map[ring.NodeID]int64   // guarded by mu: stamps beyond the bound

	// lead is how far this node is ahead of the median, in nanoseconds.
	lead atomic.Int64

	agreed agreed
}

// reading is a member's clock minus ours, at a time.
type reading struct {
	offset time.Duration
	at     time.Time
}

func newSkew(c *Coordinator) *skew {
	return &skew{c: c, offsets: map[ring.NodeID]reading{}, stamps: map[ring.NodeID]int64{}}
}

func (c *Coordinator) handleClock(call *rpc.Call, _ *clockRequest) {
	resp := clockResponse{Now: c.cfg.Now().UnixMilli()}
	if w := c.cfg.Witness; w != nil {
		resp.Batches = w.Tell(call.From().ID)
	}
	call.Reply(&resp)
}

func (s *skew) run(ctx context.Context) {
	if known := s.c.cfg.Started; known != nil {
		select {
		case <-known:
		case <-ctx.Done():
			return
		}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if s.measure(ctx) {
			timer.Reset(skewEvery)
		} else {
			timer.Reset(skewFirst)
		}
	}
}

// measure asks every member for the time, all at once. It says whether anything
// is known by now.
func (s *skew) measure(ctx context.Context) bool {
	r := s.c.cfg.Rings.Current()
	if r == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, skewTimeout)
	defer cancel()
	began, wall := time.Now(), s.c.cfg.Now()
	var asked sync.WaitGroup
	for _, m := range r.Members {
		to, ok := s.c.peer(m.ID)
		if m.ID == s.c.cfg.Self || !ok || s.c.cfg.Circuits.Open(m.ID) {
			continue
		}
		asked.Go(func() {
			sent, before := time.Now(), s.c.cfg.Now()
			resp, err := clockRoute.Call(ctx, s.c.cfg.Transport, to, &clockRequest{})
			took := time.Since(sent)
			if err != nil {
				return
			}
			if w := s.c.cfg.Witness; w != nil && resp.Batches > 0 {
				w.Told(m.ID, resp.Batches)
			}
			if took > skewDelayMax {
				return
			}
			offset := time.UnixMilli(resp.Now).Sub(before.Add(took / 2))
			s.mu.Lock()
			s.offsets[m.ID] = reading{offset, time.Now()}
			s.mu.Unlock()
		})
	}
	asked.Wait()
	s.forget(r)
	median, known := s.median()
	s.lead.Store(int64(-median))
	if known {
		if median.Abs() > s.c.cfg.SkewMax { // it is this node's clock that is wrong
			wall = wall.Add(median)
		}
		s.agreed.set(wall, began)
		s.restart(median)
	}
	return known
}

// restart begins the stamps anew, as a restart of the node would, if they still
// follow a wall clock that was wrong and has been set right: for as long as that
// was ahead, what is minted here would win over every write elsewhere. Nothing was
// minted here meanwhile.
func (s *skew) restart(median time.Duration) {
	if _, wrong := s.ahead(); wrong {
		return
	}
	// No clock within the bound carries stamps further than twice the bound.
	ahead := s.c.stamps().Last().Time().Sub(s.c.cfg.Now().Add(median))
	if ahead <= 2*s.c.cfg.SkewMax+time.Second {
		return
	}
	s.c.clock.Store(version.NewClock(s.c.cfg.Now, s.c.cfg.SkewMax))
	s.c.cfg.Logger.Warn("stamps begin anew: they followed a clock that was wrong", "ahead", ahead)
}

// forget drops members that left the ring, and readings that are old.
func (s *skew) forget(r *ring.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.offsets, func(id ring.NodeID, is reading) bool {
		return r.Member(id) == nil || time.Since(is.at) > skewKept
	})
	maps.DeleteFunc(s.stamps, func(id ring.NodeID, _ int64) bool { return r.Member(id) == nil })
}

// median of the peers' offsets; false without peers. With an even number it is
// the one that is nearer to this node's clock.
func (s *skew) median() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.offsets) == 0 {
		return 0, false
	}
	all := make([]time.Duration, 0, len(s.offsets))
	for _, is := range s.offsets {
		all = append(all, is.offset)
	}
	slices.Sort(all)
	low, high := all[(len(all)-1)/2], all[len(all)/2]
	if low.Abs() < high.Abs() {
		return low, true
	}
	return high, true
}

// ahead says that this node's clock is further ahead of its peers' median than
// the bound, and by how much.
func (s *skew) ahead() (time.Duration, bool) {
	lead := time.Duration(s.lead.Load())
	return lead, lead > s.c.cfg.SkewMax
}

func (s *skew) stampAhead(id ring.NodeID, ahead time.Duration) {
	s.mu.Lock()
	s.stamps[id]++
	first := s.stamps[id] == 1
	s.mu.Unlock()
	if first {
		s.c.cfg.Logger.Warn("a member's stamps are ahead of this node's clock by more than the bound",
			"member", id.Short(), "ahead", ahead, "bound", s.c.cfg.SkewMax)
	}
}

// ClockOffsets says how far each member's clock is ahead of this node's, as last
// measured; members that did not answer for a while are not in it.
func (c *Coordinator) ClockOffsets() map[ring.NodeID]time.Duration {
	c.skew.mu.Lock()
	defer c.skew.mu.Unlock()
	out := make(map[ring.NodeID]time.Duration, len(c.skew.offsets))
	for id, is := range c.skew.offsets {
		out[id] = is.offset
	}
	return out
}

// ClockAhead says that this node refuses to mint because its clock is ahead of
// the median of its peers by more than the bound, and by how much.
func (c *Coordinator) ClockAhead() (time.Duration, bool) { return c.skew.ahead() }

// SkewMax is the bound on clocks.
func (c *Coordinator) SkewMax() time.Duration { return c.cfg.SkewMax }
