package store

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// ErrEra: clocks were emptied, or the files opened anew, since the era of the
// caller: what it has read or merged since then counts for nothing.
var ErrEra = errors.New("clocks were emptied meanwhile")

// Incorporate claims dots whose effects were merged from a home that claims them,
// if the partition's clock was not emptied since Era, or EraOf, was era; else it fails
// with ErrEra. It returns when the merges that
// were queued before it are on disk, and then the clock claims the dots, but for
// those that are beyond its bounds.
//
// All that the clock claims is on disk then too. Else a crash takes the claims of
// the last seconds, which is harmless until others rely on them: who confirms to
// another home what its bases cover calls it first, without dots.
func (s *Store) Incorporate(p ring.Partition, dots DotSet, era uint64) error {
	if err := checkPartition(p); err != nil {
		return err
	}
	if err := dots.check(); err != nil {
		return err
	}
	return s.do(&control{claim: &claim{partition: p, era: era, dots: dots}})
}

func (c *committer) applyClaim(claim *claim) error {
	if c.drops.busy(claim.partition) {
		return fmt.Errorf("%w: partition %d", ErrDropping, claim.partition)
	}
	if err := c.checkEra(claim); err != nil {
		return err
	}
	c.building.claims = append(c.building.claims, claim)
	c.building.withClock(claim.partition)
	own := c.actors.current(claim.partition)
	for _, dots := range claim.dots {
		if n := len(dots.Ranges); dots.Actor == own.actor && dots.Ranges[n-1].Last > own.last {
			c.disown(claim.partition, dots.Ranges[n-1].Last)
		}
	}
	return nil
}

func (c *committer) checkEra(claim *claim) error {
	if now := c.clocks.eraOf(claim.partition); now > claim.era {
		return emptiedSince(claim, now)
	}
	return nil
}

func emptiedSince(claim *claim, now uint64) error {
	return fmt.Errorf("%w: partition %d: era %d, now %d", ErrEra, claim.partition, claim.era, now)
}

// underClaim says that a batch that is not yet on disk claims the dot.
func (c *committer) underClaim(p ring.Partition, d version.Dot) bool {
	has := func(claim *claim) bool { return claim.partition == p && claim.dots.Has(d) }
	return slices.ContainsFunc(c.building.claims, has) || c.writing != nil && slices.ContainsFunc(c.writing.claims, has)
}

// publishClaims adds to the clocks what the operations of a synced batch claim
// beyond its records. c.clocks.mu is held.
func (c *committer) publishClaims(ops []item) {
	for _, op := range ops {
		switch {
		case op.merge != nil && op.merge.link.claims:
			m := op.merge
			c.clocks.incorporated(m.Partition, &m.Record, c.actors.current(m.Partition).actor, loggedAs{bytes: m.link.key})
		case op.ctl != nil && op.ctl.claim != nil:
			if claim := op.ctl.claim; !c.clocks.claimAll(claim.partition, claim.dots, claim.era) && op.ctl.ending == nil {
				op.ctl.err = emptiedSince(claim, c.clocks.eraIn(claim.partition))
			}
			if op.ctl.ending != nil {
				c.publishEnding(op.ctl.ending)
			}
		}
	}
}

// Repaired says that the partition holds again what was lost, if its clock was not
// emptied since Era, or EraOf, was era: a loss in it since then fails it with ErrEra. It returns when that is on disk.
// The losses of a store are over, and no longer named, once no partition of the
// ring is lossy.
func (s *Store) Repaired(p ring.Partition, era uint64) error {
	if err := checkPartition(p); err != nil {
		return err
	}
	return s.do(&control{repaired: &claim{partition: p, era: era}})
}

func (c *committer) applyRepaired(r *claim) error {
	if c.drops.busy(r.partition) {
		return fmt.Errorf("%w: partition %d", ErrDropping, r.partition)
	}
	before := c.vouch.known()
	left, err := c.vouch.repaired(r.partition, r.era)
	if err != nil || left == nil {
		return err
	}
	c.rebuildTree(r.partition)
	c.building.put([]byte(metaLosses), left)
	if after := c.vouch.known(); after.none() {
		c.logger.Info("all that was lost has been repaired", "losses", before.Sentences)
	}
	return nil
}
