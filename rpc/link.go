package rpc

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// After a failed dial, requests fail at once for a while, which doubles up to
// backoffMax: long enough to spare a dead peer, short enough for one that
// restarts.
const (
	backoffMin = 10 * time.Millisecond
	backoffMax = 250 * time.Millisecond
)

// link is the place of one connection to a peer. It has at most one connection
// that takes requests; others may wait for their last answers.
type link struct {
	remote  *remote
	current atomic.Pointer[clientConn]

	mu      sync.Mutex // guards the rest, and changes of current
	old     []*clientConn
	closed  bool
	failure error // of the last dial
	backoff time.Duration
	retryAt time.Time
}

// request is what a connection keeps of a request.
type request struct {
	done     Completer
	began    time.Time
	deadline time.Time
	route    string
	size     int // bytes of its frame

	id     uint64
	number uint64 // of its segment
	offset int    // of its frame in the segment
}

// send queues the frame in s with the current connection, or with a new one. On
// an error nothing has left. s is not the caller's any more.
func (l *link) send(s *segment, req request) error {
	sum := restSum(s.b)
	if conn := l.current.Load(); conn != nil && !conn.stale() {
		if err := conn.send(s, sum, req); err != errGone {
			return err
		}
	}
	for {
		conn, err := l.connect()
		if err != nil {
			s.free()
			return err
		}
		if err := conn.send(s, sum, req); err != errGone {
			return err
		}
	}
}

// connect gives the current connection, or begins a new one if it is gone or
// stale.
func (l *link) connect() (*clientConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	conn := l.current.Load()
	switch {
	case l.closed:
		return nil, fmt.Errorf("%w: %w", ErrNotSent, errStopped)
	case conn != nil && conn.gone(): // it is about to say so
	case conn != nil && !conn.stale():
		return conn, nil
	case conn != nil:
		l.old = append(l.old, conn)
		conn.drain()
	}
	if l.failure != nil && time.Now().Before(l.retryAt) {
		l.current.Store(nil)
		return nil, fmt.Errorf("%w: a moment ago: %w", ErrUnreachable, l.failure)
	}
	conn = newClientConn(l)
	l.current.Store(conn)
	l.remote.client.running.Add(1)
	go conn.run()
	return conn, nil
}

// connected is told by a connection that it works.
func (l *link) connected() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure, l.backoff = nil, 0
}

// gone is told by a connection that it takes no more requests. dial is why it
// couldn't be made, or nil if it worked before.
func (l *link) gone(conn *clientConn, dial error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current.Load() == conn {
		l.current.Store(nil)
	}
	l.old = slices.DeleteFunc(l.old, func(c *clientConn) bool { return c == conn })
	if dial != nil {
		l.failure = dial
		l.backoff = min(max(2*l.backoff, backoffMin), backoffMax)
		l.retryAt = time.Now().Add(l.backoff)
	}
}

// leaving gives the connections that wait for their last answers.
func (l *link) leaving() []*clientConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.old)
}

// close breaks the connections, and makes no more.
func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	conns := slices.Clone(l.old)
	if conn := l.current.Load(); conn != nil {
		conns = append(conns, conn)
	}
	l.mu.Unlock()
	for _, conn := range conns {
		conn.fail(errStopped)
	}
}
