package topology

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

// pullMax is how long one peer may take to answer with its record.
const pullMax = 3 * time.Second

// Adopt makes a decided record this node's own, durably and with its fences. One
// that is not newer than what the node holds changes nothing; one of another
// cluster is refused with ErrOtherCluster. Only decided records may be given:
// from a peer that holds it, or from a register.
func (t *Topology) Adopt(ctx context.Context, encoded []byte) error {
	if t.recordOf(encoded) != nil {
		return nil
	}
	r, err := ring.Decode(encoded)
	if err != nil {
		return fmt.Errorf("adopt a ring record: %w", err)
	}
	if err := t.writing.take(ctx); err != nil {
		return fmt.Errorf("adopt ring epoch %d: %w", r.Epoch, err)
	}
	defer t.writing.give()
	return t.adopt(&decided{r, bytes.Clone(encoded)})
}

// recordOf is the record that this node holds if that is its encoding, else nil: every
// proposal brings the record that it is built on, which needs not be read again.
func (t *Topology) recordOf(encoded []byte) *ring.Record {
	if held := t.held.Load(); held != nil && bytes.Equal(held.encoded, encoded) {
		return held.record
	}
	return nil
}

// adopt is Adopt in the turn to write.
func (t *Topology) adopt(next *decided) error {
	held := t.Current()
	news, err := mayReplace(held, t.cfg.Cluster, next.record)
	if err == nil && news && held != nil {
		err = t.pledged.Load().adopts(held, next.record)
	}
	if err != nil {
		t.parted.note(t.log, err)
		return fmt.Errorf("adopt ring epoch %d: %w", next.record.Epoch, err)
	}
	if !news {
		return nil
	}
	since := next.record.Since
	drops := t.cleared(next.record)
	err = t.cfg.Disk.Adopt(next.encoded, func(p ring.Partition) uint64 { return since[p] }, next.record.Partitions, drops)
	if err != nil {
		return fmt.Errorf("store ring epoch %d: %w", next.record.Epoch, err)
	}
	if endsLeave(held, next.record, t.cfg.Self.ID, t.goes.Load()) {
		t.left.Store(true)
	}
	if m := next.record.Member(t.cfg.Self.ID); m != nil && m.State != ring.Leaving {
		t.goes.Store(false)
	}
	t.held.Store(next)
	t.changed.call()
	t.wasForced(held, next.record)
	t.log.Info("ring record adopted", "epoch", next.record.Epoch, "cluster", next.record.Cluster, "members", len(next.record.Members))
	if len(drops) > 0 {
		t.log.Info("what is not kept here is dropped", "epoch", next.record.Epoch, "partitions", len(drops))
	}
	return nil
}

// endsLeave says that a leave has come to its planned end: the member had handed over all
// that it had, and the very next record lets it go; or a later one, if it had asked for
// that itself. It does once nobody needs anything of it.
func endsLeave(held, next *ring.Record, id ring.NodeID, asked bool) bool {
	if held == nil || next.Epoch != held.Epoch+1 && !asked || !next.IsBanned(id) {
		return false
	}
	m := held.Member(id)
	return m != nil && m.State == ring.Leaving && held.HomeCount(id) == 0
}

// Left says that this node is no member any more because it has left, as was asked for,
// and has nothing that others lack.
func (t *Topology) Left() bool { return t.left.Load() }

// drops are the partitions of which this node must forget everything as it adopts a
// record in the place of the one that it holds.
func (t *Topology) drops(next *ring.Record) (drops []ring.Partition) {
	held := t.Current()
	if held == nil {
		return nil
	}
	for p := range ring.Partition(next.Partitions) {
		if next.Drops(held, p, t.cfg.Self.ID) {
			drops = append(drops, p)
		}
	}
	return drops
}

// Learn pulls the record from a peer until this node holds one of at least that
// epoch. A request that names a newer epoch than ours calls it before it is
// served, with the peer that it came from.
func (t *Topology) Learn(ctx context.Context, from rpc.Peer, epoch uint64) error {
	if t.holds(epoch) {
		return nil
	}
	defer t.aside(ctx, time.Now(), from.ID)
	queued := t.lessons.Load()
	if err := t.learning.take(ctx); err != nil {
		return fmt.Errorf("learn ring epoch %d: %w", epoch, err)
	}
	defer t.learning.give()
	if t.holds(epoch) { // the first of many pulled for all
		return nil
	}
	if l := &t.lesson; t.lessons.Load() != queued && l.err != nil && l.from == from.ID && l.epoch <= epoch {
		return l.err // and failed for all
	}
	var errs []error
	for _, peer := range t.sources(from, epoch) {
		if err := t.pull(ctx, peer); err != nil {
			errs = append(errs, err)
		}
		if t.holds(epoch) || ctx.Err() != nil {
			break
		}
	}
	t.lesson = lesson{from: from.ID, epoch: epoch}
	t.lessons.Add(1)
	if t.holds(epoch) {
		return nil
	}
	err := fmt.Errorf("learn ring epoch %d: %w", epoch, errors.Join(append(errs, ctx.Err())...))
	if ctx.Err() == nil { // an impatient caller says nothing about the peer
		t.lesson.err = err
	}
	return err
}

