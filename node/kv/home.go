package kv

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// What a home does for coordinators. Nothing here calls another node, except to
// learn a ring record that a request names and this node lacks.

// homeMerge is one merge on its way through the store.
type homeMerge struct {
	c    *Coordinator
	call *rpc.Call
	m    store.Merge
	came time.Time // the zero time until it was refused
	resp mergeResponse
}

var homeMerges = sync.Pool{New: func() any { return new(homeMerge) }}

func (c *Coordinator) handleMerge(call *rpc.Call, req *mergeRequest) {
	c.served.Add(1)
	record, err := version.Parse(req.Record)
	if err != nil {
		call.Fail(fmt.Errorf("%w: %w", api.ErrBadRequest, err))
		return
	}
	c.observe(call.From(), req.Stamp)
	if c.behind(req.Epoch) {
		c.learn(call, req.Epoch, func() { c.handleMerge(call, req) })
		return
	}
	r, p, err := c.homeOf(record.Key)
	if err != nil {
		call.Fail(err)
		return
	}
	if err := fenced(r, p, req.Epoch); err != nil && req.Epoch != 0 {
		call.Fail(err)
		return
	}
	epoch := req.Epoch
	if epoch == 0 {
		// It counts for nothing, and this node holds the partition by the record that
		// was looked at. A newer fence says that it may be dropped meanwhile: what came
		// behind that would stay for ever.
		epoch = r.Epoch
	}
	h := homeMerges.Get().(*homeMerge)
	h.c, h.call = c, call
	h.m.Partition, h.m.Epoch, h.m.Record, h.m.Encoded, h.m.Sink = p, epoch, record, req.Record, h
	c.cfg.Store.Merge(&h.m)
}

// Committed implements store.MergeSink.
func (h *homeMerge) Committed(err error) {
	if errors.Is(err, store.ErrDropping) {
		if h.came.IsZero() {
			h.came = time.Now()
		}
		if h.c.dropFirst(h.came, err, func() { h.c.cfg.Store.Merge(&h.m) }) {
			return
		}
	}
	if err != nil {
		h.call.Fail(fromStore(err))
	} else {
		h.resp = mergeResponse{Stamp: uint64(h.c.stamps().Now())}
		if w := h.c.cfg.Witness; w != nil {
			h.resp.Batches = w.Tell(h.call.From().ID)
		}
		h.call.Reply(&h.resp)
	}
	// What the store keeps in m for itself is used again.
	h.c, h.call, h.came = nil, nil, time.Time{}
	h.m.Record, h.m.Encoded, h.m.Sink = version.Record{}, nil, nil
	homeMerges.Put(h)
}

// homeRead is one read of this node's copy for a coordinator elsewhere.
type homeRead struct {
	c    *Coordinator
	call *rpc.Call
	req  *readRequest // lives as long as the call
	p    ring.Partition
	held bool // it was held back already
	resp readResponse
}

var homeReads = sync.Pool{New: func() any { return new(homeRead) }}

func (c *Coordinator) handleRead(call *rpc.Call, req *readRequest) {
	c.served.Add(1)
	c.observe(call.From(), req.Stamp)
	if c.behind(req.Epoch) {
		c.learn(call, req.Epoch, func() { c.handleRead(call, req) })
		return
	}
	_, p, err := c.homeOf(req.Key)
	if err != nil {
		call.Fail(err)
		return
	}
	h := homeReads.Get().(*homeRead)
	h.c, h.call, h.req, h.p = c, call, req, p
	c.readOwn(p, req.Key, h)
}

// readOwn reads this node's copy, for vouch to say whether it may be answered with.
func (c *Coordinator) readOwn(p ring.Partition, key []byte, sink store.ReadSink) {
	if err := c.readable(p); err != nil {
		sink.Read(nil, err)
		return
	}
	c.cfg.Store.Read(p, key, sink)
}

// readable says why a copy that is read from now on may not be answered with, whatever
// vouch says then: that the partition was pulled, caught up or filled must be known
// before. What comes while the copy is read does not say that the copy has it.
func (c *Coordinator) readable(p ring.Partition) error {
	if err := c.answers(c.cfg.Rings.Current(), p); err != nil {
		return err
	}
	return c.counts(p)
}

// Read implements store.ReadSink.
func (h *homeRead) Read(record []byte, err error) {
	err = h.c.vouch(h.p, h.req.Epoch, err)
	if h.req.Hold && !h.held && h.c.holdBack(h.p, h.req.Epoch, h.call.Deadline(), err, h.again) {
		return
	}
	if err != nil {
		h.call.Fail(err)
	} else {
		h.resp.Leaf, h.resp.Stamp = version.LeafOf(record), uint64(h.c.stamps().Now())
		if h.req.Full {
			h.resp.Record = record
		}
		h.call.Reply(&h.resp)
	}
	*h = homeRead{}
	homeReads.Put(h)
}

// again reads what was held back.
func (h *homeRead) again() {
	h.held = true
	h.c.readOwn(h.p, h.req.Key, h)
}

