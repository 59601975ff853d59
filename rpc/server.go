package rpc

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kithdb/kith/ring"
)

const (
	acceptBackoffMin = 5 * time.Millisecond
	acceptBackoffMax = time.Second
	strangersMax     = 1024             // connections that have not shaken hands yet
	complainEvery    = 10 * time.Second // log lines about strangers
	inspectEvery     = 10 * time.Second // writes that make no progress meanwhile are given up
	turnAwayTime     = 10 * time.Millisecond
	strangeMax       = 1024 // nodes of other protocols that are kept
)

// Server takes connections and gives their requests to a Mux.
type Server struct {
	cfg      TCPConfig
	listener net.Listener
	stop     chan struct{}
	running  sync.WaitGroup

	mu        sync.Mutex // guards the rest
	closed    bool
	conns     map[*serverConn]struct{}
	raw       map[net.Conn]struct{} // that have not been told yet that they may send
	perIP     map[string]int
	complaint time.Time                 // of the last log line about strangers
	silent    int                       // complaints since
	strange   map[ring.NodeID]Protocols // nodes that were refused for theirs
	refused   atomic.Uint64
}

// Listen takes connections at addr, HOST:PORT, until Close.
func Listen(addr string, cfg TCPConfig) (*Server, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return serve(listener, cfg), nil
}

func serve(listener net.Listener, cfg TCPConfig) *Server {
	s := &Server{
		cfg: cfg.withDefaults(), listener: listener, stop: make(chan struct{}),
		conns: map[*serverConn]struct{}{}, raw: map[net.Conn]struct{}{}, perIP: map[string]int{},
		strange: map[ring.NodeID]Protocols{},
	}
	if s.cfg.Burst == nil {
		s.cfg.Burst = new(Burst)
	}
	s.running.Add(2)
	go func() {
		defer s.running.Done()
		s.accept()
	}()
	go func() {
		defer s.running.Done()
		s.inspect()
	}()
	return s
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Conns gives the number of connections that have shaken hands.
func (s *Server) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Refused gives how many connections were turned away so far, for whatever
// reason.
func (s *Server) Refused() uint64 { return s.refused.Load() }

// Close takes no more connections and requests, and says goodbye: those that are under
// way are answered, those that come meanwhile are refused, and the other sides close.
// It waits for that for a second at most, and for the server's goroutines. The Mux is
// its owner's to close, before the server so that its handlers end, or after.
func (s *Server) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.running.Wait()
		return
	}
	s.closed = true
	conns := make([]*serverConn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	for conn := range s.raw {
		_ = conn.Close() // it has sent nothing but who it is
	}
	s.mu.Unlock()
	close(s.stop)
	_ = s.listener.Close() // accept sees it; first, so that nobody comes back here
	for _, c := range conns {
		c.goodbye()
	}
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	limit := time.NewTimer(goodbyeTime)
	defer limit.Stop()
	select {
	case <-ended:
	case <-limit.C:
		for _, c := range conns {
			c.abort()
		}
		<-ended
	}
}

// accept takes connections until the listener is closed. Without descriptors or
// memory it waits: those who are connected go on.
func (s *Server) accept() {
	backoff := time.Duration(0)
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			backoff = min(max(2*backoff, acceptBackoffMin), acceptBackoffMax)
			s.complain("connections can't be accepted", "", err)
			select {
			case <-time.After(backoff):
				continue
			case <-s.stop:
				return
			}
		}
		backoff = 0
		ip := hostOf(conn.RemoteAddr())
		if err := s.enter(conn, ip); err != nil {
			s.complain("connection refused", conn.RemoteAddr().String(), err)
			s.turnAway(conn, err)
			continue
		}
		go func() {
			defer s.running.Done()
			defer s.leave(conn, ip)
			s.serve(conn)
		}()
	}
}

// turnAway tells a connection why there is no room for it, as far as that can be
// done without waiting.
func (s *Server) turnAway(conn net.Conn, why error) {
	us := s.hello()
	us.refusal = appendError(nil, why, true)
	_ = conn.SetWriteDeadline(time.Now().Add(turnAwayTime)) // the socket's buffer is empty
	_, _ = conn.Write(appendHandshake(nil, us))
	_ = conn.Close()
}

