package network

import (
	"fmt"
	"net"
	"slices"
)

// unreadMax is how many bytes of datagrams wait for a paused process; what comes
// then is lost. It is what Linux keeps for a UDP socket.
const unreadMax = 208 << 10

// Handler is who gets what arrives at a Socket. The network's goroutine calls
// it, without locks, and it must not wait.
type Handler interface {
	// Datagram gets one datagram, which is the handler's from then on.
	Datagram(from string, body []byte)
	// Stream gets a stream that somebody has opened; false refuses it.
	Stream(net.Conn) bool
}

// Socket is a door of a process beside that of rpc, at an address of its own:
// datagrams as over UDP, streams as over TCP. Whatever befalls its host or a
// link befalls it too. A datagram is lost by loss, by a cut, and when its sender
// is paused; it may come twice where the link duplicates.
type Socket struct {
	host    *Host
	addr    string
	handler Handler

	// net.mu guards the rest
	closed  bool
	unread  int // bytes of datagrams that wait for a paused process
	streams []*stream
	dials   []*dialing
}

// Bind opens a socket at an address. Until its Close, or the end of its host,
// nobody else can have that address.
func (h *Host) Bind(addr string, handler Handler) (*Socket, error) {
	n := h.net
	n.mu.Lock()
	defer n.unlock()
	switch old := n.sockets[addr]; {
	case n.closed || h.dead:
		return nil, fmt.Errorf("bind %s: %w", addr, net.ErrClosed)
	case old != nil && !old.closed:
		return nil, fmt.Errorf("bind %s: the address is in use by %s", addr, old.host.name)
	}
	s := &Socket{host: h, addr: addr, handler: handler}
	if n.sockets == nil {
		n.sockets = map[string]*Socket{}
	}
	n.sockets[addr] = s
	h.sockets = append(h.sockets, s)
	return s, nil
}

// Addr is where the socket is.
func (s *Socket) Addr() string { return s.addr }

// Close ends the socket, its streams and its dials. Peers learn of it as of the
// end of a process.
func (s *Socket) Close() {
	s.host.net.mu.Lock()
	defer s.host.net.unlock()
	s.end(true)
}

// end closes the socket; aloud, the other ends of its streams are told.
func (s *Socket) end(aloud bool) {
	if s.closed {
		return
	}
	s.closed = true
	s.host.sockets = slices.DeleteFunc(s.host.sockets, func(o *Socket) bool { return o == s })
	for _, d := range slices.Clone(s.dials) {
		d.finish(nil, net.ErrClosed)
	}
	for _, st := range slices.Clone(s.streams) {
		if aloud {
			st.tellPeer()
		}
		st.fail(net.ErrClosed)
	}
}

// unbind closes all sockets of a process that has ended.
func (h *Host) unbind(aloud bool) {
	for _, s := range slices.Clone(h.sockets) {
		s.end(aloud)
	}
}

// nameAtSocket is the host name at a socket's address; empty if there never was
// one.
func (n *Network) nameAtSocket(addr string) string {
	if s := n.sockets[addr]; s != nil {
		return s.host.name
	}
	return ""
}

// Send sends a datagram. Nobody is told what becomes of it. The body is copied.
func (s *Socket) Send(to string, body []byte) error {
	n := s.host.net
	n.mu.Lock()
	defer n.unlock()
	if s.closed || n.closed {
		return &net.OpError{Op: "write", Net: "udp", Err: net.ErrClosed}
	}
	n.counts.Datagrams++
	n.counts.Bytes += int64(len(body))
	l := n.link(s.host.name, n.nameAtSocket(to))
	l.about("datagram", len(body), checksum(body))
	if s.host.paused || l.chance(l.shape().Loss) {
		s.lose(l, len(body))
		return nil
	}
	d := &datagram{from: s, to: to, link: l, body: slices.Clone(body)}
	l.schedule(l.pace()+l.linger(len(body)), d.arrive)
	if l.chance(l.shape().Duplicate) {
		n.counts.Duplicated++
		again := &datagram{from: s, to: to, link: l, body: slices.Clone(body)}
		l.schedule(l.pace()+l.linger(len(body)), again.arrive)
	}
	return nil
}

// lose counts a datagram that nobody gets.
func (s *Socket) lose(l *link, size int) {
	s.host.net.counts.DatagramsLost++
	s.host.net.trace("lost", l.from, l.to, "datagram", size)
}

// datagram is one on its way.
type datagram struct {
	from *Socket
	to   string
	link *link
	body []byte
}

func (d *datagram) arrive() {
	n := d.from.host.net
	target := n.sockets[d.to]
	switch {
	case !d.link.cut.IsZero() || d.link.muted || target == nil || target.closed:
		d.from.lose(d.link, len(d.body))
	case target.host.paused && target.unread+len(d.body) > unreadMax:
		d.from.lose(d.link, len(d.body))
	case target.host.paused:
		target.unread += len(d.body)
		target.host.postpone(uint64(checksum(d.body)), func() {
			target.unread -= len(d.body)
			d.arrive()
		})
	default:
		n.later(func() { target.handler.Datagram(d.from.addr, d.body) })
	}
}

// Mute stops the datagrams that one host sends to another, and nothing else: a
// firewall that knows only TCP.
func (n *Network) Mute(from, to string) {
	n.mu.Lock()
	defer n.unlock()
	n.link(from, to).muted = true
	n.trace("muted", from, to, "", 0)
}

// Unmute ends Mute, as Mend and Heal do.
func (n *Network) Unmute(from, to string) {
	n.mu.Lock()
	defer n.unlock()
	n.link(from, to).muted = false
	n.trace("unmuted", from, to, "", 0)
}
