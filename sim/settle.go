package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/kithdb/kith/client"
)

const (
	// scrubMin is the shortest that a pass over a disk takes: what is rotten and
	// was not read by then is found.
	scrubMin = time.Minute
	// forgetMax is how long the driver of a partition may take until it has
	// looked at all deletes, once they are old enough.
	forgetMax = 30 * time.Second
)

// settle heals the cluster and lets it repair itself, checks the history against
// what is there then, and looks again when deletes were forgotten.
func (c *Cluster) settle(h *History, rots bool) error {
	if err := CheckQuorums(h, c.rings); err != nil {
		return err
	}
	healed := time.Now()
	if err := c.Heal(); err != nil {
		return err
	}
	h.GaveUp(c.left)
	if err := c.recover(); err != nil {
		return err
	}
	if err := c.serveAgain(); err != nil {
		return err
	}
	if err := c.CheckSettled(settledMax); err != nil {
		return err
	}
	if err := c.checkRings(); err != nil {
		return err
	}
	if rots {
		// What is rotten is found.
		for until := time.Now().Add(max(c.opts.Pace.Scrub, scrubMin) * 3 / 2); time.Now().Before(until); {
			rest(context.Background(), min(time.Until(until), boundsEvery))
			if err := c.CheckNotes(); err != nil {
				return err
			}
		}
	}
	if _, err := c.Converge(convergeMax); err != nil {
		return err
	}
	c.equalAfter = time.Since(healed)
	if err := c.CheckTrees(); err != nil {
		return err
	}
	if last := h.mortal(); !last.IsZero() {
		rest(context.Background(), time.Until(last.Add(mortalMax+lateMax))) // all have to be gone
	}
	k := newChecker(h)
	if err := c.checkFinal(k, "in the end"); err != nil {
		return err
	}
	return c.checkForgotten(k)
}

// serveAgain waits until a healed cluster is ready. A lost member that nobody replaces may
// be a home of what has no quorum without it: operators remove it. And nobody may be left
// to vote on that.
func (c *Cluster) serveAgain() error {
	for again := false; ; again = true {
		if err := c.regain(); err != nil {
			return err
		}
		err := c.waitReady(2*time.Minute, c.removeGhosts)
		if err == nil || again || c.voteLost() == nil { // that it is lost may be known by now
			return err
		}
	}
}

// checkFinal reads all keys everywhere and checks the history.
func (c *Cluster) checkFinal(k *checker, when string) error {
	final, err := c.final(k.history, client.All, time.Minute)
	if err == nil {
		err = k.check(final)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", when, err)
	}
	return nil
}

// checkForgotten lets deletes become old enough to be forgotten, and checks
// everything once more: what was forgotten must not come back.
func (c *Cluster) checkForgotten(k *checker) error {
	if !k.history.deletes() || c.opts.Pace.Forget == 0 {
		return nil
	}
	rest(context.Background(), c.opts.Pace.Forget+forgetMax)
	if _, err := c.Converge(convergeMax); err != nil {
		return fmt.Errorf("when deletes were forgotten: %w", err)
	}
	if err := c.CheckTrees(); err != nil {
		return fmt.Errorf("when deletes were forgotten: %w", err)
	}
	return c.checkFinal(k, "when deletes were forgotten")
}
