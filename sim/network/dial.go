package network

import (
	"net"
	"os"
	"slices"
	"syscall"
	"time"
)

// dialing is one attempt to open a stream.
type dialing struct {
	from *Socket
	to   string
	name string // of the host at the address
	over bool
	done chan dialed // holds one

	expiry *event
}

type dialed struct {
	conn net.Conn
	err  error
}

// Dial opens a stream to a socket's address. As over TCP it is refused where a
// machine runs and nobody listens; over a cut, at a paused host or at one
// without power there is no answer until the timeout.
func (s *Socket) Dial(addr string, timeout time.Duration) (net.Conn, error) {
	n := s.host.net
	d := &dialing{from: s, to: addr, done: make(chan dialed, 1)}
	n.mu.Lock()
	n.counts.Dials++
	if s.closed || n.closed {
		d.finish(nil, net.ErrClosed)
	} else {
		s.dials = append(s.dials, d)
		d.expiry = n.schedule(time.Now().Add(timeout), 0, func() { d.finish(nil, os.ErrDeadlineExceeded) })
		d.attempt()
	}
	n.unlock()
	r := <-d.done
	return r.conn, r.err
}

func (d *dialing) there() *link { return d.from.host.net.link(d.from.host.name, d.name) }
func (d *dialing) back() *link  { return d.from.host.net.link(d.name, d.from.host.name) }

// attempt sends the first packet. The network is locked, as for all below.
func (d *dialing) attempt() {
	if d.over {
		return
	}
	n := d.from.host.net
	d.name = n.nameAtSocket(d.to)
	d.there().about("stream dial", 0, 0)
	d.there().schedule(d.there().delay(0), d.arrive)
}

// silent says that an answer can't come now.
func (d *dialing) silent(target *Socket) bool {
	return !d.there().cut.IsZero() || !d.back().cut.IsZero() || d.from.host.paused ||
		target != nil && (target.host.paused || target.closed && d.from.host.net.off[target.host.peer.Addr])
}

// arrive is the first packet's arrival.
func (d *dialing) arrive() {
	n := d.from.host.net
	target := n.sockets[d.to]
	switch {
	case d.over:
	case d.silent(target):
		d.there().schedule(redial, d.attempt)
	default:
		d.back().about("stream answer", 0, 0)
		d.back().schedule(d.back().delay(0), func() { d.answered(target) })
	}
}

// answered is the answer's arrival; the stream is there then, and the peer sees
// it with the first byte.
func (d *dialing) answered(target *Socket) {
	switch {
	case d.over:
	case d.silent(target):
		d.there().schedule(redial, d.attempt)
	case target == nil || target.closed:
		d.finish(nil, syscall.ECONNREFUSED)
	default:
		ours, theirs := newStreams(d.from, target)
		d.from.host.net.later(func() {
			if !target.handler.Stream(theirs) {
				theirs.reset(net.ErrClosed)
			}
		})
		d.finish(ours, nil)
	}
}

// finish gives the dial its result, once.
func (d *dialing) finish(conn net.Conn, err error) {
	if d.over {
		return
	}
	d.over = true
	d.from.host.net.cancel(d.expiry)
	d.from.dials = slices.DeleteFunc(d.from.dials, func(o *dialing) bool { return o == d })
	if err != nil {
		err = &net.OpError{Op: "dial", Net: "tcp", Addr: socketAddr(d.to), Err: err}
	}
	d.done <- dialed{conn, err}
}

// socketAddr is an address of a socket.
type socketAddr string

// Network implements net.Addr.
func (a socketAddr) Network() string { return "tcp" }

// String implements net.Addr.
func (a socketAddr) String() string { return string(a) }