func (s *Server) hello() *hello {
	return &hello{
		protocols: s.cfg.Protocols, cluster: s.cfg.Cluster(), node: s.cfg.Self.ID,
		addr: s.cfg.Self.Addr, frameMax: uint64(s.cfg.FrameMax),
	}
}

// enter counts a connection, or says why there is no room for it.
func (s *Server) enter(conn net.Conn, ip string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case len(s.conns)+len(s.raw) >= s.cfg.ConnsMax:
		return fmt.Errorf("%w: %d connections, at most %d", ErrOverloaded, len(s.conns)+len(s.raw), s.cfg.ConnsMax)
	case s.perIP[ip] >= s.cfg.ConnsPerIPMax:
		return fmt.Errorf("%w: %d connections from %s, at most %d", ErrOverloaded, s.perIP[ip], ip, s.cfg.ConnsPerIPMax)
	case len(s.raw) >= strangersMax:
		return fmt.Errorf("%w: %d connections have not shaken hands yet", ErrOverloaded, len(s.raw))
	}
	s.perIP[ip]++
	s.raw[conn] = struct{}{}
	s.running.Add(1)
	return nil
}

func (s *Server) leave(conn net.Conn, ip string) {
	_ = conn.Close() // it is of no use whatever this says
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.raw, conn)
	if s.perIP[ip]--; s.perIP[ip] <= 0 {
		delete(s.perIP, ip)
	}
}

// serve shakes hands and answers until the connection ends.
func (s *Server) serve(conn net.Conn) {
	tune(conn)
	us := s.hello()
	var c *serverConn
	them, err := listenHandshake(conn, us, func(them *hello) error {
		c = newServerConn(s, conn, us, them)
		return s.admit(c)
	})
	if errors.Is(err, ErrVersion) && !them.node.IsZero() {
		s.apart(them, err)
		return
	}
	what := "connection refused"
	if err == nil {
		what = "connection broken off"
		err = c.run()
	}
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	if err != nil {
		s.complain(what, conn.RemoteAddr().String(), err)
	}
}

// admit lets a connection in that is about to be told so: from then on it may send, and
// Close says goodbye to it.
func (s *Server) admit(c *serverConn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errGoodbye
	}
	delete(s.raw, c.conn)
	delete(s.strange, c.peer.ID)
	s.conns[c] = struct{}{}
	return nil
}

// apart logs that a node speaks other versions of the protocol: once, until it comes
// back with others.
func (s *Server) apart(them *hello, err error) {
	s.refused.Add(1)
	s.mu.Lock()
	known := s.strange[them.node] == them.protocols
	if len(s.strange) >= strangeMax {
		clear(s.strange)
	}
	s.strange[them.node] = them.protocols
	s.mu.Unlock()
	if !known {
		s.cfg.Logger.Warn("connection of a node refused", "node", them.node, "address", them.addr, "error", err)
	}
}

// complain logs that somebody was turned away, at most one line in ten seconds:
// a port scanner must not fill the disk.
func (s *Server) complain(what, from string, err error) {
	s.refused.Add(1)
	now := time.Now()
	s.mu.Lock()
	if !s.complaint.IsZero() && now.Sub(s.complaint) < complainEvery || s.closed {
		s.silent++
		s.mu.Unlock()
		return
	}
	silent := s.silent
	s.complaint, s.silent = now, 0
	s.mu.Unlock()
	s.cfg.Logger.Warn(what, "from", from, "error", err, "not_logged_before", silent)
}

// inspect gives up connections whose peer takes nothing.
func (s *Server) inspect() {
	tick := time.NewTicker(inspectEvery)
	defer tick.Stop()
	last := map[*serverConn]uint64{}
	for {
		select {
		case <-tick.C:
		case <-s.stop:
			return
		}
		s.mu.Lock()
		conns := make([]*serverConn, 0, len(s.conns))
		for c := range s.conns {
			conns = append(conns, c)
		}
		s.mu.Unlock()
		next := make(map[*serverConn]uint64)
		for _, c := range conns {
			n := c.progress()
			if n == 0 {
				continue
			}
			if last[c] == n {
				c.abort()
				continue
			}
			next[c] = n
		}
		last = next
	}
}

func hostOf(addr net.Addr) string {
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return host
}
