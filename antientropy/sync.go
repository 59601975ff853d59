package antientropy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store"
)

// A move needs more than catch-up does: before a member answers the reads of a slot, it
// holds all that the one before it held when that one took part in the slot's requests
// for the last time. So a pull for a move is made under the epoch of the move's phase.
// Its source holds that epoch's record before it answers, and its target before it
// asks. What the source held then is on the target's disk when the pull is noted.
//
// The first pull of a move looks at all records, page by page: clocks have bounds, and
// claim less than the records show at times. By then the target holds next to nothing.
// A later one, when the slot changes hands, asks for what the source's clock claims and
// the target's does not, as catch-up does. Reads of the slot wait for it: so it yields to
// nobody, and what comes after it pays for its bytes.
//
// What the source claims, the target claims too, once it has pulled from all that it
// was told to: it takes the source's place, and must know as well as that one which
// writes were replaced and forgotten. A write that one source lost without noticing,
// and another one holds, so is merged before anybody's word is taken for it.

// Sync pulls a partition from each of pull.From, for a move, under the epoch pull.Since,
// and notes each of them in the store when all that it held is on this disk. It returns
// nil once all are noted, and claims then what they claim. Any number of partitions may
// be pulled at a time; a second pull of one waits for the first. After an error it may be
// called again, and goes on where it was, as long as neither end has lost something or
// was started anew.
//
// It fails with api.ErrFenced when the partition is under another epoch here or at a
// source, api.ErrNotHome if one of them does not hold it, and api.ErrLossy if a source
// has lost something of it: then others are to be asked.
func (r *Repair) Sync(ctx context.Context, pull ring.Pull) error {
	p, self := pull.Partition, r.cfg.Self
	rec := r.current()
	if err := movable(rec, p, pull.Since, append([]ring.NodeID{self}, pull.From...)...); err != nil {
		return fmt.Errorf("pull of partition %d for a move: %w", p, err)
	}
	if slices.Contains(pull.From, self) {
		return fmt.Errorf("%w: pull of partition %d for a move: from this node itself", api.ErrBadRequest, p)
	}
	if err := r.aside(ctx, "sync", partitionAsID(p)); err != nil {
		return err
	}
	if err := r.awaitTurn(ctx, p); err != nil {
		return err
	}
	defer r.turns.give(p)
	if err := r.syncAll(ctx, rec, pull); err != nil {
		return fmt.Errorf("pull of partition %d for a move: %w", p, err)
	}
	return nil
}

