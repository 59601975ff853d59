package rpc

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

const (
	// sweepEvery is how late a deadline may be noticed.
	sweepEvery = 10 * time.Millisecond
	// sweepMost is how long the sweeper sleeps while there are requests: deadlines
	// may be by a wall clock, which jumps.
	sweepMost = time.Second
	// never is the next sweep of a sweeper that sleeps until a request wakes it.
	never = math.MaxInt64
)

// sweeper completes the requests whose deadline has passed. It sleeps until the
// first of them: programs have thousands of requests a second, and some have a
// Client for each of their callers.
type sweeper struct {
	began time.Time
	next  atomic.Int64  // when it wakes by itself, in nanoseconds since began, or never
	wake  chan struct{} // of capacity 1
}

func (s *sweeper) init() {
	s.began, s.wake = time.Now(), make(chan struct{}, 1)
	s.next.Store(never)
}

// notice is called after a request with this deadline was queued.
func (s *sweeper) notice(deadline time.Time) {
	if !s.lower(deadline) {
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// lower makes a time the next one to wake at; false if that is sooner already.
func (s *sweeper) lower(to time.Time) bool {
	at := int64(to.Sub(s.began))
	for {
		next := s.next.Load()
		if next <= at {
			return false
		}
		if s.next.CompareAndSwap(next, at) {
			return true
		}
	}
}

// run sweeps the connections that list appends, until ctx ends.
func (s *sweeper) run(ctx context.Context, list func([]*clientConn) []*clientConn) {
	timer := time.NewTimer(sweepMost)
	defer timer.Stop()
	var conns []*clientConn
	for {
		now := time.Now()
		conns = list(conns[:0])
		for _, c := range conns {
			c.expire(now)
		}
		// Look behind that: who queued a request before has not woken anybody.
		s.next.Store(never)
		conns = list(conns[:0])
		first, busy := soonest(conns)
		clear(conns)
		if busy {
			s.lower(first)
			timer.Reset(min(max(time.Until(first), sweepEvery), sweepMost))
		} else {
			timer.Stop()
		}
		select {
		case <-timer.C:
		case <-s.wake:
		case <-ctx.Done():
			return
		}
	}
}

// soonest gives a time before which no request's deadline is; false if there is none.
func soonest(conns []*clientConn) (first time.Time, busy bool) {
	for _, c := range conns {
		c.mu.Lock()
		if !c.idle() && (!busy || c.soonest.Before(first)) {
			first, busy = c.soonest, true
		}
		c.mu.Unlock()
	}
	return first, busy
}

// expire completes the requests whose deadline has passed. One that waits for the
// connection is taken back.
func (c *clientConn) expire(now time.Time) {
	c.mu.Lock()
	if c.idle() || now.Before(c.soonest) {
		c.mu.Unlock()
		return
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
	ended := c.draining && c.idle()
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
