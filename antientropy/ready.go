package antientropy

import (
	"context"
	"time"

	"github.com/kithdb/kith/ring"
)

const (
	// settleMax is how long after the start a home that cannot be reached may
	// still turn up.
	settleMax = 3 * time.Second
	// readyEvery is how often it is asked whether partitions may count now.
	readyEvery = 100 * time.Millisecond
	// A home that answers, but with errors, is not waited for after so many
	// exchanges of clocks or pulls of a partition: it may have no disk.
	exchangesMax = 3
	pullsMax     = 5
)

// Counts implements Engine. It costs one atomic read. A partition that has lost
// something is the store's to name: see store.CountsForRead.
func (r *Repair) Counts(p ring.Partition) bool {
	return int(p) < ring.SlotCount && r.ready.has(p)
}

// readyLoop says of which partitions the copies count. Once they do, that stays so
// until this node is no home any more: what comes later, quorums care for.
func (r *Repair) readyLoop(ctx context.Context) error {
	began := time.Now()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		ringed := r.cfg.Rings.Changed()
		if rec := r.current(); rec != nil && r.judgeReady(rec, time.Since(began) >= settleMax) > 0 {
			pause.Reset(readyEvery)
		}
		select {
		case <-ringed:
		case <-pause.C:
		case <-ctx.Done():
			return nil
		}
		if r.aside(ctx, "ready", r.cfg.Self) != nil {
			return nil
		}
	}
}

// judgeReady looks at all partitions that do not count yet, and returns how many
// are left.
func (r *Repair) judgeReady(rec *ring.Record, settled bool) (left int) {
	for p := range ring.Partition(rec.Partitions) {
		switch {
		case !rec.Holds(p, r.cfg.Self):
			r.ready.clear(p)
		case r.ready.has(p):
		case rec.HomeIndex(p, r.cfg.Self) < 0:
			r.readyTarget(rec, p)
		case r.comparedWithAll(rec, p, settled):
			r.ready.set(p)
		default:
			left++
		}
	}
	return left
}

// readyTarget has the copies of a move's target count once it has pulled all that whoever
// answered before it held. They count on when it is a home: nothing is to be waited for
// while a slot changes hands.
func (r *Repair) readyTarget(rec *ring.Record, p ring.Partition) {
	if rec.HomeIndex(p, r.cfg.Self) < 0 && rec.Answers(p, r.cfg.Self, r.cfg.Store.Pulled(p)) {
		r.ready.set(p)
	}
}

// comparedWithAll says that this node's copies of a partition lack nothing that a
// home which can be reached has.
func (r *Repair) comparedWithAll(rec *ring.Record, p ring.Partition, settled bool) bool {
	for _, id := range rec.Homes(p) {
		if id != r.cfg.Self && !r.comparedWith(rec, id, p, settled) {
			return false
		}
	}
	return true
}

func (r *Repair) comparedWith(rec *ring.Record, id ring.NodeID, p ring.Partition, settled bool) bool {
	var s standing
	if pt := r.book.find(id); pt != nil {
		s = pt.standing(p)
	}
	switch {
	case s.whole && s.epoch == rec.Epoch && s.missing == 0:
		return true
	case !settled:
		return false
	case !r.reachable(id):
		return true
	case !s.whole || s.epoch != rec.Epoch:
		return s.failures >= exchangesMax
	}
	return s.tries >= pullsMax
}
