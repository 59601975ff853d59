package antientropy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/store"
)

// A partition that has lost something is repaired when this node has compared the
// whole list of keys with so many of the other homes that one of them has seen
// every acknowledged write: N - Q + 1 of them, Q being the quorum. All that can be
// reached are compared with. It counts only since the loss: another one begins
// anew.

const (
	// lossyEvery is how often a repair looks whether it can go on.
	lossyEvery = time.Second
	// refillTries is after how many failures a home is not waited for if the
	// others are enough.
	refillTries = 3
)

// lossyBook says how far the repair of lost partitions is.
type lossyBook struct {
	turn wake // something has changed

	mu    sync.Mutex // guards what follows
	parts map[ring.Partition]*refill
}

// refill is how far one partition is.
type refill struct {
	// era of the partition in which the audits counted here were made.
	era uint64
	// done are the homes that it is equal with, and what they claimed before. That
	// is incorporated here only when enough were compared: one of them may have
	// lost what another one holds, and both must be asked before the first is
	// believed.
	done   map[ring.NodeID]store.Clock
	failed map[ring.NodeID]int // audits since the last one that worked
}

func (b *lossyBook) init() {
	b.turn = newWake()
	b.parts = map[ring.Partition]*refill{}
}

// of gives the refill of a partition in an era, which counts for nothing if that is past;
// b.mu is held.
func (b *lossyBook) of(p ring.Partition, era uint64) *refill {
	f := b.parts[p]
	if f == nil || f.era != era {
		past := f != nil && f.era > era
		f = &refill{era: era, done: map[ring.NodeID]store.Clock{}, failed: map[ring.NodeID]int{}}
		if !past {
			b.parts[p] = f
		}
	}
	return f
}

// audited notes what came of an audit with a home that had told its clock before.
func (b *lossyBook) audited(p ring.Partition, era uint64, id ring.NodeID, told store.Clock, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.of(p, era)
	if err != nil {
		f.failed[id]++
		return
	}
	f.done[id] = told
	delete(f.failed, id)
}

// end forgets a partition that is whole again.
func (b *lossyBook) end(p ring.Partition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.parts, p)
}

// has says that the partition is equal with a home's.
func (b *lossyBook) has(p ring.Partition, era uint64, id ring.NodeID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, done := b.of(p, era).done[id]
	return done
}

// claims are what the homes that a partition is equal with have claimed.
func (b *lossyBook) claims(p ring.Partition, era uint64) []store.Clock {
	b.mu.Lock()
	defer b.mu.Unlock()
	done := b.of(p, era).done
	var out []store.Clock
	for _, id := range sortedIDs(done) {
		out = append(out, done[id])
	}
	return out
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
		} else if f.failed[id] < refillTries {
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
		if r.aside(ctx, "lossy", r.cfg.Self) != nil {
			return nil
		}
		r.lossy.turn.down()
	}
}

// lost are the partitions that have lost something, sorted.
func (r *Repair) lost(rec *ring.Record) []ring.Partition {
	health := r.cfg.Store.Health()
	if !health.LossyAll || rec == nil {
		return slices.Sorted(slices.Values(health.Lossy))
	}
	all := make([]ring.Partition, rec.Partitions)
	for p := range all {
		all[p] = ring.Partition(p)
	}
	return all
}

// certain says that this node keeps nothing that its record does not know of. With lost
// metadata, or a directory from a backup, an older record is there, by which it may have
// lost nothing of a partition that is its own by a newer one.
func (r *Repair) certain(ctx context.Context) bool {
	if r.cfg.Certain == nil {
		return true
	}
	err := r.cfg.Certain(ctx)
	if err != nil {
		r.log.Debug("what was lost of partitions that are not kept here stays so yet", "error", err)
	}
	return err == nil
}

