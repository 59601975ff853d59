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
	"github.com/kithdb/kith/store/version"
)

// hedgeMin keeps hedging from multiplying fast reads.
const hedgeMin = 10 * time.Millisecond

// GetSink takes the outcome of a get.
type GetSink interface {
	// GetDone is called once, from any goroutine, and must not block. The
	// response is valid during the call.
	GetDone(resp *api.GetResponse, err error)
}

// getCall answers a get that came by rpc.
type getCall struct{ call *rpc.Call }

// GetDone implements GetSink.
func (g getCall) GetDone(resp *api.GetResponse, err error) {
	if err != nil {
		g.call.Fail(err)
		return
	}
	g.call.Reply(resp)
}

// copyState is what is known of one home's copy.
type copyState uint8

const (
	unasked copyState = iota
	asked
	answered
	failed
	moving // refused, because it has yet to pull what a move brings it
)

// homeCopy is one home's copy of the key, as far as this read knows it.
type homeCopy struct {
	state  copyState
	full   bool // record is the copy, not just its digest
	leaf   version.Digest
	record []byte
	stamp  version.Stamp // of its answer, if this node's clock has taken it
	err    error
}

// getOp is one read under way: one full copy and digests from others, until R
// homes have answered. Equal: done. Different: see repair.go.
type getOp struct {
	c    *Coordinator
	refs atomic.Int32
	in   swept

	key    []byte
	r      api.Level
	zone   string // as the request names it
	sink   GetSink
	own    time.Time
	theirs time.Time

	mu       sync.Mutex // guards all below
	answered bool
	attempt  int  // answers to an older one don't count
	reroutes int  // see reroutesMax
	waits    bool // for a newer record, between two attempts: nobody is asked
	ring     *ring.Record
	p        ring.Partition
	seats    quorum.Seats
	homes    []ring.NodeID          // by seat: the homes by slot, then the target of a move
	none     quorum.Tally           // of no answers
	tally    quorum.Tally           // of answers
	callers  string                 // the caller's zone, if it matters
	order    [quorum.SeatsMax]uint8 // those that answer reads, preferred first
	slots    int                    // how many they are
	copies   [quorum.SeatsMax]homeCopy
	latest   version.Stamp // of the answers
	reading  bool          // a full copy was asked for
	settling bool          // R have answered; the outcome is being made
	hedgeAt  time.Time

	legs [quorum.SeatsMax]getLeg
	req  *[2]readRequest // digest, full; of the attempt
	reqs [2]readRequest  // of the first attempt
	resp api.GetResponse
}

// getLeg is one home's part in an attempt.
type getLeg struct {
	op      *getOp
	attempt int
	home    int
	full    bool
	hold    bool // see held.go
	held    bool // it was held back already
	p       ring.Partition
	epoch   uint64
	resp    readResponse
}

var getOps = sync.Pool{New: func() any { return new(getOp) }}

// Get reads a key. The request's bytes must not be changed any more: they may be
// read even after sink was called.
func (c *Coordinator) Get(req *api.GetRequest, deadline time.Time, sink GetSink) {
	c.served.Add(1)
	o := getOps.Get().(*getOp)
	o.c, o.key, o.r, o.zone, o.sink = c, req.Key, req.R, req.Zone, sink
	o.refs.Store(2) // until it is answered, and until start has returned
	defer o.drop()
	o.theirs, o.own = c.deadlines(deadline)
	if err := c.checkKey(req.Key); err != nil {
		o.sink.GetDone(nil, err)
		o.drop()
		return
	}
	c.stamps().Observe(version.Stamp(req.Stamp))
	if !c.sweep.add(&o.in, o) {
		o.answer(nil, errClosed)
		return
	}
	o.start()
}

// again begins anew, by the newest ring record and a later stamp.
func (o *getOp) again() {
	o.mu.Lock()
	o.reroutes++
	most := o.reroutes > reroutesMax
	o.mu.Unlock()
	if most {
		o.answer(nil, fmt.Errorf("%w: %w", api.ErrUnavailable, errReroutes))
		return
	}
	o.start()
}

// reroute begins anew with the ring record, newer than of an epoch, that a home knows.
func (o *getOp) reroute(from ring.NodeID, epoch uint64) {
	if _, err := o.c.newer(from, epoch, o.own); err != nil {
		o.answer(nil, fmt.Errorf("%w: %w", api.ErrUnavailable, err))
		return
	}
	o.again()
}

