package kv

import (
	"time"

	"github.com/kithdb/kith/quorum"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/store/version"
)

// Whom a read asks, and in which order.

// prefer orders the homes: this node first, then those in its zone, then the other
// reachable ones, each by their latency, then the rest; o.mu is held.
func (o *getOp) prefer() {
	const far = time.Hour
	var rank, p95 [quorum.SeatsMax]time.Duration
	zone, zoned := o.c.nearZone(o.ring)
	readers := 0
	for i, id := range o.homes {
		if !o.seats.Reads(i) {
			continue
		}
		o.order[readers] = uint8(i)
		readers++
		if id == o.c.cfg.Self {
			rank[i] = -1
			continue
		}
		rank[i], p95[i] = o.c.cfg.Circuits.Latency(id)
		switch {
		case !o.c.Reachable(id):
			rank[i], p95[i] = 2*far, 0
		case zoned && o.ring.Member(id).Zone != zone:
			rank[i] += far
		}
	}
	order := o.order[:readers]
	for i := 1; i < len(order); i++ {
		for j := i; j > 0 && rank[order[j]] < rank[order[j-1]]; j-- {
			order[j], order[j-1] = order[j-1], order[j]
		}
	}
	late, first := hedgeMin, o.none
	for _, i := range order { // who is asked first
		if first.Wants(int(i)) {
			first.Ack(int(i))
			late = max(late, p95[i])
		}
	}
	o.hedgeAt = time.Now().Add(late)
}

// next is the seat to ask: the first in the order of preference that would bring the
// tally nearer if all who were asked answer; else one that would if they do not; else
// one that is about to take reads over, and this time holds the read back. It is -1 if
// there is none; o.mu is held.
func (o *getOp) next() int {
	hope := o.hope()
	for _, t := range [...]*quorum.Tally{&hope, &o.tally} {
		for _, i := range o.order[:o.slots] {
			if o.copies[i].state == unasked && t.Wants(int(i)) {
				return int(i)
			}
		}
	}
	for _, i := range o.order[:o.slots] {
		if o.copies[i].state == moving && hope.Wants(int(i)) {
			return int(i)
		}
	}
	return -1
}

// hope is the tally if all who were asked answer; o.mu is held.
func (o *getOp) hope() quorum.Tally {
	hope := o.tally
	for i := range o.homes {
		if o.copies[i].state == asked {
			hope.Ack(i)
		}
	}
	return hope
}

// ask sends the read to as many homes as it takes, as far as there are any, or to one
// more, in the attempt that is under way when it begins.
func (o *getOp) ask(more bool) {
	o.hold() // an answer may come, and end the read, before the loop does
	defer o.drop()
	o.mu.Lock()
	attempt := o.attempt
	o.mu.Unlock()
	for {
		o.mu.Lock()
		if attempt != o.attempt || o.answered || o.settling || o.waits {
			o.mu.Unlock()
			return
		}
		hope := o.hope()
		home := o.next()
		if home < 0 || !more && hope.Result() == quorum.Met {
			o.mu.Unlock()
			return
		}
		full := !o.reading
		o.reading = true
		leg := &o.legs[home]
		hold := o.copies[home].state == moving
		if o.attempt > 1 || hold {
			leg = new(getLeg) // the first one may still be on its way
		}
		o.copies[home].state = asked
		*leg = getLeg{op: o, attempt: attempt, home: home, full: full, hold: hold, p: o.p, epoch: o.req[0].Epoch}
		req := &o.req[0]
		if full {
			req = &o.req[1]
		}
		if hold {
			req = &readRequest{Epoch: req.Epoch, Key: req.Key, Stamp: req.Stamp, Full: full, Hold: true}
		}
		id, p := o.homes[home], o.p
		o.mu.Unlock()
		o.hold()
		if id == o.c.cfg.Self {
			o.readHere(p, leg)
		} else if to, ok := o.c.peer(id); ok {
			readRoute.Send(o.c.cfg.Transport, to, req, o.theirs, leg)
		} else {
			leg.Complete(nil, rpc.ErrUnreachable)
		}
		if more {
			return
		}
	}
}

// Read implements store.ReadSink: this node's own copy, checked as every other
// home checks its own.
func (l *getLeg) Read(record []byte, err error) {
	o := l.op
	err = o.c.vouch(l.p, l.epoch, err)
	if l.hold && !l.held && o.c.holdBack(l.p, l.epoch, o.theirs, err, l.again) {
		return
	}
	defer o.drop()
	o.homeAnswered(l, homeCopy{full: true, leaf: version.LeafOf(record), record: record, err: err})
}

// readHere reads this node's own copy. That it does not count for reads is told at once:
// whom is asked next, and for what, must not hang on how soon a copy is read that is not
// answered with.
func (o *getOp) readHere(p ring.Partition, leg *getLeg) {
	if !leg.hold {
		if failed := o.c.counts(p); failed != nil {
			leg.Complete(nil, failed)
			return
		}
	}
	o.c.readOwn(p, o.key, leg)
}

// again reads what was held back.
func (l *getLeg) again() {
	l.held = true
	l.op.c.readOwn(l.p, l.op.key, l)
}
