package rpc

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kithdb/kith/ring"
)

// answersHigh is how many bytes of answers may wait before a connection's
// requests are left unread, until it has taken some.
const answersHigh = 4 << 20

// serverConn is one connection that has shaken hands. It is the responder of its
// requests.
type serverConn struct {
	outlet
	server *Server
	conn   net.Conn
	peer   Peer
	theirs ring.ClusterID
	ours   ring.ClusterID // when we shook hands
	most   int            // bytes of a frame that the peer takes
	// version of the protocol: the highest that both sides speak.
	version uint8

	leaving atomic.Bool // see goodbye
}

func newServerConn(s *Server, conn net.Conn, us, them *hello) *serverConn {
	c := &serverConn{
		server: s, conn: conn, theirs: them.cluster, ours: us.cluster, most: s.cfg.FrameMax,
		peer: Peer{Addr: conn.RemoteAddr().String()},
	}
	c.version, _ = us.protocols.Common(them.protocols)
	if !them.node.IsZero() {
		c.peer = Peer{ID: them.node, Addr: them.addr}
	}
	if them.frameMax > 0 {
		c.most = min(c.most, int(them.frameMax))
	}
	c.outlet.init()
	c.burst, c.direct = s.cfg.Burst, newDirect(conn)
	return c
}

// run serves requests until the connection ends, and says what is wrong with the
// peer, if anything.
func (c *serverConn) run() error {
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		_ = c.write(c.conn) // whatever it says, the reader ends as well
		c.abort()
	}()
	err := c.read()
	c.mu.Lock()
	c.shut()
	c.mu.Unlock()
	c.signal()
	_ = c.conn.Close()
	<-writer
	if err == io.EOF || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ETIMEDOUT) {
		return nil // peers come and go
	}
	return err
}

// read serves requests until the connection fails. Answers to those that were
// read at once leave at once.
func (c *serverConn) read() error {
	r := frameReader{from: c.conn, max: c.server.cfg.FrameMax}
	for {
		if err := r.fill(); err != nil {
			return err
		}
		if now := c.server.cfg.Cluster(); now != c.ours && c.differs(now) {
			return fmt.Errorf("%w: this node has joined %v, the peer belongs to %v", ErrWrongCluster, now, c.theirs)
		}
		if err := c.serve(&r); err != nil {
			return err
		}
		c.pause()
	}
}

func (c *serverConn) differs(now ring.ClusterID) bool {
	return !now.IsZero() && !c.theirs.IsZero() && now != c.theirs
}

// serve gives the requests that have been read to the Mux.
func (c *serverConn) serve(r *frameReader) error {
	now := time.Now()
	c.burst.Begin()
	defer c.burst.End()
	for {
		f, ok, err := r.next()
		if err != nil || !ok {
			return err
		}
		switch {
		case f.kind == kindSkip:
			continue
		case c.leaving.Load():
			c.respond(f.id, nil, errGoodbye, true)
			continue
		case f.kind != kindRequest:
			c.respond(f.id, nil, fmt.Errorf("%w: a frame of unknown kind %d", ErrUnknownRoute, f.kind), true)
			continue
		}
		route, body, left, err := f.request()
		if err != nil {
			return err
		}
		mux := c.server.cfg.Mux
		h := mux.find(route)
		name := ""
		if h == nil {
			name = string(route)
		}
		mux.dispatch(h, name, arrival{out: c, id: f.id, from: &c.peer, body: body, deadline: now.Add(left)}, now)
	}
}

// pause waits while the peer doesn't take the answers it has asked for.
func (c *serverConn) pause() {
	for {
		c.mu.Lock()
		wait := c.bytes > answersHigh && !c.dead
		c.mu.Unlock()
		if !wait {
			return
		}
		select {
		case <-c.drained:
		case <-c.server.stop:
			return
		}
	}
}

// respond implements responder.
func (c *serverConn) respond(id uint64, msg any, err error, refused bool) {
	s := newSegment()
	if err == nil {
		s.b = beginFrame(s.b, kindReply)
		s.b, err = encode(s.b, msg)
		if err == nil && len(s.b) > c.most {
			err = fmt.Errorf("reply: %w: %d bytes, at most %d", ErrTooLarge, len(s.b), c.most)
		}
		if cap(s.b) > segmentKept && err != nil {
			s = newSegment()
		}
	}
	if err != nil {
		s.b = beginFrame(s.b[:0], kindFailure)
		s.b = appendError(s.b, err, refused)
	}
	finishFrame(s.b, id, restSum(s.b))

	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		s.free()
		return
	}
	c.add(s)
	over := int64(c.bytes) > c.server.cfg.InFlightMax && len(c.waiting) > 1
	wake := c.unpark()
	c.mu.Unlock()
	if wake {
		c.signal()
	}
	if over {
		c.abort()
	}
}

// abort breaks the connection off. Its reader and writer see it.
func (c *serverConn) abort() {
	c.mu.Lock()
	c.shut()
	c.waiting = nil
	c.mu.Unlock()
	c.signal()
	c.notify()
	_ = c.conn.Close()
}