// lesson is how the last pulls of Learn ended.
type lesson struct {
	from  ring.NodeID
	epoch uint64
	err   error
}

func (t *Topology) holds(epoch uint64) bool {
	r := t.Current()
	return r != nil && r.Epoch >= epoch
}

// sourcesMax is how many peers Learn asks at most.
const sourcesMax = 4

// sources are the peer itself, where it listens, and then others who say that
// they hold the epoch.
func (t *Topology) sources(from rpc.Peer, epoch uint64) []rpc.Peer {
	view := t.cfg.Membership.View()
	// A connection that came in does not tell where its peer listens.
	if p := view.Peer(from.ID); p != nil && p.RPCAddr != "" {
		from.Addr = p.RPCAddr
	}
	peers := []rpc.Peer{from}
	for _, p := range view.Peers {
		if len(peers) < sourcesMax && p.Alive && p.State.Epoch >= epoch && p.RPCAddr != "" && p.ID != from.ID && p.ID != t.cfg.Self.ID {
			peers = append(peers, rpc.Peer{ID: p.ID, Addr: p.RPCAddr})
		}
	}
	return peers
}

// pull asks one peer for its record and adopts it if it is newer.
func (t *Topology) pull(ctx context.Context, from rpc.Peer) error {
	ctx, cancel := context.WithTimeout(ctx, pullMax)
	defer cancel()
	req := &pullRequest{}
	if r := t.Current(); r != nil {
		req.Cluster, req.Epoch = r.Cluster, r.Epoch
	}
	resp, err := pullRoute.Call(ctx, t.cfg.Transport, from, req)
	if err != nil {
		return fmt.Errorf("pull the ring record from %s: %w", from.Addr, err)
	}
	if len(resp.Record) == 0 {
		return fmt.Errorf("pull the ring record from %s: it holds no newer one than epoch %d", from.Addr, resp.Epoch)
	}
	if err := t.Adopt(ctx, resp.Record); err != nil {
		if errors.Is(err, ring.ErrSplit) && t.parted.tells() {
			t.tellOne(ctx, from.ID, t.held.Load()) // so that it is heard of on both sides
		}
		return fmt.Errorf("pull the ring record from %s: %w", from.Addr, err)
	}
	return nil
}

func (t *Topology) servePull(ctx context.Context, _ rpc.Peer, req *pullRequest) (*pullResponse, error) {
	h := t.held.Load()
	if h == nil {
		return nil, ErrNotJoined
	}
	if h.record.Epoch <= req.Epoch {
		// The store may refuse by a record that is on its way into this memory,
		// and who was refused asks for that one: it waits for its adoption.
		if err := t.writing.take(ctx); err != nil {
			return nil, err
		}
		t.writing.give()
		h = t.held.Load()
	}
	if !req.Cluster.IsZero() && req.Cluster != h.record.Cluster {
		return nil, fmt.Errorf("%w: you are of %s, this node is of %s", ErrOtherCluster, req.Cluster, h.record.Cluster)
	}
	resp := &pullResponse{Epoch: h.record.Epoch}
	if h.record.Epoch > req.Epoch {
		resp.Record = h.encoded
	}
	return resp, nil
}

func (t *Topology) serveTell(ctx context.Context, from rpc.Peer, req *tellRequest) (*tellResponse, error) {
	if from.ID.IsZero() {
		return nil, errClient
	}
	if err := t.Adopt(ctx, req.Record); err != nil {
		return nil, err
	}
	return &tellResponse{Epoch: t.Current().Epoch}, nil
}

// Register adds this conversation's routes to a node's.
func (t *Topology) Register(mux *rpc.Mux) {
	pullRoute.Handle(mux, rpc.ClassControl, t.servePull)
	tellRoute.Handle(mux, rpc.ClassControl, t.serveTell)
	voteRoute.Handle(mux, rpc.ClassControl, t.serveVote)
	seesRoute.Handle(mux, rpc.ClassControl, t.serveSees)
	surviveRoute.Handle(mux, rpc.ClassControl, t.serveSurvive)
}