// vouch says whether a copy that was just read by readOwn may be answered with: the read
// worked, the partition counts for reads, and no newer fence has come meanwhile.
func (c *Coordinator) vouch(p ring.Partition, epoch uint64, err error) error {
	moving := errors.Is(err, api.ErrMoving)
	switch {
	case err == nil || moving:
	case errors.Is(err, api.ErrNotReady) || errors.Is(err, api.ErrLossy):
		return err // it did not count before
	default:
		return fromStore(err)
	}
	if failed := c.counts(p); failed != nil {
		return failed
	}
	r := c.cfg.Rings.Current() // before the fence: one that comes after it is not this record's
	if fence := c.cfg.Store.Fence(p); epoch < fence {
		return fmt.Errorf("%w: partition %d is fenced at epoch %d, the request has %d", api.ErrFenced, p, fence, epoch)
	}
	if moving {
		return err
	}
	return c.answers(r, p)
}

// answers says why this node, an end of a move, does not answer the partition's
// reads; nil if it does.
func (c *Coordinator) answers(r *ring.Record, p ring.Partition) error {
	if r == nil || r.MoveOf(p) == nil {
		return nil
	}
	if !r.Answers(p, c.cfg.Self, c.cfg.Pulled(p)) {
		return fmt.Errorf("%w: %v: it does not answer reads yet", api.ErrMoving, r.MoveOf(p))
	}
	return nil
}

// counts says why this node's copies of a partition don't count for reads now;
// nil if they do.
func (c *Coordinator) counts(p ring.Partition) error {
	if w := c.cfg.Witness; w != nil {
		if err := w.Unsure(); err != nil {
			return err
		}
	}
	if !c.cfg.Store.CountsForRead(p) {
		return fmt.Errorf("%w: partition %d", api.ErrLossy, p)
	}
	if r := c.cfg.Repair; r != nil && !r.Counts(p) {
		return fmt.Errorf("%w: partition %d is catching up", api.ErrNotReady, p)
	}
	return nil
}

// homeOf finds a key's partition if this node is a home of it, or takes its writes as
// the target of a move.
func (c *Coordinator) homeOf(key []byte) (*ring.Record, ring.Partition, error) {
	r, err := c.record()
	if err != nil {
		return nil, 0, err
	}
	if err := c.checkKey(key); err != nil {
		return nil, 0, err
	}
	p := r.PartitionOf(key)
	if !r.Holds(p, c.cfg.Self) {
		return nil, 0, fmt.Errorf("%w: partition %d at epoch %d", api.ErrNotHome, p, r.Epoch)
	}
	return r, p, nil
}

// fenced refuses early what the store would refuse in its commit.
func fenced(r *ring.Record, p ring.Partition, epoch uint64) error {
	if since := r.Since[p]; epoch < since {
		return fmt.Errorf("%w: partition %d is fenced at epoch %d, the request has %d", api.ErrFenced, p, since, epoch)
	}
	return nil
}

// behind says that a request is by a newer ring record than this node has.
func (c *Coordinator) behind(epoch uint64) bool {
	r := c.cfg.Rings.Current()
	return epoch > 0 && (r == nil || r.Epoch < epoch)
}

// learn serves a request again after this node has adopted the ring record that
// it is by, or fails the call.
func (c *Coordinator) learn(call *rpc.Call, epoch uint64, again func()) {
	learn := func() {
		if _, err := c.newer(call.From().ID, epoch-1, call.Deadline()); err != nil {
			call.Fail(fmt.Errorf("%w: %w", api.ErrNotReady, err))
			return
		}
		again()
	}
	if !c.goroutine(learn) {
		call.Fail(errClosed)
	}
}

// errLate says that no newer ring record came in time. Who waits for it and who learns it
// say the same: of several that end at one instant, any may be the one that is told.
func errLate(ctx context.Context, than uint64) error {
	return fmt.Errorf("learning the ring record after epoch %d: %w", than, ctx.Err())
}

// newer returns the ring record once it is newer than an epoch, learning it from
// a member that has it.
func (c *Coordinator) newer(from ring.NodeID, than uint64, deadline time.Time) (*ring.Record, error) {
	ctx, cancel := context.WithDeadline(c.ctx, deadline)
	defer cancel()
	began := time.Now()
	for {
		changed := c.cfg.Rings.Changed()
		if r := c.cfg.Rings.Current(); r != nil && r.Epoch > than {
			return r, nil
		}
		if from == c.cfg.Self {
			// The record is durable already, or will be at once.
			select {
			case <-changed:
				c.aside(ctx, began) // many may wait for it
				continue
			case <-ctx.Done():
				return nil, errLate(ctx, than)
			}
		}
		peer, ok := c.peer(from)
		if !ok {
			// What tells us of a newcomer tells the record too: that comes soon.
			told, cancel := context.WithTimeout(ctx, strangerMax)
			select {
			case <-changed:
				cancel()
				c.aside(ctx, began)
				continue
			case <-told.Done():
				cancel()
				return nil, fmt.Errorf("learning the ring record after epoch %d: the address of %s is not known", than, from.Short())
			}
		}
		if err := c.cfg.Rings.Learn(ctx, peer, than+1); err != nil {
			if ctx.Err() != nil {
				return nil, errLate(ctx, than)
			}
			return nil, fmt.Errorf("learning the ring record after epoch %d: %w", than, err)
		}
	}
}

// observe moves this node's clock past a stamp, within its bound.
func (c *Coordinator) observe(from rpc.Peer, stamp uint64) {
	if ahead, ok := c.stamps().Observe(version.Stamp(stamp)); !ok {
		c.skew.stampAhead(from.ID, ahead)
	}
}
