package kv

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
)

// Reads that are held back. A member that takes a slot's reads over refuses them until
// it has pulled what it must, and others answer meanwhile. Where no others will do, with
// one home or with R of all of them, the coordinator asks it a second time, to hold the
// read back until then. The copy is read afterwards, and checked as any other.
//
// Writes to a member that still drops what it had of the partition in another time wait
// here, too: where they count at both ends of a move, no other will do.

const (
	// holdMax is how long a read is held back: what has to be pulled by then is little.
	holdMax = time.Second
	// heldMax is how many are at a time. More are refused.
	heldMax = 1024
	// dropWait is how long to wait for a drop before the next try.
	dropWait = 10 * time.Millisecond
)

// held is what is held back, in the order of its coming. One goroutine lets it go, in
// that order.
type held struct {
	mu     sync.Mutex
	list   []heldBack // guarded by mu
	closed bool       // guarded by mu
	wake   chan struct{}
}

// heldBack is one of them.
type heldBack struct {
	until time.Time
	// ready says that it may go on before that; nil never does.
	ready func() bool
	again func() // must not block
}

// holdBack calls again, once, when a read that has failed with err may succeed: when
// what has to be pulled is noted, when the ring record changes, or when it was held for
// long enough. It returns false, and does nothing, if the read failed for another
// reason or there is no room.
func (c *Coordinator) holdBack(p ring.Partition, epoch uint64, deadline time.Time, err error, again func()) bool {
	if !errors.Is(err, api.ErrMoving) {
		return false
	}
	now := time.Now()
	until := now.Add(holdMax)
	if !deadline.IsZero() { // some of the time is for the answer
		until = now.Add(min(holdMax, deadline.Sub(now)/4*3))
	}
	ready := func() bool {
		return c.cfg.Store.Fence(p) > epoch || c.answers(c.cfg.Rings.Current(), p) == nil
	}
	return c.held.add(heldBack{until, ready, again})
}

// dropFirst calls again, once, when a write that has failed with err, since the time
// given, may succeed. It returns false, and does nothing, if the write failed for
// another reason than a drop of its partition, if that takes too long, or if there is no
// room.
func (c *Coordinator) dropFirst(since time.Time, err error, again func()) bool {
	now := time.Now()
	if !errors.Is(err, store.ErrDropping) || now.Sub(since) >= holdMax {
		return false
	}
	return c.held.add(heldBack{now.Add(dropWait), nil, again})
}

// add is false if there is no room, or if nothing is held back any more.
func (h *held) add(b heldBack) bool {
	h.mu.Lock()
	if h.closed || len(h.list) >= heldMax {
		h.mu.Unlock()
		return false
	}
	h.list = append(h.list, b)
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return true
}

// letGo runs until ctx is done, and lets all go then.
func (c *Coordinator) letGo(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		changed := c.cfg.Rings.Changed() // before the look at what may have changed
		pulled := c.cfg.PulledChanged()
		due, next := c.held.due(time.Now())
		for _, r := range due {
			r.again()
		}
		if next.IsZero() {
			changed, pulled, next = nil, nil, time.Now().Add(time.Hour)
		}
		timer.Reset(time.Until(next))
		select {
		case <-c.held.wake:
		case <-timer.C:
		case <-changed:
		case <-pulled:
		case <-ctx.Done():
			for _, r := range c.held.close() {
				r.again()
			}
			return
		}
		// Several of these may be there at one instant, and a select picks any.
		c.aside(ctx, time.Time{})
		select {
		case <-c.held.wake:
		default:
		}
	}
}

// due takes out of the list what goes on now, and says when the next one has been held
// for long enough; zero if none is left.
func (h *held) due(now time.Time) (due []heldBack, next time.Time) {
	h.mu.Lock()
	all := append([]heldBack(nil), h.list...)
	h.mu.Unlock()
	goes := make([]bool, len(all))
	for i := range all {
		r := &all[i]
		goes[i] = !now.Before(r.until) || r.ready != nil && r.ready()
		if goes[i] {
			due = append(due, *r)
		} else if next.IsZero() || r.until.Before(next) {
			next = r.until
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := h.list[:0] // others may have come behind those that were looked at
	for i, r := range h.list {
		if i >= len(all) || !goes[i] {
			kept = append(kept, r)
		}
	}
	clear(h.list[len(kept):])
	h.list = kept
	return due, next
}

// close ends holding back, and gives what was.
func (h *held) close() []heldBack {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.list
	h.closed, h.list = true, nil
	return all
}

// awaitPull waits until a read that has failed with err may succeed. It is false if that
// is not to be waited for.
func (c *Coordinator) awaitPull(ctx context.Context, p ring.Partition, epoch uint64, err error) bool {
	deadline, _ := ctx.Deadline()
	over := make(chan struct{})
	if !c.holdBack(p, epoch, deadline, err, func() { close(over) }) {
		return false
	}
	select {
	case <-over:
		return true
	case <-ctx.Done():
		return false
	}
}

// asideMin and asideMore are the shortest moment of stepping aside, and how much longer
// one may be.
const (
	asideMin  = 100 * time.Microsecond
	asideMore = 300 * time.Microsecond
)

// aside waits for a moment that is different for every node and every time, and for
// all who have begun to wait at different times: many goroutines go on when a record or a
// note has come, and simulations replay only if the first of what one does is done before
// the next begins.
func (c *Coordinator) aside(ctx context.Context, began time.Time) {
	sum := fnv.New64a()
	sum.Write(c.cfg.Self[:])
	sum.Write(binary.BigEndian.AppendUint64(nil, uint64(began.UnixNano())))
	sum.Write(binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano())))
	h := sum.Sum64()
	h ^= h >> 32 // the low bits of such a sum know little of the high ones
	timer := time.NewTimer(asideMin + time.Duration(h%uint64(asideMore)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
