package kv

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kithdb/kith/quorum"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// PutSink takes the outcome of a put.
type PutSink interface {
	// PutDone is called once, from any goroutine, and must not block. The
	// response is valid during the call.
	PutDone(resp *api.PutResponse, err error)
}

// putCall answers a put that came by rpc.
type putCall struct{ call *rpc.Call }

// PutDone implements PutSink.
func (p putCall) PutDone(resp *api.PutResponse, err error) {
	if err != nil {
		p.call.Fail(err)
		return
	}
	p.call.Reply(resp)
}

// putOp is one put under way on its coordinator.
//
// It is routed, then either forwarded to a home or minted here. Once minted it
// has the same record and dot for ever; a newer ring record only changes whose
// acks count, and then counting starts at nought.
type putOp struct {
	c    *Coordinator
	refs atomic.Int32
	in   swept

	// What is asked; unchanged.
	req      api.PutRequest
	ctx      version.Context
	sink     PutSink
	notAfter time.Time
	chosen   bool      // notAfter is this node's choice
	own      time.Time // when the caller is answered at the latest
	theirs   time.Time // when the homes must have answered

	mu       sync.Mutex // guards all below
	answered bool
	minted   bool
	encoded  []byte
	dot      version.Dot
	seen     version.Context
	siblings int

	// The attempt under way. Answers to an older one don't count.
	attempt  int
	reroutes int // see reroutesMax
	ring     *ring.Record
	p        ring.Partition
	seats    quorum.Seats
	homes    []ring.NodeID // by seat: the homes by slot, then the target of a move
	slots    int           // how many of them are homes
	zone     string        // the caller's
	none     quorum.Tally  // of no answers
	tally    quorum.Tally
	errs     [quorum.SeatsMax]error
	tried    [quorum.SeatsMax]bool // forwarding
	stand    *standing             // nil while all homes can be reached

	first [quorum.SeatsMax]putLeg // of the attempt that minted
	local putLeg                  // this node's in it
	put   store.Put
	merge mergeRequest
	resp  api.PutResponse
}

// putLeg is one home's part in an attempt.
type putLeg struct {
	op      *putOp
	attempt int
	home    int
	id      ring.NodeID // of the home, once it was sent to
	resp    mergeResponse
}

var putOps = sync.Pool{New: func() any { return new(putOp) }}

// Put writes or deletes a key. The request's bytes must not be changed any more:
// they may be read even after sink was called.
func (c *Coordinator) Put(req *api.PutRequest, deadline time.Time, sink PutSink) {
	c.served.Add(1)
	o := putOps.Get().(*putOp)
	o.c, o.req, o.sink = c, *req, sink
	o.refs.Store(2) // until it is answered, and until start has returned
	defer o.drop()
	o.theirs, o.own = c.deadlines(deadline)
	if err := o.check(); err != nil {
		o.sink.PutDone(nil, err)
		o.drop()
		return
	}
	c.stamps().Observe(version.Stamp(req.Stamp))
	if !c.sweep.add(&o.in, o) {
		o.answer(errClosed)
		return
	}
	o.start()
}

// start routes the put by the newest ring record. Nothing is minted yet.
func (o *putOp) start() {
	r, err := o.c.record()
	if err != nil {
		o.answer(err)
		return
	}
	o.mu.Lock()
	if o.answered { // out of time: nobody waits for it any more
		o.mu.Unlock()
		return
	}
	o.attempt++
	if err := o.route(r); err != nil {
		o.mu.Unlock()
		o.answer(err)
		return
	}
	o.mu.Unlock()
	self := r.HomeIndex(o.p, o.c.cfg.Self)
	if self < 0 && o.req.Forwarded {
		o.answer(fmt.Errorf("%w: partition %d at epoch %d", api.ErrNotHome, o.p, r.Epoch))
		return
	}
	if self < 0 {
		o.forward(nil)
		return
	}
	if offset, ok := o.c.skew.ahead(); ok {
		o.elsewhere(self, fmt.Errorf("%w: the coordinator's clock is %v ahead of its peers'", api.ErrClock, offset.Round(time.Millisecond)))
		return
	}
	if err := o.enough(); err != nil {
		o.answer(err)
		return
	}
	o.mint(r, self)
}

// route points the attempt at the homes of a ring record; o.mu is held.
func (o *putOp) route(r *ring.Record) (err error) {
	o.ring, o.p = r, r.PartitionOf(o.req.Key)
	o.seats = quorum.SeatsOf(r, o.p)
	o.homes, o.slots = o.seats.Members(), o.seats.Slots()
	if o.none, o.zone, err = o.c.writes(&o.seats, r, o.req.W, o.req.Zone); err != nil {
		return err
	}
	o.tally = o.none
	o.errs = [quorum.SeatsMax]error{}
	o.tried = [quorum.SeatsMax]bool{}
	o.stand = nil
	return nil
}

