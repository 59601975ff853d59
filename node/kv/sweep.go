package kv

import (
	"context"
	"sync"
	"time"
)

// sweepEvery is how late a deadline or a hedge may be noticed.
const sweepEvery = 5 * time.Millisecond

// sweeper looks at all operations under way every few milliseconds: one timer
// for all of them instead of one for each.
type sweeper struct {
	mu     sync.Mutex
	first  *swept // guarded by mu, a list
	closed bool   // guarded by mu
	wake   chan struct{}
	batch  []ticker // of run, then of close
	// emptied is closed, and nil again, when the last operation goes; nil while
	// nobody waits for that. Guarded by mu.
	emptied chan struct{}
}

// swept is an operation's place in the list.
type swept struct {
	op         ticker
	prev, next *swept
	in         bool
}

// ticker is an operation that wants to be looked at.
type ticker interface {
	// hold keeps the operation from being reused until drop.
	hold()
	drop()
	tick(now time.Time)
	// stop answers the operation, whatever it still waits for.
	stop()
}

func newSweeper() *sweeper { return &sweeper{wake: make(chan struct{}, 1)} }

// add puts an operation into the list; false says that the sweeper is closed.
func (s *sweeper) add(e *swept, op ticker) bool {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	idle := s.first == nil
	*e = swept{op: op, next: s.first, in: true}
	if e.next != nil {
		e.next.prev = e
	}
	s.first = e
	s.mu.Unlock()
	if idle {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return true
}

func (s *sweeper) remove(e *swept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !e.in {
		return
	}
	e.in = false
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		s.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	}
	if s.first == nil && s.emptied != nil {
		close(s.emptied)
		s.emptied = nil
	}
}

// empty is closed once no operation is in the list.
func (s *sweeper) empty() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.emptied == nil {
		s.emptied = make(chan struct{})
	}
	done := s.emptied
	if s.first == nil {
		close(done)
		s.emptied = nil
	}
	return done
}

func (s *sweeper) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		for s.pending() {
			timer.Reset(sweepEvery)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
			s.sweep(time.Now())
		}
	}
}

func (s *sweeper) pending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first != nil
}

// close lets no operation in any more and stops those that are there. run has
// ended.
func (s *sweeper) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.each(ticker.stop)
}

func (s *sweeper) sweep(now time.Time) {
	s.each(func(op ticker) { op.tick(now) })
}

// each calls the operations without the lock: they may remove themselves.
func (s *sweeper) each(call func(ticker)) {
	s.mu.Lock()
	for e := s.first; e != nil; e = e.next {
		e.op.hold()
		s.batch = append(s.batch, e.op)
	}
	s.mu.Unlock()
	for i, op := range s.batch {
		call(op)
		op.drop()
		s.batch[i] = nil
	}
	s.batch = s.batch[:0]
}
