package topology

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
)

// A record is decided when a majority of keepers has accepted it, and its proposer tells
// them so. If that one ends first, nobody acts on what stands: of a member that left, only
// it may know that it was let go, and it never comes back to tell. So a keeper finishes a
// proposal that it has accepted and that nobody has finished for a while, as any other
// proposer does that finds it. And who has left stays until the keepers have the record
// that let it go.

const (
	// finishAfter is how long a proposal stays somebody else's to finish.
	finishAfter = 20 * time.Second
	// finishLook is the longest time between two looks.
	finishLook = 8 * time.Second
	// finishMax bounds one try. Changes of this node's own do not wait for it.
	finishMax = 5 * time.Second
	// farewellMax is how long a member that has left waits for the keepers.
	farewellMax = 10 * time.Second
)

// finish ends the proposals that nobody else ends, until ctx does.
func (t *Topology) finish(ctx context.Context) error {
	chance := t.generator("finish")
	var seen []byte
	var since time.Time
	for ctx.Err() == nil {
		pause(ctx, chance, finishLook)
		base := t.held.Load()
		value, err := t.unfinished(base)
		if err != nil {
			t.log.Debug("cannot look for proposals that nobody finishes", "error", err)
			continue
		}
		if value == nil || !bytes.Equal(value, seen) {
			seen, since = value, time.Now()
			continue
		}
		if time.Since(since) < finishAfter || ctx.Err() != nil {
			continue
		}
		if err := t.finishOnce(ctx, base, value); err != nil {
			t.log.Debug("cannot finish a proposal of another member yet", "epoch", base.record.Epoch+1, "error", err)
		}
		since = time.Now()
	}
	return nil
}

// unfinished is what this keeper has accepted in the register after a record, nil for
// nothing.
func (t *Topology) unfinished(base *decided) ([]byte, error) {
	if base == nil || !base.record.IsKeeper(t.cfg.Self.ID) {
		return nil, nil
	}
	cell, err := t.votedFor(base.record)
	if err != nil {
		return nil, err
	}
	return cell.Value, nil
}

func (t *Topology) finishOnce(ctx context.Context, base *decided, value []byte) error {
	ctx, cancel := context.WithTimeout(ctx, finishMax)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	wanted := t.wanted.next()
	if err := t.proposing.take(ctx); err != nil {
		return err
	}
	defer t.proposing.give()
	if t.held.Load() != base || t.wishes.Load() > 0 {
		return nil // somebody has, or does with a change of this node's own
	}
	watching.Go(func() {
		select {
		case <-wanted:
			cancel()
		case <-ctx.Done():
		}
	})
	next, err := successor(base.record, value)
	if err != nil {
		return err
	}
	own, err := t.decide(ctx, base, next)
	if err != nil || own == nil {
		return err
	}
	t.log.Info("a proposal was finished that its member had left open", "epoch", own.record.Epoch)
	return t.confirm(ctx, own)
}

// toPropose takes the turn to propose for a change that somebody waits for. What is being
// finished makes room for it: it is found by that change, too.
func (t *Topology) toPropose(ctx context.Context) error {
	t.wishes.Add(1)
	defer t.wishes.Add(-1)
	t.wanted.call()
	return t.proposing.take(ctx)
}

// farewell has the keepers of the record by which this node has left store it, as far as
// they can be reached soon.
func (t *Topology) farewell(ctx context.Context, ended error) {
	if !errors.Is(ended, ring.ErrBanned) || !t.Left() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, farewellMax)
	defer cancel()
	if err := t.confirm(ctx, t.held.Load()); err != nil {
		t.log.Warn("this member has left, and too few of those who vote on the ring have heard of it", "error", err)
	}
}
