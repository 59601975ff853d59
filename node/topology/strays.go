package topology

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

// Rot may bring back what was dropped: where deletions are lost with a damaged block,
// older data shows again, of partitions too that were moved away long ago. Nobody asks
// for it where it is. But if such a partition comes here once more, old records must not
// lie beside what is pulled: of some of them the deletion is forgotten by then. So this
// node looks for records of partitions that it does not keep when it starts, and whenever
// the files were opened anew, and drops them as a ring record does that moves a partition
// away. And a partition of which a move begins is emptied first.
//
// Rot may also bring an older ring record back, which knows nothing of what was moved here
// since. A node whose disk has ever lost metadata therefore sweeps by a record only once so
// many of the keepers have answered that they hold that very one that without them nothing
// is decided beyond the next. In one step nobody becomes a home that was none, but by taking
// a lost member's place.

const (
	// sweepEvery is the longest time between two looks: goleveldb may leave damaged
	// blocks out by itself, when a loss of everything is known.
	sweepEvery = 2 * time.Hour
	// sweepRetry is the longest time between a look that failed and the next one.
	sweepRetry = 4 * time.Second
)

// errNoSweep: there is nothing to sweep by until the ring record changes.
var errNoSweep = errors.New("this node has no place in the ring")

// sweep drops what rot has brought back, until ctx ends.
func (t *Topology) sweep(ctx context.Context) error {
	chance := t.generator("sweep")
	pause(ctx, chance, wakeMore)
	said := ""
	for ctx.Err() == nil {
		reopened, changed := t.cfg.Disk.Reopened(), t.Changed()
		err := t.sweepOnce(ctx)
		switch {
		case err == nil:
			said = ""
			pause(ctx, chance, sweepEvery, reopened, nil)
		case errors.Is(err, errNoSweep):
			pause(ctx, chance, sweepEvery, reopened, changed)
		default:
			if why := err.Error(); why != said && ctx.Err() == nil {
				said = why
				t.log.Warn("cannot look yet for records of partitions that are not kept here", "error", err)
			}
			pause(ctx, chance, sweepRetry, reopened, changed)
		}
	}
	return nil
}

// sweepOnce looks for records of partitions that this node does not keep, and drops
// them. A ring record that the disk has lost is put back.
func (t *Topology) sweepOnce(ctx context.Context) error {
	by := t.held.Load()
	if !t.mayStray(by) {
		return errNoSweep
	}
	strays, err := t.cfg.Disk.Strays(t.notKept(by.record))
	if err != nil {
		return err
	}
	if len(strays) > 0 {
		if err := t.Certain(ctx); err != nil {
			return err
		}
	}
	if err := t.writing.take(ctx); err != nil {
		return err
	}
	defer t.writing.give()
	if t.held.Load() != by {
		return errNoSweep // by that record any more
	}
	older, err := t.olderOnDisk(by)
	if err != nil || !older && len(strays) == 0 {
		return err
	}
	since := by.record.Since
	err = t.cfg.Disk.Adopt(by.encoded, func(p ring.Partition) uint64 { return since[p] }, by.record.Partitions, strays)
	if err != nil {
		return fmt.Errorf("store ring epoch %d once more: %w", by.record.Epoch, err)
	}
	if older {
		t.log.Warn("the disk had lost the ring record; it is stored once more", "epoch", by.record.Epoch)
	}
	if len(strays) > 0 {
		t.log.Warn("damage on disk has brought records back of partitions that are not kept here; they are dropped", "partitions", len(strays))
	}
	return nil
}

// notKept are the partitions of which this node should have nothing, sorted.
func (t *Topology) notKept(r *ring.Record) (out []ring.Partition) {
	for p := range ring.Partition(r.Partitions) {
		if !r.Holds(p, t.cfg.Self.ID) {
			out = append(out, p)
		}
	}
	return out
}

// mayStray says that a node with a record has its place in the ring: it is a member, and
// not about to take another one's place.
func (t *Topology) mayStray(d *decided) bool {
	if d == nil || !d.record.Founded() || d.record.Member(t.cfg.Self.ID) == nil {
		return false
	}
	return t.cfg.Replace == "" || !mayTakePlace(d.record, t.cfg.Self.ID, t.cfg.Replace)
}

// olderOnDisk says that the disk has an older record than this node, or none. It is an
// error if it has a newer one: an adoption has failed half-way, and comes again.
func (t *Topology) olderOnDisk(held *decided) (bool, error) {
	b, err := t.cfg.Disk.Meta(metaRing)
	if err != nil {
		return false, err
	}
	if bytes.Equal(b, held.encoded) {
		return false, nil
	}
	if r, err := ring.Decode(b); err == nil && r.Epoch >= held.record.Epoch {
		return false, fmt.Errorf("the disk has ring epoch %d, this node has adopted %d", r.Epoch, held.record.Epoch)
	}
	return true, nil
}

