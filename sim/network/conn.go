package network

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

// conn is one side's connection to an address, as long as it lasts.
type conn struct {
	from    *Host
	to      rpc.Peer
	name    string // of the host at the address
	target  *Host  // who answered the dial; nil until then
	broken  bool
	leaving bool              // the peer has said goodbye
	until   time.Time         // a dial fails then
	pending map[*request]bool // those that wait for the dial too
	bytes   int
}

// conn finds the host's connection to a peer, or dials.
func (h *Host) conn(to rpc.Peer) *conn {
	for _, c := range h.conns {
		if c.to == to && !c.leaving {
			return c
		}
	}
	n := h.net
	c := &conn{from: h, to: to, name: n.nameAt[to.Addr], pending: map[*request]bool{}}
	c.until = time.Now().Add(n.cfg.DialTimeout + c.untie())
	at, _ := slices.BinarySearchFunc(h.conns, c, func(a, b *conn) int {
		return cmp.Or(cmp.Compare(a.to.Addr, b.to.Addr), a.to.ID.Compare(b.to.ID))
	})
	h.conns = slices.Insert(h.conns, at, c)
	n.counts.Dials++
	n.schedule(c.until, c.there().rank, func() {
		if c.target == nil {
			c.fail(fmt.Errorf("dial: no answer in %v", n.cfg.DialTimeout))
		}
	})
	c.dial()
	return c
}

func (c *conn) there() *link { return c.from.net.link(c.from.name, c.name) }
func (c *conn) back() *link  { return c.from.net.link(c.name, c.from.name) }

// about begins the draws of a link for what a connection is about to do. There may be
// two to one address: to a node that is known, and to whoever is there.
func (c *conn) about(l *link, what string) { l.about(what, 0, checksum(c.to.ID[:])) }

// untie draws a bit to add to a timeout of the network. Processes wait by whole
// seconds, and what happens at one instant has no order: a dial that is given up
// just when its caller asks again would end in either way.
func (c *conn) untie() time.Duration {
	l := c.there()
	c.about(l, "timeout")
	return time.Duration(l.rng.Int64N(int64(time.Millisecond)))
}

// dial sends the first packet.
func (c *conn) dial() {
	if c.broken || c.target != nil {
		return
	}
	c.about(c.there(), "dial")
	c.there().schedule(c.there().delay(0), c.dialed)
}

// dialed is the first packet's arrival.
func (c *conn) dialed() {
	n := c.from.net
	target := n.listening[c.to.Addr]
	switch {
	case c.broken || c.target != nil:
	case !c.there().cut.IsZero() || !c.back().cut.IsZero() || n.off[c.to.Addr],
		target != nil && target.paused, c.from.paused:
		c.about(c.there(), "redial")
		c.there().schedule(redial, c.dial)
	case target == nil:
		c.about(c.back(), "refusal")
		c.back().schedule(c.back().delay(0), func() {
			if c.target == nil {
				c.fail(fmt.Errorf("dial: connection refused"))
			}
		})
	default:
		c.about(c.back(), "handshake")
		c.about(c.there(), "handshake")
		shake := c.back().delay(0) + c.there().delay(0) + c.back().delay(0)
		c.there().schedule(shake, func() { c.shaken(target) })
	}
}

// shaken is the end of the handshake.
func (c *conn) shaken(target *Host) {
	switch {
	case c.broken || c.target != nil:
	case target.dead || target.ended != nil || target.paused || c.from.paused || !c.there().cut.IsZero() || !c.back().cut.IsZero():
		c.dial()
	case !c.to.ID.IsZero() && c.to.ID != target.peer.ID:
		c.failWith(rpc.ErrWrongNode, fmt.Errorf("node %s is there", target.peer.ID.Short()))
	case c.from.cluster != nil && target.cluster != nil:
		n, ours, theirs := c.from.net, c.from.cluster, target.cluster
		n.later(func() {
			a, b := ours(), theirs()
			n.mu.Lock()
			defer n.unlock()
			c.introduced(target, a, b)
		})
	default:
		c.establish(target)
	}
}

// introduced compares the clusters of both ends.
func (c *conn) introduced(target *Host, ours, theirs ring.ClusterID) {
	switch {
	case c.broken || c.target != nil:
	case target.dead || target.ended != nil: // since it was asked
		c.dial()
	case !ours.IsZero() && !theirs.IsZero() && ours != theirs:
		c.failWith(rpc.ErrWrongCluster, fmt.Errorf("we are of %s, node %s of %s", ours, target.peer.ID.Short(), theirs))
	default:
		c.establish(target)
	}
}

// establish sends what has waited.
func (c *conn) establish(target *Host) {
	c.target = target
	for _, r := range sorted(c.pending) {
		r.transmit()
	}
}

// fail ends a dial: nothing has left.
func (c *conn) fail(err error) { c.failWith(rpc.ErrUnreachable, err) }

func (c *conn) failWith(sentinel, err error) {
	c.end(func(*request) error { return fmt.Errorf("%w: %w", sentinel, err) })
}

// lose breaks an established connection: what was sent may have arrived, or may
// yet.
func (c *conn) lose(why string) {
	if c.broken {
		return
	}
	n := c.from.net
	n.counts.Broken++
	n.trace("broken", c.from.name, c.name, why, 0)
	c.letGo()
	c.drop(c.there())
	c.end(func(r *request) error {
		if r.packet == nil {
			return fmt.Errorf("%w: %s", rpc.ErrUnreachable, why)
		}
		return fmt.Errorf("%w: %s", rpc.ErrLost, why)
	})
}

// letGo decides which of the requests on their way still arrive.
func (c *conn) letGo() {
	l := c.there()
	for _, r := range sorted(c.pending) {
		if r.packet != nil {
			l.about("loss of "+r.route, len(r.body), r.sum)
			r.packet.dropped = l.rng.IntN(2) == 0
		}
	}
}

// drop forgets what is held for the connection before a cut.
func (c *conn) drop(l *link) {
	l.held = slices.DeleteFunc(l.held, func(p *packet) bool { return p.conn == c })
}

// abandon is the end of the connection because its own process has ended; the
// system may still deliver what it has taken.
func (c *conn) abandon() {
	c.letGo()
	c.drop(c.there())
	c.end(func(r *request) error {
		if r.packet == nil {
			return errGone(rpc.ErrNotSent)
		}
		return errGone(rpc.ErrLost)
	})
}

// end takes the connection away and gives every request its error.
func (c *conn) end(reason func(*request) error) {
	if c.broken {
		return
	}
	c.broken = true
	c.from.conns = slices.DeleteFunc(c.from.conns, func(o *conn) bool { return o == c })
	for _, r := range sorted(c.pending) {
		r.complete(nil, reason(r))
	}
}

// stall breaks the connections from one name to another that a cut has silenced
// for too long.
func (n *Network) stall(from, to string) {
	h := n.newest[from]
	if h == nil || h.dead {
		return
	}
	for _, c := range slices.Clone(h.conns) {
		if c.name == to && c.target != nil {
			c.lose("no answer from the peer")
		}
	}
}
