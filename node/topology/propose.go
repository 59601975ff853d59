package topology

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kithdb/kith/paxos"
	"github.com/kithdb/kith/ring"
)

const (
	// tellMax is how long a keeper may take to store a decided record.
	tellMax = 2 * time.Second
	// tellPause is how long a keeper that failed is left alone.
	tellPause = 250 * time.Millisecond
)

// Propose gets a change decided. change is given a decided record and returns
// its successor, or the record itself where the change stands in it already; it
// may be called many times, each time with a newer record, because others'
// changes are decided too, but not once it was decided itself. Propose returns the
// decided record in which the change stands, once this node and a majority of that
// record's keepers store it or a newer one. It tries until ctx ends.
//
// After an error of change nothing was proposed for it. After ErrUnconfirmed the
// change stands. After a *paxos.UndecidedError with Sent it may still come to
// stand.
func (t *Topology) Propose(ctx context.Context, change func(*ring.Record) (*ring.Record, error)) (*ring.Record, error) {
	if err := t.toPropose(ctx); err != nil {
		return nil, err
	}
	defer t.proposing.give()
	for {
		base := t.held.Load()
		if base == nil {
			return nil, ErrNotJoined
		}
		next, err := change(base.record)
		if err != nil {
			return nil, err
		}
		if next == nil || next.Digest() == base.record.Digest() {
			return base.record, t.confirm(ctx, base)
		}
		if err := next.Follows(base.record); err != nil {
			return nil, err
		}
		if next.IsBanned(t.cfg.Self.ID) {
			t.goes.Store(true)
		}
		own, err := t.decide(ctx, base, next)
		if err != nil {
			return nil, fmt.Errorf("propose ring epoch %d: %w", next.Epoch, err)
		}
		if own != nil {
			return own.record, t.confirm(ctx, own)
		}
	}
}

// decide makes the register after base decide, on next if it can, and adopts the
// outcome. It returns next if that is what was decided: it must not be proposed
// again, even if somebody has changed it since.
func (t *Topology) decide(ctx context.Context, base *decided, next *ring.Record) (own *decided, err error) {
	want := next.Encode()
	value, err := paxos.Propose(ctx, paxos.Node(t.cfg.Self.ID), t.keepers(base), want, t.chance)
	if err != nil {
		return nil, t.withMissing(base.record, err)
	}
	if err := t.Adopt(ctx, value); err != nil {
		return nil, err
	}
	if r := t.Current(); r.Epoch <= base.record.Epoch {
		// A keeper may answer with a later record, never with an older one.
		return nil, fmt.Errorf("%w: the register of epoch %d holds epoch %d", ErrDiverged, next.Epoch, r.Epoch)
	}
	if bytes.Equal(value, want) {
		return &decided{next, want}, nil
	}
	return nil, nil
}

// confirm returns when a majority of the record's keepers stores it or a newer
// one.
func (t *Topology) confirm(ctx context.Context, d *decided) error {
	stored := map[ring.NodeID]bool{}
	for {
		t.tell(ctx, d, stored)
		if len(stored) > len(d.record.Keepers)/2 {
			return nil
		}
		pause := time.NewTimer(tellPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return fmt.Errorf("%w: epoch %d is stored by %d of %d: %w",
				ErrUnconfirmed, d.record.Epoch, len(stored), len(d.record.Keepers), context.Cause(ctx))
		}
	}
}

// tell brings the record to its keepers, all at once, and notes who stores it. It
// returns when that is a majority, or when all have answered or failed.
func (t *Topology) tell(ctx context.Context, d *decided, stored map[ring.NodeID]bool) {
	type answer struct {
		id ring.NodeID
		ok bool
	}
	answers := make(chan answer, len(d.record.Keepers))
	var calls sync.WaitGroup
	defer calls.Wait()
	ctx, cancel := context.WithTimeout(ctx, tellMax)
	defer cancel()
	asked := 0
	for _, id := range d.record.Keepers {
		switch {
		case stored[id]:
		case id == t.cfg.Self.ID:
			stored[id] = true // what is held is durable
		default:
			asked++
			calls.Go(func() { answers <- answer{id, t.tellOne(ctx, id, d)} })
		}
	}
	for ; asked > 0 && len(stored) <= len(d.record.Keepers)/2; asked-- {
		if a := <-answers; a.ok {
			stored[a.id] = true
		}
	}
}

func (t *Topology) tellOne(ctx context.Context, id ring.NodeID, d *decided) bool {
	to, err := t.peer(id)
	if err != nil {
		return false
	}
	resp, err := tellRoute.Call(ctx, t.cfg.Transport, to, &tellRequest{d.encoded})
	if err != nil {
		t.log.Debug("keeper does not store the ring record yet", "keeper", id, "epoch", d.record.Epoch, "error", err)
		return false
	}
	return resp.Epoch >= d.record.Epoch
}

// join is the change that makes a node a member with its share of the slots. One that
// is a member already stays what it is.
func join(self ring.Member) func(*ring.Record) (*ring.Record, error) {
	return func(r *ring.Record) (*ring.Record, error) {
		if r.Member(self.ID) != nil {
			return r, nil
		}
		return r.WithJoin(self)
	}
}

// standby is the change that makes a node a member with no slots.
func standby(self ring.Member) func(*ring.Record) (*ring.Record, error) {
	return func(r *ring.Record) (*ring.Record, error) {
		if r.Member(self.ID) != nil {
			return r, nil
		}
		return r.WithStandby(self)
	}
}

// table is the change that founds the cluster with these members.
func table(members []ring.Member) func(*ring.Record) (*ring.Record, error) {
	return func(r *ring.Record) (*ring.Record, error) {
		if r.Founded() {
			return r, nil
		}
		return r.WithTable(members)
	}
}
