package network

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

// Host is one process on the network, and the rpc.Transport of what runs there.
type Host struct {
	net     *Network
	name    string
	peer    rpc.Peer
	mux     *rpc.Mux
	cluster func() ring.ClusterID
	rng     *rand.Rand

	// net.mu guards the rest
	dead     bool
	paused   bool
	deferred []deferral        // what a paused host will do
	open     map[*request]bool // handed in and not completed
	conns    []*conn
	ended    chan struct{} // not nil: it has said goodbye; closed: to the last of them
	sockets  []*Socket
}

// Host adds a process. Its mux answers requests at the peer's address; without
// one it is a client, or a server that will Listen later. Its name is the peer's
// ID, or else the address. A host of the same address or name that is still
// there is crashed first.
func (n *Network) Host(peer rpc.Peer, mux *rpc.Mux) *Host {
	name := peer.Addr
	if !peer.ID.IsZero() {
		name = peer.ID.String()
	}
	return n.HostNamed(name, peer, mux)
}

// HostNamed is Host with a name for links, cuts and traces. A process that comes
// back under its name has its old links.
func (n *Network) HostNamed(name string, peer rpc.Peer, mux *rpc.Mux) *Host {
	n.mu.Lock()
	defer n.unlock()
	for _, old := range []*Host{n.newest[name], n.listening[peer.Addr]} {
		if old != nil {
			old.die(true)
		}
	}
	h := &Host{net: n, name: name, peer: peer, rng: n.generator("host", name), open: map[*request]bool{}}
	n.newest[name] = h
	n.version++
	n.nameAt[peer.Addr] = name
	delete(n.off, peer.Addr)
	n.all = append(n.all, h)
	if mux != nil {
		h.listen(mux)
	}
	n.trace("up", name, "", peer.Addr, 0)
	return h
}

// Listen begins to answer requests with the mux.
func (h *Host) Listen(mux *rpc.Mux) {
	h.net.mu.Lock()
	defer h.net.unlock()
	h.listen(mux)
}

func (h *Host) listen(mux *rpc.Mux) {
	if !h.dead {
		h.mux = mux
		h.net.listening[h.peer.Addr] = h
	}
}

// Name is the host's name.
func (h *Host) Name() string { return h.name }

// Peer is the host's address and ID.
func (h *Host) Peer() rpc.Peer { return h.peer }

// Open counts what the process has handed in and was not told the outcome of.
type Open struct{ Requests, Bytes int }

// Open says what waits for an answer now.
func (h *Host) Open() Open {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	o := Open{Requests: len(h.open)}
	for r := range h.open {
		o.Bytes += len(r.body)
	}
	return o
}

// SetCluster says which cluster the process belongs to: hosts of two different
// ones refuse each other's connections. It is called from the network's goroutine.
func (h *Host) SetCluster(cluster func() ring.ClusterID) {
	h.net.mu.Lock()
	defer h.net.unlock()
	h.cluster = cluster
}

// Send implements rpc.Transport. Without a deadline it is 10 s, as over TCP.
func (h *Host) Send(to rpc.Peer, route string, msg any, deadline time.Time, c rpc.Completer) {
	if deadline.IsZero() {
		deadline = time.Now().Add(10 * time.Second)
	}
	body, err := rpc.AppendMessage(nil, msg)
	r := &request{from: h, to: to, route: route, body: body, sum: crc32.Update(checksum(body), castagnoli, to.ID[:]), deadline: deadline, patience: time.Until(deadline), c: c}
	n := h.net
	n.mu.Lock()
	if n.closed { // its goroutine calls nobody any more
		n.mu.Unlock()
		c.Complete(nil, fmt.Errorf("%s to %s: %w: %w", route, to.Addr, rpc.ErrNotSent, rpc.ErrClosed))
		return
	}
	defer n.unlock()
	n.counts.Sent++
	n.seq++
	r.sent, r.seq = time.Since(n.began), n.seq
	h.open[r] = true
	n.trace("sent", h.name, n.nameAt[to.Addr], route, len(body))
	switch {
	case err != nil:
		r.finish(nil, fmt.Errorf("%w: %w", rpc.ErrNotSent, err))
	case len(body) > n.cfg.FrameMax:
		r.finish(nil, fmt.Errorf("%w: %w: %d bytes, at most %d", rpc.ErrNotSent, rpc.ErrTooLarge, len(body), n.cfg.FrameMax))
	case h.paused:
		n.counts.Held++
		h.postpone(r.rank(), r.start)
	default:
		r.start()
	}
}