// void ends an attempt: whatever it still hears counts for nothing. reroute must follow;
// o.mu is held.
func (o *getOp) void() {
	o.attempt++
	o.waits = true
}

// start begins an attempt by the newest ring record.
func (o *getOp) start() {
	r, err := o.c.record()
	if err != nil {
		o.answer(nil, err)
		return
	}
	if err := checkLevel("R", o.r, o.zone, r.Replicas); err != nil {
		o.answer(nil, err)
		return
	}
	o.mu.Lock()
	if o.answered {
		o.mu.Unlock()
		return
	}
	o.attempt++
	o.waits = false
	o.ring, o.p = r, r.PartitionOf(o.key)
	o.seats = quorum.SeatsOf(r, o.p)
	o.homes, o.slots = o.seats.Members(), o.seats.Readers()
	if o.none, o.callers, err = o.c.reads(&o.seats, r, o.r, o.zone); err != nil {
		o.mu.Unlock()
		o.answer(nil, err)
		return
	}
	o.tally = o.none
	o.copies = [quorum.SeatsMax]homeCopy{}
	o.reading, o.settling, o.latest = false, false, 0
	o.prefer()
	stamp := uint64(o.c.stamps().Now())
	o.req = &o.reqs
	if o.attempt > 1 {
		o.req = new([2]readRequest) // the older ones may still be on their way out
	}
	o.req[0] = readRequest{Epoch: r.Since[o.p], Key: o.key, Stamp: stamp}
	o.req[1] = readRequest{Epoch: r.Since[o.p], Key: o.key, Stamp: stamp, Full: true}
	o.mu.Unlock()
	o.ask(false)
}

// Complete implements rpc.Completer: another home's copy.
func (l *getLeg) Complete(reply []byte, err error) {
	defer l.op.drop()
	m := &l.resp
	if err == nil {
		err = readRoute.Decode(reply, m)
	}
	var stamp version.Stamp
	if err == nil {
		if _, ok := l.op.c.stamps().Observe(version.Stamp(m.Stamp)); ok {
			stamp = version.Stamp(m.Stamp)
		}
		if l.full && version.LeafOf(m.Record) != m.Leaf {
			err = fmt.Errorf("%w: digest and record disagree", api.ErrStorage)
		}
	}
	l.op.homeAnswered(l, homeCopy{full: l.full, leaf: m.Leaf, record: m.Record, stamp: stamp, err: err})
}

// homeAnswered takes one home's copy.
func (o *getOp) homeAnswered(l *getLeg, got homeCopy) {
	o.mu.Lock()
	if l.attempt != o.attempt || o.answered {
		o.mu.Unlock()
		return
	}
	got.state = answered
	if got.err != nil {
		got.state = failed
	}
	if o.settling { // too late to matter, unless another home fails yet
		o.copies[l.home] = got
		o.mu.Unlock()
		return
	}
	if rerouted(got.err) {
		o.void()
		from, epoch := o.homes[l.home], o.ring.Epoch
		o.mu.Unlock()
		o.slow(func() { o.reroute(from, epoch) })
		return
	}
	if got.state == failed && !l.hold && errors.Is(got.err, api.ErrMoving) {
		got.state = moving // it will answer soon: it is asked again if nobody else is left
	}
	o.copies[l.home] = got
	switch got.state {
	case answered:
		o.tally.Ack(l.home)
		o.latest = max(o.latest, got.stamp)
	case failed:
		o.tally.Fail(l.home)
	}
	if l.full && got.state != answered {
		o.reading = false // the next one is asked for all
	}
	enough := o.tally.Result() == quorum.Met
	o.settling = enough
	none := !enough && !o.waiting() && o.next() < 0
	o.mu.Unlock()
	switch {
	case enough:
		o.settle()
	case none:
		o.answer(nil, o.unavailable())
	case got.state != answered:
		o.ask(true)
	}
}

// waiting says that a home was asked that has not answered; o.mu is held.
func (o *getOp) waiting() bool {
	for i := range o.homes {
		if o.copies[i].state == asked {
			return true
		}
	}
	return false
}

// settle makes the outcome of R answers.
func (o *getOp) settle() {
	encoded, ok := o.agreed()
	if !ok {
		o.slow(o.repair)
		return
	}
	record, err := parseCopy(o.key, encoded)
	if err != nil {
		o.answer(nil, err)
		return
	}
	if o.expiring(&record) {
		o.again()
		return
	}
	o.answer(&record, nil)
}

