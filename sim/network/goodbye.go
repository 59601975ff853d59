package network

import (
	"slices"
	"time"

	"github.com/kithdb/kith/rpc"
)

// goodbyeTime is how long a process that ends waits for its peers, as over TCP.
const goodbyeTime = time.Second

// Close is the orderly end of a process, as that of an rpc.Server: it takes no more
// requests and says goodbye on every connection. What it has taken is answered, what was
// on its way is refused. It waits until its peers have closed, for a second at most. It
// must not be called from a handler or completer.
func (h *Host) Close() {
	n := h.net
	n.mu.Lock()
	if h.dead || n.closed || !h.sayGoodbye() {
		h.die(true)
		n.unlock()
		return
	}
	ended := h.ended
	n.unlock()
	limit := time.NewTimer(goodbyeTime)
	defer limit.Stop()
	select {
	case <-ended:
	case <-limit.C:
	}
	n.mu.Lock()
	defer n.unlock()
	h.die(true)
}

// sayGoodbye is false if nobody is there to be told.
func (h *Host) sayGoodbye() bool {
	n := h.net
	if n.listening[h.peer.Addr] == h {
		delete(n.listening, h.peer.Addr)
	}
	if h.ended != nil { // a second Close waits for the first
		return true
	}
	h.ended = make(chan struct{})
	for _, other := range n.all {
		for _, c := range other.conns {
			if c.target != h {
				continue
			}
			c.back().transmit(&packet{to: other, conn: c, sum: checksum(c.to.ID[:]), note: "goodbye", deliver: c.leave})
		}
	}
	return h.visited()
}

// visited says that somebody has a connection to the host.
func (h *Host) visited() bool {
	return slices.ContainsFunc(h.net.all, func(o *Host) bool {
		return slices.ContainsFunc(o.conns, func(c *conn) bool { return c.target == h })
	})
}

// leave is told that the peer takes no more requests: the connection ends with its last
// answer, and others begin a new one.
func (c *conn) leave() {
	c.leaving = true
	c.rest()
}

// rest ends a connection that is left and waits for nothing. The peer hears of it.
func (c *conn) rest() {
	if !c.leaving || c.broken || len(c.pending) > 0 {
		return
	}
	target := c.target
	c.end(nil)
	l := c.there()
	c.about(l, "closing")
	l.schedule(l.delay(0), func() {
		if !target.visited() {
			target.farewell()
		}
	})
}

// farewell lets Close end.
func (h *Host) farewell() {
	if h.ended == nil {
		return
	}
	select {
	case <-h.ended:
	default:
		close(h.ended)
	}
}

// newEnding makes the Mux that refuses what comes to a process which has said goodbye.
func newEnding() *rpc.Mux {
	m := rpc.NewMux(rpc.MuxConfig{})
	m.Close()
	return m
}
