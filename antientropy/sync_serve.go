package antientropy

import (
	"bytes"
	"context"
	"fmt"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
)

// What a member does for one that pulls a partition from it for a move.

func (r *Repair) registerSync(m *rpc.Mux) {
	syncRoute.Handle(m, rpc.ClassHome, r.serveSync)
}

// serveSync begins a pull or gives a page of it. Whoever has an answer knows that from
// before it was made on, this member takes part in nothing of the partition that is
// older than the request's epoch: it holds a record of that epoch durably. The fence
// is checked again after the reading: what a newer record had dropped may be missing
// from it. A member that has lost something of the partition gives no answer.
func (r *Repair) serveSync(ctx context.Context, from rpc.Peer, req *syncRequest) (*syncResponse, error) {
	if rec := r.cfg.Rings.Current(); rec == nil || rec.Epoch < req.Epoch {
		if err := r.cfg.Rings.Learn(ctx, from, req.Epoch); err != nil {
			return nil, fmt.Errorf("%w: %w", api.ErrNotReady, err)
		}
	}
	s, p := r.cfg.Store, req.Partition
	if err := r.underMove(p, req.Epoch, from.ID); err != nil {
		return nil, err
	}
	era := s.EraOf(p)
	told := era ^ r.nonce
	if req.Era != 0 && req.Era != told {
		return nil, fmt.Errorf("%w: partition %d: the pull began in era %x, and this is era %x", api.ErrNotReady, p, req.Era, told)
	}
	var resp *syncResponse
	var err error
	if req.Era == 0 {
		resp, err = r.beginSync(p, era)
	} else {
		resp, err = r.syncPage(ctx, req)
	}
	if err != nil {
		return nil, fmt.Errorf("reading partition %d: %w", p, err)
	}
	resp.Era = told
	if err := r.underMove(p, req.Epoch, from.ID); err != nil {
		return nil, err
	}
	if s.EraOf(p) != era {
		return nil, fmt.Errorf("%w: something of partition %d was lost while it was read", api.ErrNotReady, p)
	}
	return resp, nil
}

// underMove says why this node does not give a partition to another member under an
// epoch; nil if it does.
func (r *Repair) underMove(p ring.Partition, epoch uint64, to ring.NodeID) error {
	if !r.cfg.Store.CountsForRead(p) {
		return fmt.Errorf("%w: partition %d", api.ErrLossy, p)
	}
	rec := r.current() // before the fence: one that comes after it is not this record's
	if fence := r.cfg.Store.Fence(p); epoch < fence {
		return fmt.Errorf("%w: partition %d is fenced at epoch %d, the pull is under %d", api.ErrFenced, p, fence, epoch)
	}
	return movable(rec, p, epoch, r.cfg.Self, to)
}

// movable says why one member cannot pull a partition from another one under an epoch.
func movable(rec *ring.Record, p ring.Partition, epoch uint64, members ...ring.NodeID) error {
	if rec == nil {
		return fmt.Errorf("%w: no ring record", api.ErrNotReady)
	}
	if int(p) >= rec.Partitions {
		return fmt.Errorf("%w: partition %d, want 0 to %d", api.ErrBadRequest, p, rec.Partitions-1)
	}
	if since := rec.Since[p]; since != epoch {
		return fmt.Errorf("%w: partition %d changed at epoch %d, the pull is under %d", api.ErrFenced, p, since, epoch)
	}
	for _, id := range members {
		if !rec.Holds(p, id) {
			return fmt.Errorf("%w: %s does not hold partition %d at epoch %d", api.ErrNotHome, id.Short(), p, rec.Epoch)
		}
	}
	return nil
}

// beginSync tells the clock, once all that was merged before is on disk, and claimed:
// who pulls by it misses nothing that was acknowledged.
func (r *Repair) beginSync(p ring.Partition, era uint64) (*syncResponse, error) {
	s := r.cfg.Store
	if err := s.Incorporate(p, nil, era); err != nil {
		return nil, err
	}
	resp := &syncResponse{Clock: s.ClockOf(p), Of: r.keysAbout()}
	// The clock before the ends: what it claims as void, they show.
	resp.Ends, _ = closedSince(s, p, 0)
	return resp, nil
}

// keysAbout is about how many keys a partition has here, 0 for unknown.
func (r *Repair) keysAbout() uint64 {
	m, ok := r.cfg.Store.(measured)
	rec := r.current()
	if !ok || rec == nil {
		return 0
	}
	held := uint64(rec.HomeCount(r.cfg.Self))
	for i := range rec.Moves {
		if m := &rec.Moves[i]; m.To == r.cfg.Self && m.Phase > ring.PhasePlan {
			held++
		}
	}
	if held == 0 {
		return 0
	}
	return (uint64(max(0, m.Stats().Keys)) + held - 1) / held
}

// syncPage reads one page: by the dot log, or all records where none are wanted or the
// log does not know all of them.
func (r *Repair) syncPage(ctx context.Context, req *syncRequest) (*syncResponse, error) {
	s, p := r.cfg.Store, req.Partition
	page := &pullPage{store: s, p: p, have: &req.Have, most: r.pace.pageMax(), resp: new(pullResponse)}
	scan := len(req.Want) == 0
	if !scan {
		logged, unknown, err := s.KeysOf(p, req.Want)
		if err != nil {
			return nil, err
		}
		page.logged = keysBehind(logged, req.After)
		scan = len(unknown) > 0
	}
	var err error
	if scan {
		err = page.scan(ctx, req.After)
	} else {
		err = page.look(ctx)
	}
	if err != nil {
		return nil, err
	}
	got := page.resp
	return &syncResponse{Items: got.Items, Next: got.Next, Done: got.Done, Scanned: scan, Hidden: got.Hidden}, nil
}

// keysBehind are those of some logged keys, in order, that come behind a key.
func keysBehind(logged []store.LoggedKey, after []byte) []store.LoggedKey {
	var out []store.LoggedKey
	for i := range logged {
		if bytes.Compare(logged[i].Key, after) > 0 {
			out = append(out, logged[i])
		}
	}
	return out
}
