package gossip

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// memNet is a network in memory for tests in a bubble: packets with latency,
// streams, cuts, and hosts that vanish. Its mutex is held for map work only.
type memNet struct {
	mu    sync.Mutex
	rng   *rand.Rand
	hosts map[string]*memHost
	group map[string]int // cut: hosts of different groups do not hear each other
	loss  float64
}

func newMemNet(seed uint64) *memNet {
	return &memNet{
		rng:   rand.New(rand.NewPCG(seed, 1)),
		hosts: make(map[string]*memHost),
		group: make(map[string]int),
	}
}

// host gives the transport of a host that listens at 10.0.0.n:7946.
func (n *memNet) host(number byte) *memHost {
	h := &memHost{
		net: n, ip: net.IPv4(10, 0, 0, number).To4(), port: 7946,
		packets: make(chan *memberlist.Packet, 1024),
		streams: make(chan net.Conn, 64),
		open:    make(map[*memConn]struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[h.addr()] = h
	return h
}

// cut cuts between groups of hosts.
func (n *memNet) cut(groups ...[]byte) {
	named := make([][]string, len(groups))
	for i, g := range groups {
		for _, number := range g {
			named[i] = append(named[i], memAddr(number))
		}
	}
	n.cutHosts(named...)
}

// cutHosts puts hosts into groups that do not hear each other, and resets the
// streams between them.
func (n *memNet) cutHosts(groups ...[]string) {
	n.mu.Lock()
	n.group = make(map[string]int)
	for i, g := range groups {
		for _, addr := range g {
			n.group[addr] = i + 1
		}
	}
	var torn []*memConn
	for _, h := range n.hosts {
		for c := range h.open {
			if !n.linked(h.addr(), c.remote) {
				torn = append(torn, c)
			}
		}
	}
	n.mu.Unlock()
	for _, c := range torn {
		drop(c)
	}
}

func (n *memNet) heal() { n.cut() }

// lose drops a share of all packets; streams go on.
func (n *memNet) lose(share float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = share
}

func (n *memNet) linked(a, b string) bool { return n.group[a] == n.group[b] }

func memAddr(number byte) string { return joinAddr(net.IPv4(10, 0, 0, number), 7946) }

func (n *memNet) delay() time.Duration {
	return time.Millisecond + time.Duration(n.rng.Int64N(int64(time.Millisecond)))
}

type memHost struct {
	net     *memNet
	ip      net.IP
	port    int
	packets chan *memberlist.Packet
	streams chan net.Conn
	open    map[*memConn]struct{} // guarded by net.mu
	down    bool                  // guarded by net.mu
}

var errRefused = errors.New("connect: connection refused")

func (h *memHost) addr() string { return net.JoinHostPort(h.ip.String(), strconv.Itoa(h.port)) }

func (h *memHost) FinalAdvertiseAddr(string, int) (net.IP, int, error) { return h.ip, h.port, nil }

func (h *memHost) PacketCh() <-chan *memberlist.Packet { return h.packets }

func (h *memHost) StreamCh() <-chan net.Conn { return h.streams }

func (h *memHost) WriteTo(b []byte, addr string) (time.Time, error) {
	return h.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (h *memHost) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if h.down {
		return time.Now(), errTransportClosed
	}
	if n.rng.Float64() < n.loss {
		return time.Now(), nil
	}
	p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: hostPort(h.addr())}
	time.AfterFunc(n.delay(), func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		dst := n.hosts[to.Addr]
		if dst == nil || dst.down || !n.linked(h.addr(), to.Addr) {
			return
		}
		p.Timestamp = time.Now()
		select {
		case dst.packets <- p:
		default:
		}
	})
	return time.Now(), nil
}

func (h *memHost) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return h.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (h *memHost) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	n := h.net
	n.mu.Lock()
	linked, delay := n.linked(h.addr(), to.Addr), n.delay()
	n.mu.Unlock()
	if !linked {
		time.Sleep(timeout)
		return nil, os.ErrDeadlineExceeded
	}
	time.Sleep(delay)
	n.mu.Lock()
	defer n.mu.Unlock()
	dst := n.hosts[to.Addr]
	if dst == nil || dst.down || h.down || !n.linked(h.addr(), to.Addr) {
		return nil, errRefused
	}
	there, here := newMemHalf(), newMemHalf()
	ours := &memConn{host: h, local: h.addr(), remote: to.Addr, in: here, out: there}
	theirs := &memConn{host: dst, local: to.Addr, remote: h.addr(), in: there, out: here}
	select {
	case dst.streams <- theirs:
	default:
		return nil, errRefused
	}
	h.open[ours] = struct{}{}
	dst.open[theirs] = struct{}{}
	return ours, nil
}

// Shutdown makes the host vanish: nothing leaves or arrives any more.
func (h *memHost) Shutdown() error {
	n := h.net
	n.mu.Lock()
	h.down = true
	if n.hosts[h.addr()] == h {
		delete(n.hosts, h.addr())
	}
	var open []*memConn
	for c := range h.open {
		open = append(open, c)
	}
	n.mu.Unlock()
	for _, c := range open {
		drop(c)
	}
	return nil
}

// memHalf is one direction of a stream.
type memHalf struct {
	mu       sync.Mutex
	data     []byte
	closed   bool
	deadline time.Time
	token    chan struct{}
}

func newMemHalf() *memHalf { return &memHalf{token: make(chan struct{}, 1)} }

func (x *memHalf) read(b []byte) (int, error) {
	for {
		x.mu.Lock()
		n := copy(b, x.data)
		x.data = x.data[n:]
		closed, deadline := x.closed, x.deadline
		x.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		if closed {
			return 0, io.EOF
		}
		if !deadline.IsZero() && !time.Now().Before(deadline) {
			return 0, os.ErrDeadlineExceeded
		}
		var late <-chan time.Time
		if !deadline.IsZero() {
			late = time.After(time.Until(deadline))
		}
		select {
		case <-x.token:
		case <-late:
		}
	}
}

func (x *memHalf) write(b []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return 0, io.ErrClosedPipe
	}
	x.data = append(x.data, b...)
	wake(x.token)
	return len(b), nil
}

func (x *memHalf) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	wake(x.token)
}

type memConn struct {
	host          *memHost
	local, remote string
	in, out       *memHalf
}

func (c *memConn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *memConn) Write(b []byte) (int, error) { return c.out.write(b) }
func (c *memConn) LocalAddr() net.Addr         { return hostPort(c.local) }
func (c *memConn) RemoteAddr() net.Addr        { return hostPort(c.remote) }

func (c *memConn) Close() error {
	c.host.net.mu.Lock()
	delete(c.host.open, c)
	c.host.net.mu.Unlock()
	c.in.close()
	c.out.close()
	return nil
}

func (c *memConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.deadline = t
	wake(c.in.token)
	return nil
}

func (c *memConn) SetWriteDeadline(time.Time) error { return nil }
