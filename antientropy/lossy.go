package antientropy

import (
	"context"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
)

// A partition that has lost something is repaired when this node has caught up
// with, and then compared the whole list of keys with, so many of the other homes
// that one of them has seen every acknowledged write: N - Q + 1 of them, Q being
// the quorum. All that can be reached are compared with. It counts only since the
// loss: another one begins anew.

const (
	// lossyEvery is how often a repair looks whether it can go on.
	lossyEvery = time.Second
	// refillMax is the longest pause after audits that failed.
	refillMax = 30 * time.Second
)

// lossyBook says how far the repair of lost partitions is.
type lossyBook struct {
	turn wake // something has changed

	mu sync.Mutex // guards what follows
	// era in which the audits counted here were made.
	era   uint64
	parts map[ring.Partition]*refill
}

// refill is how far one partition is.
type refill struct {
	done   map[ring.NodeID]struct{} // homes that it is equal with
	failed map[ring.NodeID]int      // audits since the last one that worked
}

func (b *lossyBook) init() {
	b.turn = newWake()
	b.parts = map[ring.Partition]*refill{}
}

// of gives the refill of a partition in an era; b.mu is held.
func (b *lossyBook) of(p ring.Partition, era uint64) *refill {
	if b.era != era {
		b.era = era
		clear(b.parts)
	}
	f := b.parts[p]
	if f == nil {
		f = &refill{done: map[ring.NodeID]struct{}{}, failed: map[ring.NodeID]int{}}
		b.parts[p] = f
	}
	return f
}

// audited notes what came of an audit.
func (b *lossyBook) audited(p ring.Partition, era uint64, id ring.NodeID, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.of(p, era)
	if err != nil {
		f.failed[id]++
		return
	}
	f.done[id] = struct{}{}
	delete(f.failed, id)
}

// has says that the partition is equal with a home's.
func (b *lossyBook) has(p ring.Partition, era uint64, id ring.NodeID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, done := b.of(p, era).done[id]
	return done
}

// count is with how many homes the partition is equal, and whether all of those
// that can be reached were tried.
func (b *lossyBook) count(p ring.Partition, era uint64, others []ring.NodeID, reachable func(ring.NodeID) bool) (done int, tried bool) {
	b.mu.Lock()
	f := b.of(p, era)
	var untried []ring.NodeID
	for _, id := range others {
		if _, ok := f.done[id]; ok {
			done++
		} else if f.failed[id] < 2 {
			untried = append(untried, id)
		}
	}
	b.mu.Unlock()
	for _, id := range untried {
		if reachable(id) {
			return done, false
		}
	}
	return done, true
}

// homesToRefill is with how many other homes a partition must be equal to hold
// every write that a quorum of its n homes has acknowledged.
func homesToRefill(n int) int { return n - (n/2 + 1) + 1 }

// lossyLoop ends the repair of partitions that hold again what they had lost, and
// of those that this node does not keep.
func (r *Repair) lossyLoop(ctx context.Context) error {
	pause := time.NewTimer(lossyEvery)
	defer pause.Stop()
	for {
		ringed, changed := r.cfg.Rings.Changed(), r.cfg.Store.Changed()
		if r.judgeLossy(ctx) {
			pause.Reset(lossyEvery)
		}
		select {
		case <-ringed:
		case <-changed:
		case <-r.lossy.turn:
		case <-pause.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// judgeLossy looks at all lossy partitions and says whether some are left.
func (r *Repair) judgeLossy(ctx context.Context) (left bool) {
	s, rec := r.cfg.Store, r.current()
	health := s.Health()
	if !health.LossyAll && len(health.Lossy) == 0 {
		return false
	}
	if rec == nil || health.Failed != nil {
		return true
	}
	era := s.Era()
	for p := range ring.Partition(ring.SlotCount) {
		if s.CountsForRead(p) {
			continue
		}
		if ctx.Err() != nil {
			return false
		}
		home := rec.HomeIndex(p, r.cfg.Self) >= 0
		if home && !r.refilled(rec, p, era) {
			left = true
			continue
		}
		if err := s.Repaired(p, era); err != nil {
			r.log.Debug("a partition was not declared repaired", "partition", p, "error", err)
			return true
		}
		if home {
			r.log.Info("partition repaired: it holds again what was lost, as far as other homes have it", "partition", p)
			r.auditSoon(p)
		}
	}
	return left
}

// refilled says that enough homes were compared with.
func (r *Repair) refilled(rec *ring.Record, p ring.Partition, era uint64) bool {
	others := r.others(rec, p)
	done, tried := r.lossy.count(p, era, others, r.reachable)
	return tried && done >= homesToRefill(len(others)+1)
}

// refillLoop audits what this node has lost with one partner.
func (r *Repair) refillLoop(ctx context.Context, pt *partner) {
	chance := r.generator("refill", pt.id)
	failures := 0
	for {
		if r.refill(ctx, pt) {
			failures = 0
		} else {
			failures++
		}
		pause := time.NewTimer(jittered(chance, min(refillMax, lossyEvery<<min(failures, 10))))
		select {
		case <-pt.fill:
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// refill audits all lost partitions in which this node has caught up with the
// partner since the loss. It says whether no audit failed.
func (r *Repair) refill(ctx context.Context, pt *partner) bool {
	s, rec := r.cfg.Store, r.current()
	health := s.Health()
	if rec == nil || health.Failed != nil || !health.LossyAll && len(health.Lossy) == 0 {
		return true
	}
	era := s.Era()
	for p := range ring.Partition(rec.Partitions) {
		if s.CountsForRead(p) || rec.HomeIndex(p, r.cfg.Self) < 0 || rec.HomeIndex(p, pt.id) < 0 || r.lossy.has(p, era, pt.id) {
			continue
		}
		if at := pt.standing(p); !at.whole || at.era != era || at.epoch != rec.Epoch || at.missing > 0 {
			continue
		}
		if !r.reachable(pt.id) {
			return true
		}
		_, err := r.audit(ctx, pt.id, p, true)
		if ctx.Err() != nil {
			return true
		}
		r.lossy.audited(p, era, pt.id, err)
		r.lossy.turn.up()
		if err != nil {
			r.log.Debug("a lost partition was not compared", "partition", p, "with", pt.id.Short(), "error", err)
			return false
		}
	}
	return true
}
