package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/kithdb/kith/ring"
)

// clientConn is one connection from its dialing to its end. Requests may be sent
// from the beginning.
type clientConn struct {
	outlet
	link *link

	// Guarded by outlet.mu.
	conn     net.Conn // nil while dialing
	ready    bool     // the handshake is done
	draining bool     // takes no more requests, and ends with its last answer
	requests []request
	vacant   []uint32  // places in requests without one
	soonest  time.Time // no request's deadline is before
	frameMax int       // of the peer
	version  uint8     // of the protocol: the highest that both sides speak
	asked    int64     // when the first request since heard was sent

	heard  atomic.Int64                      // when something last came in, in nanoseconds since began
	began  time.Time                         //
	theirs atomic.Pointer[[2]ring.ClusterID] // cluster of the peer and of us, when we shook hands
}

func newClientConn(l *link) *clientConn {
	c := &clientConn{link: l, began: time.Now(), frameMax: l.remote.client.cfg.FrameMax}
	c.outlet.init()
	c.burst = l.remote.client.cfg.Burst
	return c
}

// stale says that our cluster has changed in a way that the handshake must be
// done again.
func (c *clientConn) stale() bool {
	at := c.theirs.Load()
	if at == nil {
		return false
	}
	now := c.link.remote.client.cfg.Cluster()
	return now != at[1] && now != at[0] && !now.IsZero()
}

// send queues a frame whose rest has the given checksum. errGone leaves s to the
// caller.
func (c *clientConn) send(s *segment, restSum uint32, req request) error {
	c.mu.Lock()
	if c.dead || c.draining {
		c.mu.Unlock()
		return errGone
	}
	if req.size > c.frameMax {
		most := c.frameMax
		c.mu.Unlock()
		s.free()
		return fmt.Errorf("%w: %w: %d bytes, the peer takes %d", ErrNotSent, ErrTooLarge, req.size, most)
	}
	place := uint32(len(c.requests))
	if n := len(c.vacant); n > 0 {
		place, c.vacant = c.vacant[n-1], c.vacant[:n-1]
		// The upper half of an ID is how often its place was used.
		req.id = c.requests[place].id + 1<<32
	} else {
		if place == inFlightPerConnMax {
			c.mu.Unlock()
			s.free()
			return fmt.Errorf("%w: %d requests in flight", ErrOverloaded, place)
		}
		c.requests = append(c.requests, request{})
		req.id = uint64(place)
	}
	finishFrame(s.b, req.id, restSum)
	req.number, req.offset = c.add(s)
	c.requests[place] = req
	if c.asked <= c.heard.Load() {
		c.asked = int64(req.began.Sub(c.began))
	}
	if c.soonest.IsZero() || req.deadline.Before(c.soonest) {
		c.soonest = req.deadline
	}
	wake := c.unpark()
	c.mu.Unlock()
	if wake {
		c.signal()
	}
	return nil
}

// take ends the wait of a request. mu is held.
func (c *clientConn) take(id uint64) (request, bool) {
	place := uint32(id)
	if int64(place) >= int64(len(c.requests)) {
		return request{}, false
	}
	req := c.requests[place]
	if req.id != id || req.done == nil {
		return request{}, false
	}
	c.requests[place] = request{id: id}
	c.vacant = append(c.vacant, place)
	return req, true
}

// idle says that no request waits. mu is held.
func (c *clientConn) idle() bool { return len(c.vacant) == len(c.requests) }

// finish completes a request that was taken. mu is not held.
func (c *clientConn) finish(req request, reply []byte, err error) {
	c.link.remote.inFlight.Add(-int64(req.size))
	if err != nil {
		err = &CallError{req.route, c.link.remote.to.Addr, err}
	}
	req.done.Complete(reply, err)
}

// run dials, shakes hands and reads until the connection ends.
func (c *clientConn) run() {
	client := c.link.remote.client
	defer client.running.Done()
	if err := c.dial(client.ctx); err != nil {
		c.link.remote.told(err)
		c.link.gone(c, err)
		c.fail(fmt.Errorf("%w: %w", ErrUnreachable, err))
		return
	}
	client.running.Add(1)
	go func() {
		defer client.running.Done()
		if err := c.write(c.conn); err != nil {
			c.fail(err)
		}
	}()
	err := c.read()
	c.fail(err)
}

