package kv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// Read repair. Copies that differ are fetched in full and merged, and the merge
// is written back to those of the R homes that lack something before the read
// is answered: else a later read at quorum could show less. The other homes get
// it afterwards. Such a merge counts for nothing, and needs no fence.

// errRepaired marks a copy that this read has mended.
var errRepaired = errors.New("repaired")

// repair ends a read whose R homes disagree, or of which none gave its record.
func (o *getOp) repair() {
	ctx, cancel := context.WithDeadline(o.c.ctx, o.theirs)
	defer cancel()
	o.mu.Lock()
	copies := o.copies // settling: nobody changes them
	homes, p, epoch, attempt := o.homes, o.p, o.ring.Epoch, o.attempt
	o.mu.Unlock()

	merged := version.Record{Key: o.key}
	records := make([]version.Record, len(homes))
	failedHome, err := -1, error(nil)
	for i := range homes {
		if copies[i].state != answered {
			continue
		}
		if !copies[i].full {
			copies[i].record, err = o.c.readFull(ctx, homes[i], p, epoch, o.key)
		}
		if err == nil {
			records[i], err = parseCopy(o.key, copies[i].record)
		}
		if err != nil {
			failedHome = i
			break
		}
		merged = version.Merge(merged, records[i])
	}
	if err == nil {
		failedHome, err = o.writeBack(ctx, &copies, records, merged)
	}
	if err != nil {
		o.without(attempt, failedHome, err)
		return
	}
	o.mu.Lock()
	o.copies = copies
	o.mu.Unlock()
	o.answer(&merged, nil)
	o.tellOthers(copies, merged)
}

// writeBack sends the merge to those of the R that lack something, and waits
// for them. It names the home that failed.
func (o *getOp) writeBack(ctx context.Context, copies *[ring.ReplicasMax]homeCopy, records []version.Record, merged version.Record) (int, error) {
	if len(merged.Seen) == 0 {
		return 0, nil
	}
	encoded := merged.Append(make([]byte, 0, merged.Size()))
	type outcome struct {
		home int
		err  error
	}
	outcomes := make(chan outcome, len(o.homes))
	sent := 0
	for i, id := range o.homes {
		if copies[i].state != answered || records[i].Dominates(&merged) {
			continue
		}
		sent++
		o.c.mergeTo(id, o.p, merged, encoded, o.theirs, func(err error) { outcomes <- outcome{i, err} })
		copies[i].err = errRepaired
	}
	for range sent {
		select {
		case r := <-outcomes:
			if r.err != nil {
				return r.home, r.err
			}
		case <-ctx.Done():
			return -1, fmt.Errorf("writing the merge back: %w", ctx.Err())
		}
	}
	return 0, nil
}

// without gives up a home that failed during the repair and lets another one
// take its place, from the start: what the others have may have changed.
func (o *getOp) without(attempt, home int, err error) {
	o.mu.Lock()
	if attempt != o.attempt || o.answered {
		o.mu.Unlock()
		return
	}
	if rerouted(err) && home >= 0 {
		from, epoch := o.homes[home], o.ring.Epoch
		o.mu.Unlock()
		if _, err := o.c.newer(from, epoch, o.own); err != nil {
			o.answer(nil, fmt.Errorf("%w: %w", api.ErrUnavailable, err))
			return
		}
		o.start()
		return
	}
	if home < 0 { // out of time
		o.mu.Unlock()
		o.answer(nil, o.unavailable())
		return
	}
	o.got--
	o.copies[home] = homeCopy{state: failed, err: err}
	if o.got >= o.need { // another one has answered meanwhile
		o.mu.Unlock()
		o.repair()
		return
	}
	more := o.asked < len(o.homes) || o.waiting()
	o.settling = false
	o.reading = o.hasFull()
	o.mu.Unlock()
	if !more {
		o.answer(nil, o.unavailable())
		return
	}
	o.ask(1)
}

// tellOthers sends the merge to the homes that did not take part.
func (o *getOp) tellOthers(copies [ring.ReplicasMax]homeCopy, merged version.Record) {
	if len(merged.Seen) == 0 {
		return
	}
	encoded := merged.Append(make([]byte, 0, merged.Size()))
	deadline := time.Now().Add(timeoutDefault)
	for i, id := range o.homes {
		if copies[i].state != answered && o.c.Reachable(id) {
			o.c.mergeTo(id, o.p, merged, encoded, deadline, func(error) {})
		}
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

// fullRead waits for this node's own copy.
type fullRead chan homeCopy

// Read implements store.ReadSink.
func (f fullRead) Read(record []byte, err error) { f <- homeCopy{record: record, err: err} }

// readFull fetches one home's record.
func (c *Coordinator) readFull(ctx context.Context, id ring.NodeID, p ring.Partition, epoch uint64, key []byte) ([]byte, error) {
	if id == c.cfg.Self {
		f := make(fullRead, 1)
		c.cfg.Store.Read(p, key, f)
		select {
		case got := <-f:
			return got.record, c.vouch(p, epoch, got.err)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	to, ok := c.peer(id)
	if !ok {
		return nil, rpc.ErrUnreachable
	}
	resp, err := readRoute.Call(ctx, c.cfg.Transport, to, &readRequest{Epoch: epoch, Key: key, Full: true, Stamp: uint64(c.stamps().Now())})
	if err != nil {
		return nil, err
	}
	return resp.Record, nil
}

// mergeSink is a function as a store.MergeSink and rpc.Completer.
type mergeSink func(error)

// Committed implements store.MergeSink.
func (f mergeSink) Committed(err error) { f(fromStore(err)) }

// Complete implements rpc.Completer.
func (f mergeSink) Complete(_ []byte, err error) { f(err) }

// mergeTo sends a record to a home as a repair. done is called once and must
// not block.
func (c *Coordinator) mergeTo(id ring.NodeID, p ring.Partition, record version.Record, encoded []byte, deadline time.Time, done func(error)) {
	if id == c.cfg.Self {
		if _, _, err := c.homeOf(record.Key); err != nil { // no more, by a record that came since
			done(err)
			return
		}
		c.cfg.Store.Merge(&store.Merge{Partition: p, Record: record, Encoded: encoded, Sink: mergeSink(done)})
		return
	}
	to, ok := c.peer(id)
	if !ok {
		done(rpc.ErrUnreachable)
		return
	}
	mergeRoute.Send(c.cfg.Transport, to, &mergeRequest{Stamp: uint64(c.stamps().Now()), Record: encoded}, deadline, mergeSink(done))
}
