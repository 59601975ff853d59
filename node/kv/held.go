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
)

// Reads that are held back. A member that takes a slot's reads over refuses them until
// it has pulled what it must, and others answer meanwhile. Where no others will do, with
// one home or with R of all of them, the coordinator asks it a second time, to hold the
// read back until then. The copy is read afterwards, and checked as any other.

const (
	// holdMax is how long a read is held back: what has to be pulled by then is little.
	holdMax = time.Second
	// heldMax is how many are at a time. More are refused.
	heldMax = 1024
)

// held are the reads that are held back, in the order of their coming. One goroutine
// lets them go, in that order.
type held struct {
	mu     sync.Mutex
	list   []heldRead // guarded by mu
	closed bool       // guarded by mu
	wake   chan struct{}
}

// heldRead is one of them.
type heldRead struct {
	p     ring.Partition
	epoch uint64
	until time.Time
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
	h := &c.held
	h.mu.Lock()
	if h.closed || len(h.list) >= heldMax {
		h.mu.Unlock()
		return false
	}
	h.list = append(h.list, heldRead{p, epoch, until, again})
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return true
}

// letGo runs until ctx is done, and lets all reads go then.
func (c *Coordinator) letGo(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		changed := c.cfg.Rings.Changed() // before the look at what may have changed
		var pulled <-chan struct{}
		if c.cfg.PulledChanged != nil {
			pulled = c.cfg.PulledChanged()
		}
		due, next := c.due(time.Now())
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
			c.aside(ctx)
		case <-pulled:
			c.aside(ctx)
		case <-ctx.Done():
			c.letAllGo()
			return
		}
	}
}

// due takes the reads out of the list that go on now, and says when the next one has
// been held for long enough; zero if none is left.
func (c *Coordinator) due(now time.Time) (due []heldRead, next time.Time) {
	h := &c.held
	h.mu.Lock()
	all := append([]heldRead(nil), h.list...)
	h.mu.Unlock()
	goes := make([]bool, len(all))
	for i := range all {
		r := &all[i]
		goes[i] = !now.Before(r.until) || c.cfg.Store.Fence(r.p) > r.epoch || c.answers(c.cfg.Rings.Current(), r.p) == nil
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

// letAllGo ends holding back.
func (c *Coordinator) letAllGo() {
	h := &c.held
	h.mu.Lock()
	h.closed = true
	all := h.list
	h.list = nil
	h.mu.Unlock()
	for _, r := range all {
		r.again()
	}
}

// heldBack waits until a read that has failed with err may succeed. It is false if that
// is not to be waited for.
func (c *Coordinator) heldBack(ctx context.Context, p ring.Partition, epoch uint64, err error) bool {
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

// aside waits for a moment that is different for every node and every time: many
// goroutines go on when a record or a note has come, and simulations replay only if the
// first of what one does is done before the next begins.
func (c *Coordinator) aside(ctx context.Context) {
	sum := fnv.New64a()
	sum.Write(c.cfg.Self[:])
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