// agreed returns the record that all who answered hold; nil if the key was never
// written, false if they differ or none gave its record.
func (o *getOp) agreed() ([]byte, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var first, full *homeCopy
	for i := range o.homes {
		h := &o.copies[i]
		if h.state != answered {
			continue
		}
		if first == nil {
			first = h
		}
		if h.leaf != first.leaf {
			return nil, false
		}
		if h.full {
			full = h
		}
	}
	if full == nil {
		return nil, false
	}
	return full.record, true
}

// unavailable says why too few homes have answered.
func (o *getOp) unavailable() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Errorf("%w: %w", api.ErrUnavailable, o.c.unmet("get", &o.seats, &o.tally, func(i int) string {
		switch o.copies[i].state {
		case unasked:
			if !o.seats.Reads(i) {
				return "takes writes only, while a slot moves"
			}
		case answered:
			return "answered"
		case failed, moving:
			return reason(o.copies[i].err)
		}
		return reason(nil)
	}))
}

// answer ends the read for its caller, once.
func (o *getOp) answer(record *version.Record, err error) {
	o.mu.Lock()
	if o.answered {
		o.mu.Unlock()
		return
	}
	o.answered = true
	resp := &o.resp
	if err == nil {
		o.c.respond(resp, o.ring, record, version.Stamp(o.req[0].Stamp))
		resp.Receipt.Answered = make([]ring.NodeID, 0, len(o.homes))
		tally := o.none
		for i, id := range o.homes {
			if o.copies[i].state == answered {
				resp.Receipt.Answered = append(resp.Receipt.Answered, id)
				tally.Ack(i)
			}
			if o.copies[i].err == errRepaired {
				resp.Receipt.Repaired = true
			}
		}
		countsOf(&resp.Receipt, &o.seats, &tally)
	}
	o.mu.Unlock()
	o.c.sweep.remove(&o.in)
	o.sink.GetDone(resp, err)
	o.drop()
}

// respond turns a record into what a reader gets who has asked R homes at a stamp.
func (c *Coordinator) respond(resp *api.GetResponse, r *ring.Record, record *version.Record, asked version.Stamp) {
	now := uint64(0) // read only where something expires
	if n := len(record.Siblings); n > 0 {
		resp.Values = make([]api.Value, n)
	}
	live := 0
	for i := range record.Siblings {
		s := &record.Siblings[i]
		if s.Expiry != 0 && now == 0 {
			now = c.readTimeOf(asked)
		}
		resp.Values[i] = api.Value{Data: s.Value, Tombstone: s.Tombstone || s.Expired(now), Stamp: uint64(s.Stamp), Expiry: s.Expiry}
		if resp.Values[i].Tombstone {
			resp.Values[i].Data = nil
		} else {
			live++
		}
	}
	if w := record.Winner(); w >= 0 {
		resp.Winner = w
		resp.Found = !resp.Values[w].Tombstone
	}
	resp.Context = c.token(r, record.Key, record.Seen)
	// The latest reading, not another one: where one batch ends many reads, the
	// order of their answers says nothing.
	resp.Stamp = uint64(c.stamps().Last())
	resp.Receipt = api.Receipt{Epoch: r.Epoch, Coordinator: c.cfg.Self, Siblings: live}
}

func (o *getOp) hold() { o.refs.Add(1) }

func (o *getOp) drop() {
	if o.refs.Add(-1) == 0 {
		*o = getOp{}
		getOps.Put(o)
	}
}

// slow runs a step that waits, on a goroutine of its own.
func (o *getOp) slow(step func()) {
	o.hold()
	if !o.c.goroutine(func() { defer o.drop(); step() }) {
		o.drop()
	}
}

// stop implements ticker.
func (o *getOp) stop() { o.answer(nil, errClosed) }

// tick implements ticker: a late home is hedged by another one.
func (o *getOp) tick(now time.Time) {
	o.mu.Lock()
	late := !o.answered && !now.Before(o.own)
	hedge := !o.answered && !o.settling && !o.waits && now.After(o.hedgeAt)
	if hedge {
		o.hedgeAt = now.Add(hedgeMin)
		// The one that was asked for all may be the late one.
		o.reading = o.reading && o.hasFull()
	}
	o.mu.Unlock()
	switch {
	case late:
		o.answer(nil, o.unavailable())
	case hedge:
		o.ask(true)
	}
}

// hasFull says that a full copy has arrived; o.mu is held.
func (o *getOp) hasFull() bool {
	for i := range o.homes {
		if o.copies[i].state == answered && o.copies[i].full {
			return true
		}
	}
	return false
}
