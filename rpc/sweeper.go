package rpc

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	sweepEvery = 10 * time.Millisecond
	// sweepIdle is how many sweeps find no request before the sweeper parks. A
	// request that wakes it costs less than a sweep, and most processes have one
	// request a second, or thousands.
	sweepIdle = 3
)

// sweeper completes the requests whose deadline has passed. It ticks only while
// there are requests.
type sweeper struct {
	parked atomic.Bool
	wake   chan struct{} // of capacity 1
}

func (s *sweeper) init() { s.wake = make(chan struct{}, 1) }

// notice is called after a request was queued.
func (s *sweeper) notice() {
	if s.parked.Load() && s.parked.CompareAndSwap(true, false) {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// run sweeps the connections that list appends, until ctx ends.
func (s *sweeper) run(ctx context.Context, list func([]*clientConn) []*clientConn) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var conns []*clientConn
	for idle := 0; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		conns = list(conns[:0])
		busy := false
		for _, c := range conns {
			busy = c.expire(now) || busy
		}
		clear(conns)
		if idle++; busy {
			idle = 0
		}
		if idle < sweepIdle {
			continue
		}
		// Look again after parking: a request that was queued before has not
		// woken anybody.
		s.parked.Store(true)
		tick.Stop()
		if !anyBusy(list(conns[:0])) {
			select {
			case <-s.wake:
			case <-ctx.Done():
				return
			}
		}
		s.parked.Store(false)
		tick.Reset(sweepEvery)
		idle = 0
	}
}

func anyBusy(conns []*clientConn) bool {
	for _, c := range conns {
		c.mu.Lock()
		idle := c.idle()
		c.mu.Unlock()
		if !idle {
			return true
		}
	}
	return false
}

// expire completes the requests whose deadline has passed, and says whether any
// request waits. A request that waits for the connection is taken back.
func (c *clientConn) expire(now time.Time) (busy bool) {
	c.mu.Lock()
	if c.idle() || now.Before(c.soonest) {
		busy = !c.idle()
		c.mu.Unlock()
		return busy
	}
	type expired struct {
		request
		left bool
	}
	var late []expired
	c.soonest = time.Time{}
	for _, req := range c.requests {
		switch {
		case req.done == nil:
		case now.Before(req.deadline):
			if c.soonest.IsZero() || req.deadline.Before(c.soonest) {
				c.soonest = req.deadline
			}
		default:
			f := c.frameOf(req)
			if f != nil {
				skip(f)
			}
			c.take(req.id)
			late = append(late, expired{request: req, left: f == nil})
		}
	}
	busy = !c.idle()
	ended := c.draining && !busy
	silent := time.Duration(0)
	if c.ready && c.asked > c.heard.Load() {
		silent = now.Sub(c.began) - time.Duration(c.asked)
	}
	c.mu.Unlock()
	for _, req := range late {
		if req.left {
			c.finish(req.request, nil, ErrDeadline)
		} else {
			c.finish(req.request, nil, fmt.Errorf("%w: the deadline has passed", ErrNotSent))
		}
	}
	switch {
	case ended:
		c.fail(errGone)
	case silent > stallTime && len(late) > 0:
		c.fail(fmt.Errorf("nothing came for %v", silent.Round(time.Millisecond)))
	}
	return busy
}

// skip makes a waiting request one that the peer ignores.
func skip(f []byte) {
	f[8] = kindSkip
	finishFrame(f, 0, restSum(f))
}

// putLeft sets the time that a waiting request has left.
func putLeft(f []byte, left time.Duration) {
	id := binary.BigEndian.Uint64(f[9:])
	binary.BigEndian.PutUint32(f[frameHeader:], micros(left))
	finishFrame(f, id, restSum(f))
}
