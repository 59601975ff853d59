package antientropy

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// Forgetting removes records of which nothing can be read any more. What brings a
// deleted value back is an older record that comes late, to a home that does not
// know the delete any more. Four rules keep that out, and none may be weakened:
//
//  1. Everything that the record has seen is stable: below the clock's base of
//     every home. (stable)
//  2. Every home confirms that it holds an equal record, and only then it goes.
//     (confirm; the store checks it again at the purge)
//  3. A home that merges a record drops those siblings that its clock claims and
//     its record lacks. (Fill, in the store)
//  4. Catch-up and audit say what the other home does not hold and has
//     incorporated, also of a key of which it has no record. (verdicts)
//
// While a slot moves, its target counts as one of the homes: it may have pulled what was
// deleted since. It confirms nothing before it claims what its source claimed. Whoever
// adopts the move's record refuses to confirm by an older one: a record that all homes
// hold dead by then is all that a target can pull.
//
// forget_model_test.go plays random histories by these rules, and without each.

// forgetSkew is how far the clocks of two homes may be apart, twice the bound on one
// clock: nothing is dead before it is so by every clock.
const forgetSkew = 2 * 2 * time.Second

// deadBy is the time at which what is dead is so by the clocks of all homes, in
// milliseconds since 1970.
func (r *Repair) deadBy() uint64 {
	return uint64(max(0, r.cfg.Stamp().Time().Add(-forgetSkew).UnixMilli()))
}

// isDead says that nothing can be read of a record any more at a time in
// milliseconds since 1970: it has siblings, and all are tombstones or have expired.
func isDead(r *version.Record, now uint64) bool {
	for i := range r.Siblings {
		if s := &r.Siblings[i]; !s.Tombstone && !s.Expired(now) {
			return false
		}
	}
	return len(r.Siblings) > 0
}

// deadSince is when the last sibling of a record died or dies, in milliseconds since
// 1970; false if one never does.
func deadSince(r *version.Record) (uint64, bool) {
	since := uint64(0)
	for i := range r.Siblings {
		s := &r.Siblings[i]
		if !s.Tombstone && s.Expiry == 0 {
			return 0, false
		}
		since = max(since, s.Expiry, uint64(max(0, s.Stamp.Time().UnixMilli())))
	}
	return since, len(r.Siblings) > 0
}

// stable says that a home has incorporated everything that was seen.
func stable(seen, base version.Context) bool { return base.Includes(seen) }

// confirm is a home's answer about a dead key: of its own record, and of its bases,
// which were read before the record. verdict is false for a home that has lost
// something.
func confirm(mine *version.Record, leaf version.Digest, asked *deadKey, base version.Context, verdict bool, now uint64) deadAnswer {
	seen := mine.Seen.Union(asked.Seen)
	var more version.Context
	if len(seen) != len(asked.Seen) || !asked.Seen.Includes(seen) {
		more = mine.Seen
	}
	switch {
	case !verdict:
		return deadAnswer{Word: deadLossy}
	case leaf != asked.Leaf:
		return deadAnswer{Word: deadDiffers}
	case !isDead(mine, now):
		return deadAnswer{Word: deadAlive}
	case !stable(seen, base):
		return deadAnswer{deadUnstable, more}
	}
	return deadAnswer{deadConfirmed, more}
}

// registerForget answers the homes that drive the forgetting of a partition.
func (r *Repair) registerForget(m *rpc.Mux) {
	confirmRoute.Handle(m, rpc.ClassHome, r.serveConfirm)
	purgeRoute.Handle(m, rpc.ClassHome, r.servePurge)
}

func (r *Repair) serveConfirm(_ context.Context, from rpc.Peer, req *confirmRequest) (*confirmResponse, error) {
	if err := r.between(from, req.Partition); err != nil {
		return nil, err
	}
	if since := r.current().Since[req.Partition]; req.Epoch < since {
		return nil, fmt.Errorf("%w: the homes of partition %d changed at epoch %d, the request is by %d", api.ErrFenced, req.Partition, since, req.Epoch)
	}
	answers, err := r.confirmHere(req.Partition, req.Items)
	if err != nil {
		return nil, err
	}
	return &confirmResponse{answers}, nil
}

// confirmHere is this node's own answer. Others purge because of it: what it
// says of the clock is on disk before it says so, or a crash could leave this
// node with less, and a late packet would find the hole. So the clock is read first
// and put on disk then: what it claims a moment later may not be there.
func (r *Repair) confirmHere(p ring.Partition, items []deadKey) ([]deadAnswer, error) {
	keys := make([][]byte, len(items))
	for i := range items {
		keys[i] = items[i].Key
	}
	records := make([]version.Record, len(items))
	leaves := make([]version.Digest, len(items))
	g, err := r.look(p, keys, func(i int, encoded []byte, record *version.Record) bool {
		records[i], leaves[i] = *record, version.LeafOf(encoded)
		return true
	})
	if err == nil {
		err = r.cfg.Store.Incorporate(p, nil, g.era)
	}
	if err != nil {
		return nil, fmt.Errorf("confirm: %w", err)
	}
	base, now := g.clock.Bases(), r.deadBy()
	answers := make([]deadAnswer, len(items))
	for i := range items {
		answers[i] = confirm(&records[i], leaves[i], &items[i], base, g.verdict, now)
	}
	return answers, nil
}

func (r *Repair) servePurge(_ context.Context, from rpc.Peer, req *purgeRequest) (*purgeResponse, error) {
	if err := r.between(from, req.Partition); err != nil {
		return nil, err
	}
	gone, err := r.purgeHere(req.Partition, req.Items, req.Now)
	if r.changedSince(req.Partition, req.Epoch) {
		r.oweAll(req.Partition, ring.NodeID{})
	}
	if err != nil {
		return nil, err
	}
	return &purgeResponse{gone}, nil
}

// changedSince says that the homes of a partition, or what moves, are not those of an
// epoch any more: somebody may hold it who was not asked.
func (r *Repair) changedSince(p ring.Partition, epoch uint64) bool {
	rec := r.current()
	return rec != nil && epoch < rec.Since[p]
}

// purgingMax is how many purges wait for the disk at once: they share its batches.
const purgingMax = 256

// purgeHere removes dead records here, and says which are gone. One that has changed
// meanwhile stays. A time that has not come yet by this node's clock is put back.
func (r *Repair) purgeHere(p ring.Partition, items []purgedKey, now uint64) ([]bool, error) {
	now = min(now, r.deadBy())
	gone := make([]bool, 0, len(items))
	var failed error
	for some := range slices.Chunk(items, purgingMax) {
		records := make([]store.Purged, len(some))
		for i := range some {
			records[i] = store.Purged{Key: some[i].Key, Leaf: some[i].Leaf}
		}
		done := make([]bool, len(some))
		if failed == nil {
			done, failed = r.cfg.Store.PurgeAll(p, records, now)
		}
		gone = append(gone, done...)
	}
	for _, done := range gone {
		if done {
			r.forgotten.Add(1)
		}
	}
	if failed != nil {
		return gone, fmt.Errorf("purge in partition %d: %w", p, failed)
	}
	return gone, nil
}