// enough refuses a put that cannot get its acks: nothing is minted for it.
func (o *putOp) enough() error {
	tally := o.none
	var away []int
	for i, id := range o.homes {
		if o.c.Reachable(id) {
			tally.Ack(i)
		} else {
			away = append(away, i)
		}
	}
	if len(away) > 0 {
		stand := o.lookForStandIns()
		o.mu.Lock()
		o.stand = stand
		o.mu.Unlock()
		for i, home := range away {
			if o.req.Sloppy && home < o.slots && i < len(stand.members) {
				tally.Ack(home)
			}
		}
	}
	if tally.Result() == quorum.Met {
		return nil
	}
	return fmt.Errorf("%w: nothing was written: %w", api.ErrUnavailable,
		o.c.unmet("put", &o.seats, &tally, func(i int) string {
			if o.c.Reachable(o.homes[i]) {
				return "reachable"
			}
			return "unreachable"
		}))
}

// mint hands the put to this node's store, which calls Minted and Committed.
func (o *putOp) mint(r *ring.Record, self int) {
	o.local = putLeg{op: o, attempt: o.attempt, home: self}
	p := &o.put // what the store keeps in it for itself is used again
	p.Partition, p.Epoch = o.p, r.Since[o.p]
	p.Key, p.Value, p.Tombstone = o.req.Key, o.req.Value, o.req.Delete
	p.Stamp, p.NotAfter = o.c.stamps().Now(), o.notAfter
	p.Expiry = o.c.expiryOf(&o.req, p.Stamp)
	p.Blind, p.Context = len(o.req.Context) == 0, o.ctx
	p.ValueDigest = version.Digest{}
	if !o.req.Delete {
		p.ValueDigest = version.DigestOf(o.req.Value)
	}
	p.Sink = o
	o.hold()
	o.c.cfg.Store.Put(p)
}

// Minted implements store.PutSink: the record leaves for the other homes while
// its own commit is under way.
func (o *putOp) Minted(record []byte, dot version.Dot, seen version.Context, siblings int) {
	o.mu.Lock()
	o.minted = true
	o.encoded, o.dot, o.seen, o.siblings = record, dot, seen, siblings
	o.merge = mergeRequest{Epoch: o.put.Epoch, Stamp: uint64(o.put.Stamp), Record: record}
	homes, attempt := o.homes, o.local.attempt
	o.mu.Unlock()
	for i, id := range homes {
		if id != o.c.cfg.Self {
			o.first[i] = putLeg{op: o, attempt: attempt, home: i}
			o.send(&o.first[i], id, &o.merge)
		}
	}
}

// Committed implements store.PutSink: the outcome on this node's disk, of the
// attempt that minted. A ring record that came since does not count it.
func (o *putOp) Committed(err error) {
	defer o.drop()
	o.mu.Lock()
	minted := o.minted
	o.mu.Unlock()
	if minted {
		o.homeAnswered(o.local.attempt, o.local.home, fromStore(err))
		return
	}
	// Refused before it was minted: nothing was written anywhere.
	switch err := fromStore(err); {
	case errors.Is(err, store.ErrExpired): // for every home alike
		o.answer(err)
	case errors.Is(err, api.ErrFenced):
		o.slow(func() { o.startNewer() })
	case elsewhere(err):
		o.elsewhere(o.local.home, err)
	default:
		o.answer(err)
	}
}

func (o *putOp) send(l *putLeg, id ring.NodeID, m *mergeRequest) {
	o.hold()
	to, ok := o.c.peer(id)
	if !ok {
		l.Complete(nil, fmt.Errorf("%w: its address is not known", rpc.ErrUnreachable))
		return
	}
	l.id = id
	mergeRoute.Send(o.c.cfg.Transport, to, m, o.theirs, l)
}

// Complete implements rpc.Completer: another home's answer.
func (l *putLeg) Complete(reply []byte, err error) {
	if err == nil {
		if err = mergeRoute.Decode(reply, &l.resp); err == nil {
			l.op.c.stamps().Observe(version.Stamp(l.resp.Stamp))
			if w := l.op.c.cfg.Witness; w != nil && l.resp.Batches > 0 {
				w.Told(l.id, l.resp.Batches)
			}
		}
	}
	l.op.homeAnswered(l.attempt, l.home, err)
	l.op.drop()
}

// Committed implements store.MergeSink: this node's part in a later attempt.
func (l *putLeg) Committed(err error) {
	l.op.homeAnswered(l.attempt, l.home, fromStore(err))
	l.op.drop()
}

