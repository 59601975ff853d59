package topology

import (
	"context"
	"fmt"

	"github.com/kithdb/kith/paxos"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

func (t *Topology) serveSurvive(ctx context.Context, from rpc.Peer, req *surviveRequest) (*surviveResponse, error) {
	if from.ID.IsZero() {
		return nil, errClient
	}
	return t.survive(ctx, req)
}

// survive takes one step in the forced register that comes next here. What it promises
// is on disk before it returns.
func (t *Topology) survive(ctx context.Context, req *surviveRequest) (*surviveResponse, error) {
	if err := t.writing.take(ctx); err != nil {
		return nil, err
	}
	defer t.writing.give()
	held := t.held.Load()
	if held == nil {
		return nil, ErrNotJoined
	}
	if held.record.Cluster != req.Cluster {
		return nil, fmt.Errorf("%w: you are of %s, this node is of %s", ErrOtherCluster, req.Cluster, held.record.Cluster)
	}
	// Whoever may have forgotten a vote may have forgotten this, too.
	if err := t.mayVote(); err != nil {
		return nil, err
	}
	pledged, ok := t.pledged.Load(), true
	if req.Step != stepLook {
		reply, store, err := pledged.ballot(t.cfg.Self.ID, held.record, req)
		if err != nil {
			return nil, err
		}
		if ok = reply.OK; ok {
			if err := t.cfg.Disk.SetMeta(metaPledge, store.encode()); err != nil {
				return nil, fmt.Errorf("store the pledge: %w", err)
			}
			pledged = &store
			t.pledged.Store(pledged)
		}
	}
	vote, err := t.votedFor(held.record)
	if err != nil {
		return nil, err
	}
	now := pledged.next(held.record)
	return &surviveResponse{
		OK: ok, Record: held.encoded, Vote: vote.Accepted, Voted: vote.Value,
		Promised: now.cell.Promised, Accepted: now.cell.Accepted, Value: now.cell.Value, Bound: pledged.binds(held.record),
	}, nil
}

// votedFor is this node's cell in the ordinary register after a record.
func (t *Topology) votedFor(held *ring.Record) (paxos.Cell, error) {
	stored, err := t.cfg.Disk.Meta(metaCell)
	if err != nil {
		return paxos.Cell{}, fmt.Errorf("read the acceptor's cell: %w", err)
	}
	return cellOf(stored, held.Epoch+1)
}

// loadPledge reads what this node has promised before. One that cannot be read is as one
// that was lost.
func (t *Topology) loadPledge() error {
	stored, err := t.cfg.Disk.Meta(metaPledge)
	if err != nil || len(stored) == 0 {
		return err
	}
	p, err := parsePledge(stored)
	if err != nil {
		return err
	}
	t.pledged.Store(p)
	return nil
}
