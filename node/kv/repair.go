package kv

import (
	"errors"
	"fmt"
	"time"

	"github.com/kithdb/kith/quorum"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// Read repair. Copies that differ are fetched in full and merged, and the merge
// is written back until R homes have it on disk; only then is the read answered:
// else a later read at quorum could show less. Any R homes will do: one that hangs
// is given up for another one, which need not have been read. While a slot moves, it
// counts as a write does, at both ends, and it is fenced as one, because a later
// read may ask the other end. The others get the merge afterwards: that counts for
// nothing, and needs no fence.
//
// What a repair sends carries the latest stamp, and makes none: it mints nothing, the
// read's own stamp is no later, and the order of repairs that one answer begins says
// nothing.

// errRepaired marks a copy that this read has mended.
var errRepaired = errors.New("repaired")

// tellBytesMax bounds the merges under way to homes that no read waits for. Above
// it they are left to catch-up.
const tellBytesMax = 8 << 20

// mending is the repair of one read whose R homes disagree, or of which none gave
// its record.
type mending struct {
	o       *getOp
	attempt int
	ring    *ring.Record
	p       ring.Partition
	homes   []ring.NodeID
	order   [quorum.SeatsMax]uint8 // all of homes, those that answer reads first
	slots   int                    // how many do
	seats   quorum.Seats

	copies  [quorum.SeatsMax]homeCopy // as they were when it began
	read    [quorum.SeatsMax]bool     // records has it
	records [quorum.SeatsMax]version.Record
	merged  version.Record
	holds   [quorum.SeatsMax]bool // the merge is on its disk
	written [quorum.SeatsMax]bool // the merge was sent to it
	errs    [quorum.SeatsMax]error

	shown, kept quorum.Tally // of no answers: of copies, and of the merge written back
}

// mended is what came back of one home.
type mended struct {
	home   int
	record []byte
	stamp  version.Stamp // of a copy, if this node's clock has taken it
	err    error
}

// repair ends the read.
func (o *getOp) repair() {
	o.mu.Lock()
	m := &mending{o: o, attempt: o.attempt, ring: o.ring, p: o.p, homes: o.homes, order: o.order, slots: o.slots, seats: o.seats, shown: o.none, copies: o.copies}
	zone := o.callers
	o.mu.Unlock()
	if err := m.tallies(zone); err != nil {
		o.answer(nil, err)
		return
	}
	by, err := m.gather()
	if err == nil {
		by, err = m.spread()
	}
	switch {
	case err == nil:
		m.answer()
	case rerouted(err) && by >= 0:
		m.reroute(m.homes[by])
	default:
		o.answer(nil, err)
	}
}

// tallies makes what the merge of the copies is counted by.
func (m *mending) tallies(zone string) (err error) {
	last := m.slots
	for i := range m.homes {
		if !m.seats.Reads(i) {
			m.order[last] = uint8(i)
			last++
		}
	}
	if m.kept, err = m.seats.Write(uint8(m.o.r), zone); err != nil {
		return fmt.Errorf("%w: R: %w", api.ErrBadRequest, err)
	}
	return nil
}

// gather fetches the full copies of R homes and merges them. With an error that
// another ring record explains it names the home that knows it.
func (m *mending) gather() (int, error) {
	for i := range m.homes {
		if c := &m.copies[i]; c.state == answered && c.full {
			if err := m.take(i, c.record); err != nil {
				m.errs[i] = err
			}
		}
	}
	first := func(i int) bool { return m.copies[i].state == answered && !m.copies[i].full }
	by, err := m.collect(m.shown, m.slots, &m.read, first, func(i int, done func(mended)) {
		m.o.c.readFull(m.homes[i], m.p, m.ring.Since[m.p], m.o.key, m.o.theirs, func(b []byte, stamp version.Stamp, err error) {
			done(mended{i, b, stamp, err})
		})
	}, func(a mended) error {
		m.o.mu.Lock()
		m.o.latest = max(m.o.latest, a.stamp)
		m.o.mu.Unlock()
		return m.take(a.home, a.record)
	})
	if err != nil {
		return by, err
	}
	m.merged = version.Record{Key: m.o.key}
	for i := range m.homes {
		if m.read[i] {
			m.merged = version.Merge(m.merged, m.records[i])
		}
	}
	return -1, nil
}

// take reads a home's full copy.
func (m *mending) take(home int, b []byte) (err error) {
	if m.records[home], err = parseCopy(m.o.key, b); err == nil {
		m.read[home] = true
	}
	return err
}

// spread brings the merge to R homes, first of all to those that were read.
func (m *mending) spread() (int, error) {
	for i := range m.homes {
		m.holds[i] = m.read[i] && m.records[i].Dominates(&m.merged)
	}
	encoded := m.merged.Append(make([]byte, 0, m.merged.Size()))
	return m.collect(m.kept, len(m.homes), &m.holds, func(i int) bool { return m.read[i] }, func(i int, done func(mended)) {
		m.written[i] = true
		m.o.c.mergeTo(m.homes[i], m.p, m.ring.Since[m.p], m.merged, encoded, m.o.theirs, func(err error) { done(mended{home: i, err: err}) })
	}, func(a mended) error { m.holds[a.home] = true; return nil })
}

// collect sends to the first homes, and to further ones of so many in the read's order
// of preference where one fails or is late, until as many have what has counts as
// the tally asks for.
func (m *mending) collect(tally quorum.Tally, among int, has *[quorum.SeatsMax]bool, first func(int) bool, send func(int, func(mended)), take func(mended) error) (int, error) {
	answers := make(chan mended, len(m.homes)) // each home answers once
	var sent [quorum.SeatsMax]bool
	waiting := 0
	begin := func(i int) {
		sent[i] = true
		waiting++
		send(i, func(a mended) { answers <- a })
	}
	next := func(expected *[quorum.SeatsMax]bool) bool {
		i := m.next(m.counting(tally, has, expected), among, func(i int) bool { return !sent[i] && !has[i] && m.errs[i] == nil })
		if i >= 0 {
			begin(i)
		}
		return i >= 0
	}
	for i := range m.homes {
		if first(i) && !has[i] && m.errs[i] == nil {
			begin(i)
		}
	}
	late := time.NewTimer(m.patience(&sent, has))
	defer late.Stop()
	over := time.NewTimer(time.Until(m.o.theirs))
	defer over.Stop()
	for {
		for next(&sent) { // who failed has a successor at once
		}
		if enough := m.counting(tally, has, nil); enough.Result() == quorum.Met {
			return -1, nil
		}
		if waiting == 0 {
			return -1, m.unavailable(has)
		}
		var a mended
		select {
		case a = <-answers: // before whatever else has happened at the same time
		default:
			select {
			case a = <-answers:
			case <-late.C:
				if !time.Now().Before(m.o.theirs) {
					return -1, m.unavailable(has) // the time is over as well
				}
				if next(nil) { // else there is nobody left to try
					late.Reset(m.patience(&sent, has))
				}
				continue
			case <-over.C:
				return -1, m.unavailable(has)
			case <-m.o.c.ctx.Done():
				return -1, errClosed
			}
		}
		waiting--
		if a.err == nil {
			a.err = take(a)
		}
		if m.errs[a.home] = a.err; a.err != nil && rerouted(a.err) {
			return a.home, a.err
		}
	}
}

// patience is how long to wait for the homes that were sent to before another one
// is tried: as long as they usually take, and a third of what is left at most.
func (m *mending) patience(sent, has *[quorum.SeatsMax]bool) time.Duration {
	d := hedgeMin
	for i, id := range m.homes {
		if sent[i] && !has[i] && id != m.o.c.cfg.Self {
			_, p95 := m.o.c.cfg.Circuits.Latency(id)
			d = max(d, p95)
		}
	}
	return max(0, min(d, time.Until(m.o.theirs)/3))
}

// next is the seat to try: the first in the order of preference that is free and that
// the tally wants, who failed before coming last; -1 if there is none.
func (m *mending) next(tally quorum.Tally, among int, free func(int) bool) int {
	for _, lost := range []bool{false, true} {
		for _, i := range m.order[:among] {
			state := m.copies[i].state
			if free(int(i)) && tally.Wants(int(i)) && (state == failed || state == moving) == lost {
				return int(i)
			}
		}
	}
	return -1
}

// counting is the tally with those who have what counts, and those who were sent to
// and have not failed.
func (m *mending) counting(tally quorum.Tally, has, sent *[quorum.SeatsMax]bool) quorum.Tally {
	for i := range m.homes {
		if has[i] || sent != nil && sent[i] && m.errs[i] == nil {
			tally.Ack(i)
		}
	}
	return tally
}

// unavailable says why too few homes have what is collected.
func (m *mending) unavailable(has *[quorum.SeatsMax]bool) error {
	what, tally := "shows its copy", m.counting(m.shown, has, nil)
	if has == &m.holds {
		what, tally = "has the merge of the copies", m.counting(m.kept, has, nil)
	}
	return fmt.Errorf("%w: the homes differ: %w", api.ErrUnavailable, m.o.c.unmet("get", &m.seats, &tally, func(i int) string {
		switch {
		case has[i]:
			return what
		case m.errs[i] == nil && m.copies[i].state == failed:
			return reason(m.copies[i].err)
		}
		return reason(m.errs[i])
	}))
}

// reroute begins anew with the ring record that a home knows.
func (m *mending) reroute(from ring.NodeID) {
	o := m.o
	o.mu.Lock()
	if m.attempt != o.attempt || o.answered {
		o.mu.Unlock()
		return
	}
	o.settling = false
	o.void()
	o.mu.Unlock()
	o.reroute(from, m.ring.Epoch)
}

// answer ends the read with the merge, and tells the homes that had no part.
func (m *mending) answer() {
	o := m.o
	o.mu.Lock()
	if m.attempt != o.attempt {
		o.mu.Unlock()
		return
	}
	for i := range m.homes {
		switch c := &o.copies[i]; {
		case m.holds[i]:
			c.state, c.err = answered, nil
			if m.written[i] {
				c.err = errRepaired
			}
		case c.state == answered: // it was given up for another one
			c.state = failed
		}
	}
	o.mu.Unlock()
	if o.expiring(&m.merged) {
		o.again() // the homes are equal by now
		return
	}
	o.answer(&m.merged, nil)
	m.tellOthers()
}

// tellOthers sends the merge to the homes that neither have it nor were sent it.
func (m *mending) tellOthers() {
	c := m.o.c
	if len(m.merged.Seen) == 0 {
		return
	}
	encoded := m.merged.Append(make([]byte, 0, m.merged.Size()))
	size := int64(len(encoded))
	deadline := time.Now().Add(timeoutDefault)
	for i, id := range m.homes {
		if m.holds[i] || m.written[i] || !c.Reachable(id) {
			continue
		}
		if c.telling.Add(size) > tellBytesMax {
			c.telling.Add(-size)
			return
		}
		c.mergeTo(id, m.p, 0, m.merged, encoded, deadline, func(error) { c.telling.Add(-size) })
	}
}

// parseCopy reads a home's record; nil is one never written.
func parseCopy(key, b []byte) (version.Record, error) {
	if b == nil {
		return version.Record{Key: key}, nil
	}
	r, err := version.Parse(b)
	if err == nil && string(r.Key) != string(key) {
		err = fmt.Errorf("%w: it is of another key", version.ErrCorrupt)
	}
	if err != nil {
		return version.Record{}, fmt.Errorf("%w: %w", api.ErrStorage, err)
	}
	return r, nil
}

// fullRead is a function as a store.ReadSink.
type fullRead func(record []byte, err error)

// Read implements store.ReadSink.
func (f fullRead) Read(record []byte, err error) { f(record, err) }

// readFull fetches one home's record and the stamp of its answer. done is called
// once and must not block.
func (c *Coordinator) readFull(id ring.NodeID, p ring.Partition, epoch uint64, key []byte, deadline time.Time, done func([]byte, version.Stamp, error)) {
	if id == c.cfg.Self {
		c.readOwn(p, key, fullRead(func(record []byte, err error) { done(record, 0, c.vouch(p, epoch, err)) }))
		return
	}
	to, ok := c.peer(id)
	if !ok {
		done(nil, 0, rpc.ErrUnreachable)
		return
	}
	req := &readRequest{Epoch: epoch, Key: key, Full: true, Stamp: uint64(c.stamps().Last())}
	readRoute.Send(c.cfg.Transport, to, req, deadline, rpc.CompleteFunc(func(reply []byte, err error) {
		var resp readResponse
		if err == nil {
			err = readRoute.Decode(reply, &resp)
		}
		stamp := version.Stamp(resp.Stamp)
		if _, ok := c.stamps().Observe(stamp); !ok {
			stamp = 0
		}
		done(resp.Record, stamp, err)
	}))
}

// mergeSink is a function as a store.MergeSink and rpc.Completer.
type mergeSink func(error)

// Committed implements store.MergeSink.
func (f mergeSink) Committed(err error) { f(fromStore(err)) }

// Complete implements rpc.Completer.
func (f mergeSink) Complete(_ []byte, err error) { f(err) }

// mergeTo sends a record to a home as a repair; it is fenced unless the epoch is 0.
// done is called once and must not block.
func (c *Coordinator) mergeTo(id ring.NodeID, p ring.Partition, epoch uint64, record version.Record, encoded []byte, deadline time.Time, done func(error)) {
	if id == c.cfg.Self {
		r, _, err := c.homeOf(record.Key)
		if err != nil { // no more, by a record that came since
			done(err)
			return
		}
		if epoch == 0 {
			epoch = r.Epoch // as in handleMerge
		}
		c.cfg.Store.Merge(&store.Merge{Partition: p, Epoch: epoch, Record: record, Encoded: encoded, Sink: mergeSink(done)})
		return
	}
	to, ok := c.peer(id)
	if !ok {
		done(rpc.ErrUnreachable)
		return
	}
	mergeRoute.Send(c.cfg.Transport, to, &mergeRequest{Epoch: epoch, Stamp: uint64(c.stamps().Last()), Record: encoded}, deadline, mergeSink(done))
}