// judgeLossy looks at all lossy partitions and says whether some are left.
func (r *Repair) judgeLossy(ctx context.Context) (left bool) {
	s, rec := r.cfg.Store, r.current()
	lost := r.lost(rec)
	if rec == nil || s.Health().Failed != nil {
		return len(lost) > 0
	}
	certain := sync.OnceValue(func() bool { return r.certain(ctx) })
	for _, p := range lost {
		if s.CountsForRead(p) {
			continue
		}
		era := s.EraOf(p)
		if ctx.Err() != nil {
			return false
		}
		home := rec.HomeIndex(p, r.cfg.Self) >= 0
		if !home && rec.Holds(p, r.cfg.Self) {
			continue // the move's next pull fills it: see refilledBySync
		}
		if home && !r.refilled(rec, p, era) || !home && !(certain() && r.current() == rec) {
			left = true
			continue
		}
		err := r.incorporateRefill(ctx, p, era)
		if err == nil {
			err = s.Repaired(p, era)
		}
		if err != nil {
			r.log.Debug("a partition was not declared repaired", "partition", p, "error", err)
			return true
		}
		r.lossy.end(p)
		if home {
			r.log.Debug("partition repaired: it holds again what was lost, as far as other homes have it", "partition", p)
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

// refillAll fills what this node has lost from one partner, partition by partition,
// until it is over. What is filled from another partner comes later.
func (r *Repair) refillAll(ctx context.Context, pt *partner, to rpc.Peer, over time.Time) {
	rec := r.current()
	failed := map[ring.Partition]struct{}{}
	for {
		var busy <-chan struct{}
		for _, p := range r.lost(rec) {
			if _, again := failed[p]; again || !r.toRefill(rec, pt, p) {
				continue
			}
			if ctx.Err() != nil || time.Now().After(over) || !r.reachable(pt.id) || r.emptied(pt, p) {
				return
			}
			mine, free := r.turns.take(p, pt.id)
			if !mine {
				busy = free
				continue
			}
			era := r.cfg.Store.EraOf(p)
			told, err := r.refill(ctx, pt, to, p)
			r.turns.give(p)
			if ctx.Err() != nil {
				return
			}
			if g := pt.gaps[p]; g != nil && err == nil {
				g.taken = unite(g.taken, told.Minus(new(store.Clock)))
			}
			r.lossy.audited(p, era, pt.id, told, err)
			r.lossy.turn.up()
			if err != nil {
				failed[p] = struct{}{}
				r.log.Debug("a lost partition was not filled", "partition", p, "from", pt.id.Short(), "error", err)
			}
		}
		if busy == nil || !pt.waitFor(ctx, busy, r.cfg.ClocksEvery) {
			return
		}
	}
}

// toRefill says that a partition has lost something, and that it was not filled
// from the partner since.
func (r *Repair) toRefill(rec *ring.Record, pt *partner, p ring.Partition) bool {
	return rec != nil && rec.HomeIndex(p, r.cfg.Self) >= 0 && rec.HomeIndex(p, pt.id) >= 0 &&
		!r.cfg.Store.CountsForRead(p) && !r.lossy.has(p, r.cfg.Store.EraOf(p), pt.id)
}

// refill compares a lost partition with a partner's, key by key, and merges both
// ways. What the disk still has is not sent again, as it would be by catch-up: the
// clock was emptied. It returns what the partner had claimed before: that is on this
// disk too, or was lost there, unless the partner has noticed a loss meanwhile.
func (r *Repair) refill(ctx context.Context, pt *partner, to rpc.Peer, p ring.Partition) (told store.Clock, err error) {
	if g := pt.gaps[p]; g != nil {
		told = g.theirs
	}
	if _, err := r.audit(ctx, pt.id, p, true); err != nil {
		return told, err
	}
	asked, cancel := context.WithTimeout(ctx, clocksMax)
	defer cancel()
	_, err = pullRoute.Call(asked, r.cfg.Transport, to, &pullRequest{Epoch: pt.epoch, Partition: p, Era: pt.theirEra})
	if err != nil {
		return told, fmt.Errorf("asking whether clocks still hold: %w", err)
	}
	if r.emptied(pt, p) {
		return told, fmt.Errorf("partition %d: clocks of this node were emptied", p)
	}
	return told, nil
}

// incorporateRefill claims what the homes have claimed from which a partition was
// filled.
func (r *Repair) incorporateRefill(ctx context.Context, p ring.Partition, era uint64) error {
	for _, told := range r.lossy.claims(p, era) {
		own := r.cfg.Store.ClockOf(p)
		for left := told.Minus(&own); len(left) > 0; {
			some := firstOf(left)
			if err := r.cfg.Store.Incorporate(p, some, era); err != nil {
				return fmt.Errorf("claim what was filled: %w", err)
			}
			if err := r.aside(ctx, "refill", r.cfg.Self); err != nil {
				return err
			}
			claimed := clockOfDots(some)
			left = left.Without(&claimed)
		}
	}
	return nil
}