// homeAnswered counts one home's answer to a minted put.
func (o *putOp) homeAnswered(attempt, home int, err error) {
	o.mu.Lock()
	if attempt != o.attempt || o.answered {
		o.mu.Unlock()
		return
	}
	if rerouted(err) {
		// That home knows a newer ring: whatever this attempt still
		// hears is void.
		o.attempt++
		from := o.homes[home]
		o.mu.Unlock()
		o.slow(func() { o.again(from) })
		return
	}
	if err == nil {
		o.tally.Ack(home)
	} else {
		o.errs[home] = err
		if l := o.standIn(home, err); l != nil {
			defer o.sendStandIn(l)
		}
		if o.stand == nil || home >= o.slots || !o.stand.asked[home] {
			o.tally.Fail(home)
		}
	}
	o.counted()
}

// counted unlocks o.mu and ends the put if its outcome is certain.
func (o *putOp) counted() {
	result := o.tally.Result()
	o.mu.Unlock()
	switch result {
	case quorum.Met:
		o.answer(nil)
	case quorum.Unmet:
		o.answer(o.unknown())
	}
}

// unknown says what became of a minted put without enough acks.
func (o *putOp) unknown() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Errorf("%w: %w", api.ErrUnknown, o.c.unmet("put", &o.seats, &o.tally, func(i int) string {
		switch {
		case !o.tally.Acked(i):
			return reason(o.errs[i])
		case o.stood(i):
			return o.c.nameOf(o.stand.by[i]) + " has acknowledged for it"
		}
		return "acknowledged"
	}))
}

// answer ends the put for its caller, once.
func (o *putOp) answer(err error) {
	o.mu.Lock()
	if o.answered {
		o.mu.Unlock()
		return
	}
	o.answered = true
	if err == nil {
		o.resp = o.response()
	}
	o.mu.Unlock()
	o.c.sweep.remove(&o.in)
	o.sink.PutDone(&o.resp, err)
	o.drop()
}

// response is made while o.mu is held.
func (o *putOp) response() api.PutResponse {
	receipt := api.Receipt{Epoch: o.ring.Epoch, Coordinator: o.c.cfg.Self, Siblings: o.siblings}
	receipt.Answered = make([]ring.NodeID, 0, len(o.homes))
	tally := o.none
	for i, id := range o.homes {
		if o.tally.Acked(i) && !o.stood(i) {
			receipt.Answered = append(receipt.Answered, id)
			tally.Ack(i)
		}
	}
	countsOf(&receipt, &o.seats, &tally)
	if tally.Result() != quorum.Met { // only stand-ins make up for that
		receipt.Sloppy = true
		receipt.Answered = o.stand.appendCounted(receipt.Answered)
	}
	return api.PutResponse{
		Context: o.c.token(o.ring, o.req.Key, o.covered()),
		Receipt: receipt,
		Stamp:   uint64(o.c.stamps().Now()),
	}
}

// stood says that a stand-in has acknowledged for a home; o.mu is held.
func (o *putOp) stood(home int) bool {
	return o.stand != nil && home < o.slots && !o.stand.by[home].IsZero()
}

// covered is the context for the writer's next put. It never covers a sibling
// that the writer has not seen: a context counts up to a number for each actor,
// so that the own dot is left out while a sibling of the same actor stands
// between it and what was seen.
func (o *putOp) covered() version.Context {
	if o.siblings <= 1 {
		return o.seen
	}
	record, err := version.ParseHeader(o.encoded)
	if err != nil {
		panic("kv: our own record does not parse: " + err.Error())
	}
	for i := range record.Siblings {
		d := record.Siblings[i].Dot
		if d.Actor == o.dot.Actor && d != o.dot && !o.ctx.Covers(d) {
			return o.ctx
		}
	}
	return o.ctx.With(o.dot)
}

func (o *putOp) hold() { o.refs.Add(1) }

func (o *putOp) drop() {
	if o.refs.Add(-1) == 0 {
		put := o.put
		put.Key, put.Value, put.Context, put.Sink = nil, nil, nil, nil
		*o = putOp{put: put}
		putOps.Put(o)
	}
}

// slow runs a step that waits, on a goroutine of its own.
func (o *putOp) slow(step func()) {
	o.hold()
	if !o.c.goroutine(func() { defer o.drop(); step() }) {
		o.drop()
	}
}

// tick implements ticker.
func (o *putOp) tick(now time.Time) {
	if !now.Before(o.own) {
		o.stop()
	}
}

// stop implements ticker. Whether a home mints it yet, or did, is not known.
func (o *putOp) stop() {
	o.mu.Lock()
	answered := o.answered
	o.mu.Unlock()
	if !answered {
		o.answer(o.unknown())
	}
}