// awaitTurn waits until nobody else pulls a partition.
func (r *Repair) awaitTurn(ctx context.Context, p ring.Partition) error {
	for {
		mine, free := r.turns.take(p, r.cfg.Self)
		if mine {
			return nil
		}
		select {
		case <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
		// Those who wait do not go on at one instant.
		if err := r.aside(ctx, "sync", partitionAsID(p)); err != nil {
			return err
		}
	}
}

// partitionAsID tells the loops of partitions apart.
func partitionAsID(p ring.Partition) ring.NodeID {
	return ring.NodeID{14: byte(p >> 8), 15: byte(p)}
}

// syncAll pulls from all sources, one after the other. The turn of the partition is
// held.
func (r *Repair) syncAll(ctx context.Context, rec *ring.Record, pull ring.Pull) error {
	y := r.syncs.of(rec, pull, r.cfg.Store.EraOf(pull.Partition))
	vouched := r.cfg.Store.CountsForRead(pull.Partition)
	var errs []error
	for i, id := range pull.From {
		from := y.sources[id]
		if from == nil {
			from = &syncSource{id: id, whole: r.looksAtAll(rec, pull.Partition)}
			r.syncs.add(y, from)
		}
		err := r.syncFrom(ctx, y, from)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("from %s: %w", id.Short(), err))
			continue
		}
		// The last one is noted when all is claimed, and after a loss all are.
		if last := i == len(pull.From)-1; vouched && !(last && len(errs) == 0) {
			if err := r.noteSync(y, id); err != nil {
				return err
			}
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return r.endSync(ctx, y, pull)
}

// looksAtAll says that a pull is the first of its move, or the first after a loss.
// A member that has pulled for the move before, or is home of the partition, holds what
// its clock claims.
func (r *Repair) looksAtAll(rec *ring.Record, p ring.Partition) bool {
	if !r.cfg.Store.CountsForRead(p) {
		return true
	}
	noted := r.cfg.Store.Pulled(p)
	return rec.HomeIndex(p, r.cfg.Self) < 0 && (noted.By != r.cfg.Self || len(noted.From) == 0)
}

// endSync claims what the sources claimed, and notes them.
func (r *Repair) endSync(ctx context.Context, y *syncing, pull ring.Pull) error {
	p := y.p
	for _, id := range sortedIDs(y.sources) {
		if from := y.sources[id]; from.done {
			if err := r.claimSynced(ctx, y, from); err != nil {
				return err
			}
		}
	}
	if err := r.settleFirst(ctx, y); err != nil {
		return err
	}
	if !r.cfg.Store.CountsForRead(p) {
		if err := r.refilledBySync(y, pull); err != nil {
			return err
		}
	}
	for _, id := range pull.From {
		if err := r.noteSync(y, id); err != nil {
			return err
		}
	}
	r.syncs.end(y)
	if rec := r.current(); rec != nil && movable(rec, p, y.since, r.cfg.Self) == nil {
		r.readyTarget(rec, p)
	}
	return nil
}

// settleFirst compares the trees of both ends after a first pull, and mends what differs.
// Until it claimed what its source claimed, this node could not tell a late packet's
// value from a new one: what was forgotten may have come back here, and here alone. That
// is found now, or by an audit later; it says nothing about what was pulled.
func (r *Repair) settleFirst(ctx context.Context, y *syncing) error {
	for _, id := range sortedIDs(y.sources) {
		if from := y.sources[id]; !from.done || !from.whole {
			continue
		}
		a := &pairAudit{r: r, with: id, atOnce: true, epoch: y.since}
		err := a.run(ctx, []ring.Partition{y.p})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && len(a.out.Skipped) > 0 {
			err = a.out.Skipped[0].why
		}
		if err != nil {
			r.log.Debug("the ends of a move were not compared", "partition", y.p, "with", id.Short(), "error", err)
		}
	}
	return nil
}

// refilledBySync ends the loss of a target that has pulled from so many members that it
// may take over a slot's reads: that is as good as what it had lost. A home is filled
// like all others: see lossyLoop.
func (r *Repair) refilledBySync(y *syncing, pull ring.Pull) error {
	rec := r.current()
	if err := movable(rec, y.p, y.since, r.cfg.Self); err != nil {
		return err
	}
	if rec.HomeIndex(y.p, r.cfg.Self) >= 0 {
		return fmt.Errorf("%w: partition %d", api.ErrLossy, y.p)
	}
	if !suffices(rec, y.p, ring.Pulled{By: r.cfg.Self, Since: y.since, From: pull.From}) {
		return fmt.Errorf("%w: partition %d: more members have to be asked for what was lost", api.ErrLossy, y.p)
	}
	return r.cfg.Store.Repaired(y.p, y.era)
}

// suffices says that a move may go on with what a member has pulled.
func suffices(rec *ring.Record, p ring.Partition, known ring.Pulled) bool {
	move := rec.MoveOf(p)
	if move == nil {
		return false
	}
	step := ring.StepDone
	switch move.Phase {
	case ring.PhaseDual:
		step = ring.StepReadNew
	case ring.PhaseBack:
		step = ring.StepAbort
	}
	c, err := rec.Condition(p, step)
	return err == nil && c.Met(known)
}

// noteSync notes that a source was pulled from, once.
func (r *Repair) noteSync(y *syncing, id ring.NodeID) error {
	from := y.sources[id]
	if from.noted {
		return nil
	}
	err := r.cfg.Store.NotePulledIn(y.p, ring.Pulled{By: r.cfg.Self, Since: y.since, From: []ring.NodeID{id}}, y.era)
	if err != nil {
		return fmt.Errorf("note that it was pulled from %s: %w", id.Short(), err)
	}
	from.noted = true
	return nil
}

// syncFrom has all that one source holds merged here.
func (r *Repair) syncFrom(ctx context.Context, y *syncing, from *syncSource) error {
	if from.done {
		return nil
	}
	to, ok := r.peer(from.id)
	if !ok {
		return fmt.Errorf("%w: the address of %s is not known", rpc.ErrUnreachable, from.id.Short())
	}
	begun, err := r.askSync(ctx, to, &syncRequest{Epoch: y.since, Partition: y.p})
	if err != nil {
		return err
	}
	if from.era != begun.Era {
		own := r.cfg.Store.ClockOf(y.p)
		r.syncs.begin(from, begun, begun.Clock.Minus(&own))
	}
	if err := r.learnEnds(partitionEnds{y.p, begun.Ends}); err != nil {
		return err
	}
	for !from.done {
		if err := r.syncSome(ctx, y, from, to); err != nil {
			return err
		}
	}
	return nil
}

// syncSome merges a page.
func (r *Repair) syncSome(ctx context.Context, y *syncing, from *syncSource, to rpc.Peer) error {
	own := r.cfg.Store.ClockOf(y.p)
	req := &syncRequest{Epoch: y.since, Partition: y.p, Era: from.era, Have: own, After: from.after}
	if !from.whole {
		if req.Want = firstOf(from.want); len(req.Want) == 0 {
			r.syncs.done(from)
			return nil
		}
	}
	began := time.Now()
	page, err := r.askSync(ctx, to, req)
	if err == nil {
		err = page.check(from.after)
	}
	if err != nil {
		return err
	}
	if page.Era != from.era {
		return fmt.Errorf("%w: a page of era %x in a pull of era %x", wire.ErrMalformed, page.Era, from.era)
	}
	took := time.Since(began)
	size := 0
	for i := range page.Items {
		size += len(page.Items[i].encoded)
	}
	r.pace.noteSized(from.id, took, size)
	rest, take := r.pace.rest, r.pace.take
	if !from.whole {
		rest, take = r.pace.atOnce, r.pace.later
	}
	if err := rest(ctx, took); err != nil {
		return err
	}
	if err := r.mergeSynced(ctx, y, page.Items, rest); err != nil {
		return err
	}
	r.syncs.page(from, page, req.Want, size)
	if err := r.aside(ctx, "sync", partitionAsID(y.p)); err != nil {
		return err
	}
	return take(ctx, size)
}

// askSync asks one question.
func (r *Repair) askSync(ctx context.Context, to rpc.Peer, req *syncRequest) (*syncResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, pullMax)
	defer cancel()
	return syncRoute.Call(ctx, r.cfg.Transport, to, req)
}