// Certain is nil if Current is not older than what this node has held before. That is so
// unless its disk has lost metadata; and then too once enough of the other keepers have
// answered in this process that they hold the same record: what has come since is in
// memory. It may ask them, for seconds, and learns what is newer.
func (t *Topology) Certain(ctx context.Context) error {
	lost := t.cfg.Lost()
	if lost == nil || t.sure.Load() {
		return nil
	}
	r := t.Current()
	if r == nil {
		return fmt.Errorf("%w: %w", ErrNotJoined, lost)
	}
	if err := t.askKeepers(ctx, r); err != nil {
		return fmt.Errorf("%w, and the ring record may be an older one: %w", lost, err)
	}
	t.sure.Store(true)
	return nil
}

// askKeepers is nil if so many of the other keepers hold a record that the rest of them are
// no majority. It asks all of them at once.
func (t *Topology) askKeepers(ctx context.Context, r *ring.Record) error {
	ctx, cancel := context.WithTimeout(ctx, pullMax)
	defer cancel()
	view, digest := t.cfg.Membership.View(), r.Digest()
	held, errs := make([]uint64, len(r.Keepers)), make([]error, len(r.Keepers))
	var calls sync.WaitGroup
	for i, id := range r.Keepers {
		if p := view.Peer(id); id != t.cfg.Self.ID && p != nil && p.RPCAddr != "" {
			calls.Go(func() { held[i], errs[i] = t.epochOf(ctx, rpc.Peer{ID: id, Addr: p.RPCAddr}, r) })
		}
	}
	calls.Wait()
	n := 0
	for i, epoch := range held {
		if epoch > r.Epoch {
			id := r.Keepers[i]
			return errors.Join(fmt.Errorf("member %s holds ring epoch %d", id.Short(), epoch),
				t.Learn(ctx, rpc.Peer{ID: id, Addr: view.Peer(id).RPCAddr}, epoch))
		}
		if epoch != r.Epoch {
			continue
		}
		if s := view.Peer(r.Keepers[i]).State; s.Epoch != epoch || s.Digest == [8]byte(digest[:8]) {
			n++ // and is not of another history
		}
	}
	if need := len(r.Keepers) - len(r.Keepers)/2; n < need {
		return errors.Join(append(errs, fmt.Errorf("%d of %d keepers hold epoch %d, want %d", n, len(r.Keepers), r.Epoch, need))...)
	}
	return nil
}

// epochOf asks a member for the epoch of the record that it holds now.
func (t *Topology) epochOf(ctx context.Context, from rpc.Peer, r *ring.Record) (uint64, error) {
	resp, err := pullRoute.Call(ctx, t.cfg.Transport, from, &pullRequest{Cluster: r.Cluster, Epoch: r.Epoch})
	if err != nil {
		return 0, fmt.Errorf("ask %s for its ring epoch: %w", from.Addr, err)
	}
	return resp.Epoch, nil
}

// begun are the partitions of which a record begins a move to this node, sorted, and of
// which it should have nothing, but those that it drops anyhow.
func (t *Topology) begun(next *ring.Record, dropped []ring.Partition) (begun []ring.Partition) {
	held, self := t.Current(), t.cfg.Self.ID
	for i := range next.Moves {
		m := &next.Moves[i]
		if m.To != self || m.Phase != ring.PhaseDual || held != nil && held.Holds(m.Partition, self) || slices.Contains(dropped, m.Partition) {
			continue
		}
		begun = append(begun, m.Partition)
	}
	slices.Sort(begun)
	return begun
}

// cleared are the partitions that are dropped with a record: those that it takes away,
// and those of which it begins a move to this node, where there is anything of them.
func (t *Topology) cleared(next *ring.Record) []ring.Partition {
	drops := t.drops(next)
	begun := t.begun(next, drops)
	if len(begun) == 0 {
		return drops
	}
	strays, err := t.cfg.Disk.Strays(begun)
	if err != nil { // what cannot be looked at is emptied, as if it were there
		t.log.Warn("cannot look for records of partitions that are moved here; they are dropped first", "error", err)
		strays = begun
	}
	if len(strays) > 0 {
		t.log.Warn("partitions that are moved here had records of before; they are dropped first", "partitions", len(strays))
	}
	drops = append(drops, strays...)
	slices.Sort(drops)
	return drops
}
