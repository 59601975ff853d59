package network

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"time"

	"github.com/kithdb/kith/rpc"
)

// request is one Send on its way there and back.
type request struct {
	from     *Host
	to       rpc.Peer
	route    string
	body     []byte
	sum      uint32 // of body, and to whom it goes
	deadline time.Time
	patience time.Duration // what was left at Send; the receiver adds it to its arrival
	c        rpc.Completer
	sent     time.Duration // when, since the network began
	seq      uint64        // of those of one instant
	conn     *conn
	packet   *packet // nil until it has left
	expiry   *event
	done     bool
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// sorted gives requests in the order of Send, and those of one instant by what they
// are.
func sorted(set map[*request]bool) []*request {
	return slices.SortedFunc(maps.Keys(set), func(a, b *request) int {
		return cmp.Or(cmp.Compare(a.sent, b.sent), cmp.Compare(a.route, b.route), cmp.Compare(a.to.Addr, b.to.Addr),
			cmp.Compare(a.sum, b.sum), cmp.Compare(a.seq, b.seq))
	})
}

// rank says what the request is, and whose: one message may go to many.
func (r *request) rank() uint64 {
	return fnvText(fnvText(fnvText(fnv64(fnvBasis, uint64(r.sum)), r.route), r.from.name), r.to.Addr)
}

// sumOf is a checksum of a reply. Two requests may have equal replies at one instant: what
// is drawn for each comes from what it answers, too.
func (r *request) sumOf(reply []byte) uint32 {
	sum := fnv64(fnv64(r.rank(), uint64(r.sent)), uint64(checksum(reply)))
	return uint32(sum ^ sum>>32)
}

// start gives the request to its connection. The network is locked.
func (r *request) start() {
	n := r.from.net
	if n.closed || r.from.dead {
		r.finish(nil, errGone(rpc.ErrNotSent))
		return
	}
	if r.from.paused {
		r.from.postpone(r.rank(), r.start)
		return
	}
	if !time.Now().Before(r.deadline) {
		r.finish(nil, fmt.Errorf("%w: the deadline has passed", rpc.ErrNotSent))
		return
	}
	c := r.from.conn(r.to)
	if c.bytes > 0 && c.bytes+len(r.body) > n.cfg.PendingMax {
		r.finish(nil, fmt.Errorf("%w: %d bytes wait for the peer", rpc.ErrOverloaded, c.bytes))
		return
	}
	r.conn = c
	c.pending[r] = true
	c.bytes += len(r.body)
	// Timers are never exact; a bit of chance keeps two of one instant apart.
	l := c.there()
	l.about("deadline of "+r.route, int(r.patience), r.sum)
	r.expiry = n.schedule(r.deadline.Add(time.Duration(l.rng.Int64N(int64(time.Millisecond)))), l.rank, r.expire)
	if c.target != nil {
		r.transmit()
	}
}

// transmit puts the request on the link.
func (r *request) transmit() {
	n, target := r.from.net, r.conn.target
	l := r.conn.there()
	r.packet = &packet{to: target, conn: r.conn, size: len(r.body), sum: r.sum, note: r.route}
	r.packet.deliver = func() { r.deliver(target) }
	l.transmit(r.packet)
	if l.chance(l.shape().Duplicate) && (n.cfg.Duplicable == nil || n.cfg.Duplicable(r.route)) {
		n.counts.Duplicated++
		again := *r.packet
		l.transmit(&again)
	}
}

// deliver gives the request to its receiver's Mux.
func (r *request) deliver(target *Host) {
	n := r.from.net
	n.counts.Delivered++
	n.trace("delivered", r.from.name, target.name, r.route, len(r.body))
	deadline := time.Now().Add(r.patience)
	body := bytes.Clone(r.body) // the receiver's own, as after a wire
	n.later(func() {
		if mux := target.serving(); mux != nil {
			mux.Serve(r.from.peer, r.route, body, deadline, func(reply []byte, err error) {
				reply = bytes.Clone(reply)
				n.mu.Lock()
				defer n.unlock()
				r.answer(target, reply, err)
			})
		}
	})
}

// serving is what answers the host's requests; nil if it has died.
func (h *Host) serving() *rpc.Mux {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	switch {
	case h.dead:
		return nil
	case h.ended != nil:
		return h.net.ending
	}
	return h.mux
}

// answer sends a reply on its way back.
func (r *request) answer(server *Host, reply []byte, err error) {
	n := server.net
	if server.dead || n.closed {
		return
	}
	if server.paused {
		server.postpone(r.rank(), func() { r.answer(server, reply, err) })
		return
	}
	if len(reply) > n.cfg.FrameMax {
		err = rpc.ParseError(rpc.AppendError(nil, fmt.Errorf("reply to %s: %w: %d bytes, at most %d",
			r.route, rpc.ErrTooLarge, len(reply), n.cfg.FrameMax)))
		reply = nil
	}
	n.trace("answered", server.name, r.from.name, r.route, len(reply))
	n.link(server.name, r.from.name).transmit(&packet{
		to: r.from, conn: r.conn, size: len(reply), sum: r.sumOf(reply), note: r.route,
		deliver: func() {
			if !r.done && !r.conn.broken {
				n.counts.Answered++
				r.complete(reply, err)
			}
		},
	})
}

// expire ends the request's patience.
func (r *request) expire() {
	if r.packet == nil {
		r.complete(nil, fmt.Errorf("%w: the deadline passed while it waited for a connection", rpc.ErrNotSent))
		return
	}
	r.complete(nil, fmt.Errorf("%w: no reply", rpc.ErrDeadline))
}

// complete ends the request, unless its process is stopped and can't notice yet.
func (r *request) complete(reply []byte, err error) {
	if r.done {
		return
	}
	if r.from.paused {
		r.from.postpone(r.rank(), func() { r.complete(reply, err) })
		return
	}
	r.finish(reply, err)
}

// finish tells the sender, by the loop.
func (r *request) finish(reply []byte, err error) {
	if r.done {
		return
	}
	r.done = true
	n := r.from.net
	delete(r.from.open, r)
	n.cancel(r.expiry)
	if c := r.conn; c != nil {
		c.bytes -= len(r.body)
		delete(c.pending, r)
		c.rest()
	}
	note := r.route
	if err != nil {
		if _, answered := err.(*rpc.RemoteError); !answered {
			n.counts.Failed++
			err = fmt.Errorf("%s to %s: %w", r.route, r.to.Addr, err)
		}
		note += ": " + err.Error()
	}
	n.trace("done", r.from.name, n.nameAt[r.to.Addr], note, len(reply))
	n.later(func() { r.c.Complete(reply, err) })
}