// mergeSynced merges what came under the epoch of a pull. A newer fence refuses it: by
// then the partition may have been dropped here.
func (r *Repair) mergeSynced(ctx context.Context, y *syncing, items []item, rest func(context.Context, time.Duration) error) error {
	rec := r.current()
	if err := movable(rec, y.p, y.since, r.cfg.Self); err != nil {
		return err
	}
	return r.mergeBy(ctx, rec, y.since, y.p, items, verdict{}, rest)
}

// claimSynced claims what a source claimed before the pull, unless it shows it no longer
// and some home may: see unproven.
func (r *Repair) claimSynced(ctx context.Context, y *syncing, from *syncSource) error {
	unproven, err := r.unproven(ctx, from.id, y.p, from.hidden, nil)
	if err != nil {
		return err
	}
	out := clockOfDots(unproven)
	own := r.cfg.Store.ClockOf(y.p)
	for left := from.told.Minus(&own).Without(&out); len(left) > 0; {
		some := firstOf(left)
		if err := r.cfg.Store.Incorporate(y.p, some, y.era); err != nil {
			return fmt.Errorf("claim what was pulled: %w", err)
		}
		claimed := clockOfDots(some)
		left = left.Without(&claimed)
	}
	return nil
}

// crowded says that a clock may have had no room for all that the records show.
func crowded(c *store.Clock) bool {
	return len(c.Actors) > wantActors/2 ||
		slices.ContainsFunc(c.Actors, func(a store.ActorClock) bool { return len(a.Ranges) > wantRanges/2 })
}
