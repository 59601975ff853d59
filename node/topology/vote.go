package topology

import (
	"bytes"
	"context"
	"fmt"

	"github.com/kithdb/kith/paxos"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

func (t *Topology) serveVote(ctx context.Context, from rpc.Peer, req *voteRequest) (*voteResponse, error) {
	if from.ID.IsZero() {
		return nil, errClient
	}
	reply, err := t.vote(ctx, req)
	if err != nil {
		return nil, err
	}
	return &voteResponse{reply}, nil
}

// vote answers a prepare or an accept. What it promises is on disk before it
// returns.
func (t *Topology) vote(ctx context.Context, req *voteRequest) (paxos.Reply, error) {
	base := t.recordOf(req.Base)
	if base == nil {
		var err error
		if base, err = ring.Decode(req.Base); err != nil {
			return paxos.Reply{}, fmt.Errorf("%w: %w", ErrBadProposal, err)
		}
	}
	if base.Epoch+1 != req.Register {
		return paxos.Reply{}, fmt.Errorf("%w: register %d on a record of epoch %d", ErrBadProposal, req.Register, base.Epoch)
	}
	if err := t.writing.take(ctx); err != nil {
		return paxos.Reply{}, err
	}
	defer t.writing.give()
	if judge(t.cfg.Self.ID, t.Current(), req.Register) == behind {
		if err := t.adopt(&decided{base, bytes.Clone(req.Base)}); err != nil {
			return paxos.Reply{}, err
		}
	}
	held := t.held.Load()
	if held.record.Cluster != base.Cluster {
		return paxos.Reply{}, fmt.Errorf("%w: the proposal is for cluster %s, this node is of %s", ErrOtherCluster, base.Cluster, held.record.Cluster)
	}
	switch judge(t.cfg.Self.ID, held.record, req.Register) {
	case answers:
		return paxos.Reply{Decided: held.encoded}, nil
	case votes:
		if !bytes.Equal(req.Base, held.encoded) {
			return paxos.Reply{}, fmt.Errorf("%w: two records of epoch %d", ErrDiverged, base.Epoch)
		}
		return t.voteOn(held.record, req)
	}
	return paxos.Reply{}, fmt.Errorf("%w: %s, epoch %d", ErrNotKeeper, t.cfg.Self.ID, base.Epoch)
}

// voteOn runs the acceptor of the register after held.
func (t *Topology) voteOn(held *ring.Record, req *voteRequest) (paxos.Reply, error) {
	if err := t.mayVote(); err != nil {
		return paxos.Reply{}, err
	}
	if t.pledged.Load().binds(held) {
		return paxos.Reply{}, fmt.Errorf("%w: this keeper has agreed to force the ring after epoch %d, and votes again when that is done: repeat kith ring force-epoch", ErrPledged, held.Epoch)
	}
	stored, err := t.cfg.Disk.Meta(metaCell)
	if err != nil {
		return paxos.Reply{}, fmt.Errorf("read the acceptor's cell: %w", err)
	}
	reply, store, err := poll(held, stored, req)
	if err != nil || !reply.OK {
		return reply, err
	}
	if err := t.cfg.Disk.SetMeta(metaCell, store); err != nil {
		return paxos.Reply{}, fmt.Errorf("store the acceptor's cell: %w", err)
	}
	return reply, nil
}

// keeper is one acceptor of the register after a record, here or elsewhere.
type keeper struct {
	*Topology
	id   ring.NodeID
	base *decided
}

// keepers are the acceptors of the register after base.
func (t *Topology) keepers(base *decided) []paxos.Acceptor {
	acceptors := make([]paxos.Acceptor, len(base.record.Keepers))
	for i, id := range base.record.Keepers {
		acceptors[i] = &keeper{t, id, base}
	}
	return acceptors
}

func (k *keeper) Prepare(ctx context.Context, b paxos.Ballot) (paxos.Reply, error) {
	return k.ask(ctx, &voteRequest{Ballot: b})
}

func (k *keeper) Accept(ctx context.Context, b paxos.Ballot, value []byte) (paxos.Reply, error) {
	return k.ask(ctx, &voteRequest{Accept: true, Ballot: b, Value: value})
}

func (k *keeper) ask(ctx context.Context, req *voteRequest) (paxos.Reply, error) {
	req.Register, req.Base = k.base.record.Epoch+1, k.base.encoded
	if k.id == k.cfg.Self.ID {
		return k.vote(ctx, req)
	}
	to, err := k.peer(k.id)
	if err != nil {
		return paxos.Reply{}, err
	}
	resp, err := voteRoute.Call(ctx, k.cfg.Transport, to, req)
	if err != nil {
		return paxos.Reply{}, fmt.Errorf("keeper %s: %w", k.id.Short(), err)
	}
	return resp.Reply, nil
}

// peer finds where a member listens.
func (t *Topology) peer(id ring.NodeID) (rpc.Peer, error) {
	p := t.cfg.Membership.View().Peer(id)
	if p == nil || p.RPCAddr == "" {
		return rpc.Peer{}, fmt.Errorf("member %s: no address known: %w", id.Short(), rpc.ErrUnreachable)
	}
	return rpc.Peer{ID: id, Addr: p.RPCAddr}, nil
}
