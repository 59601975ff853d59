package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	bulkSize = 64 << 10 // messages from here on have their own connection
	peersMax = 1024     // peers that are kept with nothing in flight
)

// Client sends requests over TCP. Connections are made when they are first
// needed, in the background, and made again when they break; requests that come
// meanwhile wait. It implements Transport.
type Client struct {
	cfg     TCPConfig
	dial    func(ctx context.Context, addr string) (net.Conn, error)
	ctx     context.Context // ends dialing
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     sync.RWMutex // guards peers and closed
	peers  map[Peer]*remote
	closed bool

	sweep sweeper
}

// remote is one peer.
type remote struct {
	client   *Client
	to       Peer
	links    []*link // the last one is for bulk
	turn     atomic.Uint32
	inFlight atomic.Int64 // bytes of requests without an answer
	apart    atomic.Bool  // it was logged that the peer speaks other protocols
}

// NewClient makes a Client. It connects to nobody yet.
func NewClient(cfg TCPConfig) *Client {
	d := net.Dialer{KeepAliveConfig: keepAlive}
	return newClient(cfg, func(ctx context.Context, addr string) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", addr)
	})
}

func newClient(cfg TCPConfig, dial func(ctx context.Context, addr string) (net.Conn, error)) *Client {
	c := &Client{cfg: cfg.withDefaults(), dial: dial, peers: map[Peer]*remote{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.sweep.init()
	c.running.Add(1)
	go func() {
		defer c.running.Done()
		c.sweep.run(c.ctx, c.conns)
	}()
	return c
}

// Close breaks all connections, which completes all requests, and waits for the
// Client's goroutines. It must not be called by a Completer.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	peers := c.peers
	c.peers = map[Peer]*remote{}
	c.mu.Unlock()
	c.cancel()
	for _, r := range peers {
		for _, l := range r.links {
			l.close()
		}
	}
	c.running.Wait()
}

// Send implements Transport.
func (c *Client) Send(to Peer, route string, msg any, deadline time.Time, done Completer) {
	if deadline.IsZero() {
		deadline = time.Now().Add(callTime)
	}
	if err := c.send(to, route, msg, deadline, done); err != nil {
		done.Complete(nil, &CallError{route, to.Addr, err})
	}
}

// send gives the request to a connection, which completes it; or an error, and
// then nothing has left.
func (c *Client) send(to Peer, route string, msg any, deadline time.Time, done Completer) error {
	if len(route) > routeMax {
		return fmt.Errorf("%w: its name has %d bytes, at most %d", ErrNotSent, len(route), routeMax)
	}
	now := time.Now()
	left := deadline.Sub(now)
	if left <= 0 {
		return fmt.Errorf("%w: the deadline has passed", ErrNotSent)
	}
	s := newSegment()
	var err error
	if s.b, err = encode(beginRequest(s.b, route, left), msg); err != nil {
		s.free()
		return fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	size := len(s.b)
	if size > c.cfg.FrameMax {
		s.free()
		return fmt.Errorf("%w: %w: %d bytes, at most %d", ErrNotSent, ErrTooLarge, size, c.cfg.FrameMax)
	}
	r, err := c.remote(to)
	if err != nil {
		s.free()
		return err
	}
	if all := r.inFlight.Add(int64(size)); all > c.cfg.InFlightMax && all != int64(size) {
		r.inFlight.Add(-int64(size))
		s.free()
		return fmt.Errorf("%w: %d bytes in flight, at most %d", ErrOverloaded, all-int64(size), c.cfg.InFlightMax)
	}
	err = r.link(size).send(s, request{done: done, began: now, deadline: deadline, size: size, route: route})
	if err != nil {
		r.inFlight.Add(-int64(size))
		return err
	}
	c.sweep.notice(deadline)
	return nil
}

// remote finds or makes a peer.
func (c *Client) remote(to Peer) (*remote, error) {
	c.mu.RLock()
	r := c.peers[to]
	c.mu.RUnlock()
	if r != nil {
		return r, nil
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, fmt.Errorf("%w: %w", ErrNotSent, ErrClosed)
	}
	r = c.peers[to]
	var retired []*remote
	if r == nil {
		retired = c.retire(to)
		r = &remote{client: c, to: to}
		for range c.cfg.Connections + 1 {
			r.links = append(r.links, &link{remote: r})
		}
		c.peers[to] = r
	}
	c.mu.Unlock()
	for _, old := range retired {
		old.close()
	}
	return r, nil
}

// retire takes out the peers that nobody waits for and that have a newer address
// now; or any, if there are many. mu is held; they are to be closed.
func (c *Client) retire(to Peer) (idle []*remote) {
	for p, r := range c.peers {
		moved := !to.ID.IsZero() && p.ID == to.ID
		if (moved || len(c.peers) >= peersMax) && r.inFlight.Load() == 0 {
			delete(c.peers, p)
			idle = append(idle, r)
		}
	}
	return idle
}

// conns gives all connections at this moment.
func (c *Client) conns(all []*clientConn) []*clientConn {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, r := range c.peers {
		for _, l := range r.links {
			if conn := l.current.Load(); conn != nil {
				all = append(all, conn)
			}
			all = append(all, l.leaving()...)
		}
	}
	return all
}

// link chooses the connection for a message of some size.
func (r *remote) link(size int) *link {
	small := len(r.links) - 1
	switch {
	case size >= bulkSize:
		return r.links[small]
	case small == 1:
		return r.links[0]
	}
	return r.links[r.turn.Add(1)%uint32(small)]
}

// told is told how a dial has ended. That the peer speaks other versions of the protocol
// is logged once, until one has succeeded.
func (r *remote) told(err error) {
	switch {
	case err == nil:
		r.apart.Store(false)
	case errors.Is(err, ErrVersion) && !r.apart.Swap(true):
		r.client.cfg.Logger.Warn("connection to a node refused", "node", r.to.ID, "address", r.to.Addr, "error", err)
	}
}

func (r *remote) close() {
	for _, l := range r.links {
		l.close()
	}
}

// errStopped is why a closing client's connections break.
var errStopped = fmt.Errorf("%w: the client is closed", ErrClosed)

// errGone says that a connection takes no more requests; another one may.
var errGone = errors.New("connection gone")
