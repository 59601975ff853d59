package store

import (
	"fmt"
	"slices"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// applyMerge folds a record into the stored one. What changes nothing is
// acknowledged with the commit that made it redundant.
//
// Whatever becomes of the record, its dots are incorporated: they are stored, or
// something that replaced them is or was. Two merges that overtake each other
// would else leave a hole in the clock for ever.
func (c *committer) applyMerge(m *Merge) {
	if fence := c.fences[m.Partition].Load(); m.Epoch != 0 && m.Epoch < fence {
		c.complete(item{merge: m}, fmt.Errorf("%w: partition %d: %d < %d", ErrFenced, m.Partition, m.Epoch, fence))
		return
	}
	if err := c.drops.intact(m.Partition, m.link.mark); err != nil {
		c.complete(item{merge: m}, err)
		return
	}
	prev, in, err := c.lookup(m.Partition, &m.link)
	if err != nil {
		c.complete(item{merge: m}, err)
		return
	}
	if err := c.ended(m.Partition, &m.Record, &prev.rec); err != nil {
		c.complete(item{merge: m}, err)
		return
	}
	c.checkOwn(m.Partition, m.Base)
	stored := judged(m, &prev.rec)
	if len(stored.Siblings) == len(prev.rec.Siblings) && prev.rec.Dominates(&m.Record) {
		c.redundant(m, in)
		return
	}
	c.checkOwn(m.Partition, m.Record.Seen)
	incoming := c.filled(m, &prev.rec)
	if len(stored.Siblings) == len(prev.rec.Siblings) && prev.rec.Dominates(&incoming) {
		c.redundant(m, in) // as it was when what is dropped came last
		return
	}
	next, seen, err := c.merged(m, prev, incoming, stored)
	switch {
	case err != nil:
		c.complete(item{merge: m}, err)
		return
	case next == nil && prev.absent() && in == nil:
		c.redundant(m, nil)
		return
	case next == nil:
		c.remove(m.Partition, &m.link, prev, seen)
	default:
		if prev.absent() {
			c.building.newKeys++
		}
		c.building.putRecord(m.Partition, m.link.hash, next, prev)
	}
	m.link.claims = true
	c.building.ops = append(c.building.ops, item{merge: m})
}

// redundant acknowledges a merge that changes nothing with the batch that made it
// so; nil is what is committed already.
func (c *committer) redundant(m *Merge, in *batch) {
	if in == nil {
		c.clocks.found(m.Partition, &m.Record, c.actors.current(m.Partition).actor, loggedAs{bytes: m.link.key})
		c.complete(item{merge: m}, nil)
		return
	}
	m.link.claims = true
	in.ops = append(in.ops, item{merge: m})
}

// judged is the stored record without the siblings that the sender's verdict
// takes away: it has incorporated them, and holds them no longer, and it was weighed
// against them.
func judged(m *Merge, stored *version.Record) version.Record {
	if !m.Verdict {
		return *stored
	}
	return without(stored, func(s *version.Sibling) bool {
		return m.Base.Covers(s.Dot) && slices.Contains(m.Judged, s.Dot) && !holds(&m.Record, s.Dot)
	})
}

// filled is what is left of a merge's record beside what this store claims and no
// longer holds.
func (c *committer) filled(m *Merge, stored *version.Record) version.Record {
	c.clocks.mu.Lock()
	defer c.clocks.mu.Unlock()
	clock := c.clocks.byID[m.Partition]
	return Fill(stored, &m.Record, func(d version.Dot) bool {
		return clock != nil && clock.Has(d) || c.underClaim(m.Partition, d)
	})
}

// merged is the record after a merge that changes something, and what it has
// seen. It is nil if no sibling is left. incoming and stored are what is left of
// both records.
func (c *committer) merged(m *Merge, prev *entry, incoming, stored version.Record) (*entry, version.Context, error) {
	whole := len(m.Record.Siblings) > 0 && len(incoming.Siblings) == len(m.Record.Siblings)
	if whole && m.Record.Dominates(&stored) {
		// The other home's bytes are ours.
		rec := m.Record
		rec.Seen = slices.Clone(rec.Seen)
		rec.Siblings = slices.Clone(rec.Siblings)
		return adopt(&m.link, prev, rec, slices.Clone(m.Encoded)), nil, nil
	}
	if len(stored.Siblings) > 0 {
		full, err := c.withValues(m.Partition, &m.link, prev, m.Record.Seen)
		if err != nil {
			return nil, nil, err
		}
		stored = judged(m, &full.rec)
	}
	rec := version.Merge(incoming, stored)
	if len(rec.Siblings) == 0 {
		return nil, rec.Seen, nil
	}
	if err := checkBounds(&rec); err != nil {
		return nil, nil, err
	}
	rec.Key = m.Record.Key
	next, err := c.encode(&m.link, prev, rec)
	return next, nil, err
}

// checkOwn gives up the partition's actor if what came from elsewhere names a dot
// of it that it has not minted: its next dots would be taken for seen.
func (c *committer) checkOwn(p ring.Partition, seen version.Context) {
	own := c.actors.current(p)
	if own.actor == 0 {
		return
	}
	if n := seen.Max(own.actor); n > own.last {
		c.disown(p, n)
	}
}

func (c *committer) disown(p ring.Partition, seen uint64) {
	c.logger.Error("another home names dots of this store that it has not minted; drawing a new actor",
		"partition", p, "seen", seen, "minted", c.actors.current(p).last)
	c.actors.retire(p)
}
