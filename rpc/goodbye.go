package rpc

import (
	"fmt"
	"slices"
	"time"
)

// Goodbye is how a server ends without leaving anybody in doubt. On each connection it
// says that it takes no more requests: those that it has taken are answered, those that
// were on their way meanwhile are refused, so that they may go elsewhere. The dialer
// sends nothing more, waits for its answers, and closes; then the server knows that it
// has read all that was ever sent. Dialers that don't know the frame pass over it; their
// requests are refused for as long as the server waits.

const (
	// goodbyeTime is how long a server waits for the other sides to close.
	goodbyeTime = time.Second
	// goodbyeID is the id of no request: places are below inFlightPerConnMax.
	goodbyeID = 1<<64 - 1
)

var errGoodbye = fmt.Errorf("%w: the node is stopping, and takes no more requests", ErrEnding)

// goodbye has the connection end: it takes no more requests.
func (c *serverConn) goodbye() {
	s := newSegment()
	s.b = beginFrame(s.b, kindGoodbye)
	finishFrame(s.b, goodbyeID, restSum(s.b))
	c.mu.Lock()
	if c.dead || c.leaving.Swap(true) {
		c.mu.Unlock()
		s.free()
		return
	}
	c.add(s)
	wake := c.unpark()
	c.mu.Unlock()
	if wake {
		c.signal()
	}
}

// leave is told that the peer takes no more requests. Those that have not left are
// completed; the connection ends with the last answer. It says that none is awaited.
func (c *clientConn) leave() (idle bool) {
	c.link.leave(c)
	c.mu.Lock()
	unsent := c.takeBack()
	idle = c.idle()
	c.mu.Unlock()
	for _, req := range unsent {
		c.finish(req, nil, fmt.Errorf("%w: the peer has said goodbye", ErrUnreachable))
	}
	return idle
}

// takeBack ends the wait of the requests that wait to be sent, and drops their frames.
// Nothing may be sent any more; mu is held.
func (c *clientConn) takeBack() (unsent []request) {
	for _, req := range c.requests {
		if req.done != nil && c.frameOf(req) != nil {
			c.take(req.id)
			unsent = append(unsent, req)
		}
	}
	c.discard()
	return unsent
}

// discard drops what waits to be written. Nothing may be added any more; mu is held.
func (o *outlet) discard() {
	for _, s := range o.waiting {
		o.bytes -= len(s.b)
		s.free()
	}
	o.waiting = nil
}

// retire lets a connection that works end with its last answer; false says that it has
// ended already.
func (c *clientConn) retire() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	return !c.dead
}

// leave is told by a connection that its peer takes no more requests.
func (l *link) leave(conn *clientConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current.Load() == conn {
		l.current.Store(nil)
	}
	if conn.retire() && !slices.Contains(l.old, conn) {
		l.old = append(l.old, conn)
	}
}