// Crash kills the process. Its sockets are closed for it: peers learn soon that
// connections are gone, and dials are refused. What it had sent may still arrive.
func (h *Host) Crash() {
	h.net.mu.Lock()
	defer h.net.unlock()
	h.die(true)
}

// PowerOff stops the machine: peers hear nothing more, and dials time out, until
// a host is at the address again.
func (h *Host) PowerOff() {
	h.net.mu.Lock()
	defer h.net.unlock()
	h.net.off[h.peer.Addr] = true
	h.die(false)
}

// Pause stops the process, as SIGSTOP does: what it sends and what comes in
// waits for Resume, its deadlines among it.
func (h *Host) Pause() {
	h.net.mu.Lock()
	defer h.net.unlock()
	h.paused = true
	h.net.version++
	h.net.trace("paused", h.name, "", "", 0)
}

// Resume ends Pause. What has waited happens in a random order.
func (h *Host) Resume() {
	h.net.mu.Lock()
	defer h.net.unlock()
	if !h.paused {
		return
	}
	h.paused = false
	h.net.version++
	h.net.trace("resumed", h.name, "", "", 0)
	waiting := h.deferred
	h.deferred = nil
	slices.SortStableFunc(waiting, func(a, b deferral) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.rank, b.rank))
	})
	h.rng.Shuffle(len(waiting), func(i, j int) { waiting[i], waiting[j] = waiting[j], waiting[i] })
	for _, d := range waiting {
		h.net.schedule(time.Now(), 0, d.do)
	}
}

// deferral is something that a paused host will do, with the network locked.
type deferral struct {
	at   time.Duration // since when, since the network began
	rank uint64        // says what it is about
	do   func()
}

// postpone keeps f for Resume.
func (h *Host) postpone(rank uint64, f func()) {
	h.deferred = append(h.deferred, deferral{time.Since(h.net.began), rank, f})
}

// die ends a process; aloud, its peers are told by their connections.
func (h *Host) die(aloud bool) {
	if h.dead {
		return
	}
	n := h.net
	n.trace("down", h.name, "", "", 0)
	if n.listening[h.peer.Addr] == h {
		delete(n.listening, h.peer.Addr)
	}
	h.abandon()
	h.unbind(aloud)
	h.dead = true
	h.farewell()
	n.version++
	n.all = slices.DeleteFunc(n.all, func(o *Host) bool { return o == h })
	for _, other := range n.all {
		for _, c := range other.conns {
			if c.target != h {
				continue
			}
			silence := func() {
				n.schedule(time.Now().Add(n.cfg.StallTimeout), c.there().seed, func() { c.lose("no answer from the peer") })
			}
			if !aloud {
				silence()
				continue
			}
			l := n.link(h.name, other.name)
			l.about("news", 0, 0)
			l.schedule(l.delay(0), func() {
				if !l.cut.IsZero() {
					silence() // nor can the news arrive
					return
				}
				c.lose("peer is gone")
			})
		}
	}
}

// abandon fails all that this host waits for.
func (h *Host) abandon() {
	h.paused, h.deferred = false, nil
	for _, c := range slices.Clone(h.conns) {
		c.abandon()
	}
	// Those that are left were held by a pause.
	for _, r := range sorted(h.open) {
		if r.packet == nil {
			r.finish(nil, errGone(rpc.ErrNotSent))
		} else {
			r.finish(nil, errGone(rpc.ErrLost))
		}
	}
}

// errGone says why a host's own requests end.
func errGone(sentinel error) error {
	return fmt.Errorf("%w: %w: this process has stopped", sentinel, rpc.ErrClosed)
}