// dial makes the connection and sends what has come meanwhile with the time that
// is left to it.
func (c *clientConn) dial(ctx context.Context) error {
	l := c.link
	cfg := &l.remote.client.cfg
	dialing, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	conn, err := l.remote.client.dial(dialing, l.remote.to.Addr)
	cancel()
	if err != nil {
		return err
	}
	tune(conn)
	c.mu.Lock()
	c.conn, c.direct = conn, newDirect(conn)
	dead := c.dead
	c.mu.Unlock()
	if dead {
		return errors.Join(ErrClosed, conn.Close())
	}
	us := &hello{
		protocols: cfg.Protocols, cluster: cfg.Cluster(), node: cfg.Self.ID,
		expected: l.remote.to.ID, addr: cfg.Self.Addr, frameMax: uint64(cfg.FrameMax),
	}
	them, err := dialHandshake(conn, us, cfg.HandshakeTimeout)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	c.theirs.Store(&[2]ring.ClusterID{them.cluster, us.cluster})
	l.connected()
	l.remote.told(nil)
	if cfg.Connected != nil {
		cfg.Connected(l.remote.to, them.node, them.cluster)
	}
	c.heard.Store(int64(time.Since(c.began)))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version, _ = us.protocols.Common(them.protocols)
	if them.frameMax > 0 {
		c.frameMax = min(c.frameMax, int(them.frameMax))
	}
	now := time.Now()
	for _, req := range c.requests {
		if req.done == nil {
			continue
		}
		if f := c.frameOf(req); f != nil {
			putLeft(f, req.deadline.Sub(now))
		}
	}
	c.ready = true
	return nil
}

// frameOf gives a request's frame while it waits. mu is held.
func (c *clientConn) frameOf(req request) []byte {
	b := c.at(req.number, req.offset)
	if b == nil {
		return nil
	}
	return b[:req.size]
}

// read takes answers until the connection fails.
func (c *clientConn) read() error {
	r := frameReader{from: c.conn, max: c.link.remote.client.cfg.FrameMax}
	for {
		if err := r.fill(); err != nil {
			return err
		}
		c.heard.Store(int64(time.Since(c.began)))
		if err := c.answers(&r); err != nil {
			return err
		}
	}
}

// answers completes requests with the answers that have been read. What that
// makes others send leaves together.
func (c *clientConn) answers(r *frameReader) error {
	c.burst.Begin()
	defer c.burst.End()
	for {
		f, ok, err := r.next()
		if err != nil || !ok {
			return err
		}
		if f.kind == kindGoodbye {
			if c.leave() {
				return errGone
			}
			continue
		}
		c.mu.Lock()
		req, ok := c.take(f.id)
		last := ok && c.draining && c.idle()
		c.mu.Unlock()
		if ok {
			switch f.kind {
			case kindReply:
				c.finish(req, f.rest, nil)
			case kindFailure:
				c.finish(req, nil, ParseError(f.rest))
			default:
				c.finish(req, nil, fmt.Errorf("%w: an answer of unknown kind %d", ErrLost, f.kind))
			}
		}
		if last {
			return errGone
		}
	}
}

// drain lets the connection end with its last answer.
func (c *clientConn) drain() {
	c.mu.Lock()
	c.draining = true
	idle := c.idle()
	c.mu.Unlock()
	if !idle {
		return
	}
	running := &c.link.remote.client.running
	running.Add(1)
	go func() { // the caller holds the link's lock
		defer running.Done()
		c.fail(errGone)
	}()
}

// gone says that the connection takes no more requests.
func (c *clientConn) gone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead || c.draining
}

// fail ends the connection and completes its requests, according to whether they
// may have left. Only the first call does anything.
func (c *clientConn) fail(cause error) {
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		return
	}
	c.shut()
	conn := c.conn
	taken := make([]request, 0, len(c.requests)-len(c.vacant))
	lost := make([]bool, 0, cap(taken))
	for _, req := range c.requests {
		if req.done != nil {
			taken = append(taken, req)
			lost = append(lost, c.ready && c.left(req.number, req.offset))
		}
	}
	c.requests, c.vacant = nil, nil
	c.mu.Unlock()
	c.signal()
	if conn != nil {
		_ = conn.Close() // it is of no use whatever this says
	}
	c.link.gone(c, nil)
	for i, req := range taken {
		switch {
		case lost[i]:
			c.finish(req, nil, fmt.Errorf("%w: %w", ErrLost, cause))
		case NotSent(cause):
			c.finish(req, nil, cause)
		default:
			c.finish(req, nil, fmt.Errorf("%w: the connection broke before: %w", ErrUnreachable, cause))
		}
	}
}
