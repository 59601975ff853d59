package network

import (
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"
)

// stream is one end of a stream between two sockets, as over TCP: bytes arrive
// in order or not at all. A cut holds them back until it is mended; only the
// reader's own deadline ends the waiting.
type stream struct {
	socket *Socket
	peer   *stream
	wake   chan struct{} // a token: something has changed for the reader

	// net.mu guards the rest
	sent     int            // segments
	taken    int            // segments that were put to data
	early    map[int][]byte // segments that came before an older one
	data     []byte
	ended    bool  // the peer sends no more
	closed   bool  // by this side
	err      error // the stream is broken
	readBy   time.Time
	writeBy  time.Time
	unbroken bool // stands in socket.streams
}

var _ net.Conn = (*stream)(nil)

// newStreams makes both ends of a stream. The network is locked.
func newStreams(a, b *Socket) (*stream, *stream) {
	x := &stream{socket: a, wake: make(chan struct{}, 1)}
	y := &stream{socket: b, wake: make(chan struct{}, 1), peer: x}
	x.peer = y
	for _, s := range []*stream{x, y} {
		s.unbroken = true
		s.socket.streams = append(s.socket.streams, s)
	}
	a.host.net.counts.Streams++
	a.host.net.trace("stream", a.host.name, b.host.name, "", 0)
	return x, y
}

func (s *stream) net() *Network { return s.socket.host.net }

// Read implements net.Conn. It has one caller at a time.
func (s *stream) Read(b []byte) (int, error) {
	for {
		n, by, err := s.read(b)
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		var late <-chan time.Time
		if !by.IsZero() {
			timer := time.NewTimer(time.Until(by))
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-s.wake:
		case <-late:
		}
	}
}

// read takes what is there, without waiting.
func (s *stream) read(b []byte) (n int, by time.Time, err error) {
	s.net().mu.Lock()
	defer s.net().mu.Unlock()
	switch {
	case s.closed:
		return 0, by, s.failure("read", net.ErrClosed)
	case len(s.data) > 0:
		n = copy(b, s.data)
		s.data = s.data[n:]
		return n, by, nil
	case s.ended:
		return 0, by, io.EOF
	case s.err != nil:
		return 0, by, s.failure("read", s.err)
	case !s.readBy.IsZero() && !time.Now().Before(s.readBy):
		return 0, by, s.failure("read", os.ErrDeadlineExceeded)
	}
	return 0, s.readBy, nil
}

func (s *stream) failure(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: err}
}

// Write implements net.Conn. It never waits: the system takes what is written.
func (s *stream) Write(b []byte) (int, error) {
	s.net().mu.Lock()
	defer s.net().unlock()
	switch {
	case s.closed:
		return 0, s.failure("write", net.ErrClosed)
	case s.err != nil:
		return 0, s.failure("write", s.err)
	case !s.writeBy.IsZero() && !time.Now().Before(s.writeBy):
		return 0, s.failure("write", os.ErrDeadlineExceeded)
	case len(b) > 0:
		s.transmit(slices.Clone(b))
	}
	return len(b), nil
}

// transmit sends a segment; nil is the end of all.
func (s *stream) transmit(body []byte) {
	n, host, peer, at := s.net(), s.socket.host, s.peer, s.sent
	s.sent++
	l := n.link(host.name, peer.socket.host.name)
	s.deliver(l, len(body), func() {
		if l.resets("stream", len(body)) {
			n.counts.Broken++
			s.fail(syscall.ECONNRESET)
			peer.fail(syscall.ECONNRESET)
			return
		}
		peer.take(at, body)
	})
}

// deliver has f called when a packet to the peer arrives.
func (s *stream) deliver(l *link, size int, f func()) {
	p := &packet{to: s.peer.socket.host, size: size, note: "stream", deliver: f}
	if s.socket.host.paused {
		s.socket.host.postpone(0, func() { l.transmit(p) })
		return
	}
	l.transmit(p)
}

// take puts a segment, and those that have waited for it, to the data.
func (s *stream) take(at int, body []byte) {
	if s.closed || s.err != nil {
		return
	}
	if s.early == nil {
		s.early = map[int][]byte{}
	}
	s.early[at] = body
	for {
		next, ok := s.early[s.taken]
		if !ok {
			break
		}
		delete(s.early, s.taken)
		s.taken++
		s.data = append(s.data, next...)
		s.ended = s.ended || next == nil
	}
	s.nudge()
}

// fail breaks this end. Nobody else is told.
func (s *stream) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.forget()
	s.nudge()
}

// reset breaks this end, and the other one as soon as that hears of it.
func (s *stream) reset(err error) {
	s.net().mu.Lock()
	defer s.net().unlock()
	s.tellPeer()
	s.fail(err)
}

// tellPeer has the other end broken when the news arrives.
func (s *stream) tellPeer() {
	l := s.net().link(s.socket.host.name, s.peer.socket.host.name)
	s.deliver(l, 0, func() { s.peer.fail(syscall.ECONNRESET) })
}

// forget takes the stream from its socket.
func (s *stream) forget() {
	if s.unbroken {
		s.unbroken = false
		s.socket.streams = slices.DeleteFunc(s.socket.streams, func(o *stream) bool { return o == s })
	}
}

func (s *stream) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Close implements net.Conn. What was written still arrives.
func (s *stream) Close() error {
	s.net().mu.Lock()
	defer s.net().unlock()
	if s.closed {
		return nil
	}
	if s.err == nil {
		s.transmit(nil)
	}
	s.closed, s.data, s.early = true, nil, nil
	s.forget()
	s.nudge()
	return nil
}

// LocalAddr implements net.Conn.
func (s *stream) LocalAddr() net.Addr { return socketAddr(s.socket.addr) }

// RemoteAddr implements net.Conn.
func (s *stream) RemoteAddr() net.Addr { return socketAddr(s.peer.socket.addr) }

// SetDeadline implements net.Conn.
func (s *stream) SetDeadline(t time.Time) error { return s.setDeadlines(&t, &t) }

// SetReadDeadline implements net.Conn.
func (s *stream) SetReadDeadline(t time.Time) error { return s.setDeadlines(&t, nil) }

// SetWriteDeadline implements net.Conn.
func (s *stream) SetWriteDeadline(t time.Time) error { return s.setDeadlines(nil, &t) }

func (s *stream) setDeadlines(read, write *time.Time) error {
	s.net().mu.Lock()
	defer s.net().mu.Unlock()
	if s.closed {
		return s.failure("set", net.ErrClosed)
	}
	if read != nil {
		s.readBy = *read
	}
	if write != nil {
		s.writeBy = *write
	}
	s.nudge()
	return nil
}
