package antientropy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store"
)

// A member that keeps a partition no longer hands over what its new homes lack. Usually
// that is nothing: they have pulled from it, or from who had the same. But a member that
// was away while its slot moved may be the only one to hold a write that was acknowledged
// by it alone.
//
// The store keeps the dropped partition aside. This node asks the homes for their clocks,
// which are small: where a majority of them claims all siblings of a record, it is
// deleted unsent, and any other record becomes a stand-in for nobody in particular, which
// goes to the homes that lack it as all stand-ins go home. That is safe as it is with
// those: the record counts for no read meanwhile, what was deleted and forgotten is
// claimed by the homes and ends there, and who closes an actor must have asked this node.
//
// A majority is enough, not all: the homes bring each other what one of them has, and
// hand it over themselves if they give the partition up. So a home that is dead does not
// keep others from leaving.

const (
	// handOverEvery is how often this node looks at what it has to hand over.
	handOverEvery = 2 * time.Second
	// handOverAfter is how long it waits before it asks: by then the homes have got
	// what was on its way to them.
	handOverAfter = flightMax
	// handOverPatience is how long it asks for a partition that is to come back to it,
	// and that nobody can use meanwhile: then all is kept as stand-ins.
	handOverPatience = 4 * time.Second
	claimsCall       = 2 * time.Second
)

func (r *Repair) registerHandOver(m *rpc.Mux) {
	claimsRoute.Handle(m, rpc.ClassHome, r.serveClaims)
}

// serveClaims tells a member what this node has incorporated of partitions that it is a
// home of.
func (r *Repair) serveClaims(ctx context.Context, from rpc.Peer, req *claimsRequest) (*claimsResponse, error) {
	rec := r.current()
	if rec == nil || rec.Epoch < req.Epoch {
		if err := r.cfg.Rings.Learn(ctx, from, req.Epoch); err != nil {
			return nil, fmt.Errorf("%w: %w", api.ErrNotReady, err)
		}
		if rec = r.current(); rec == nil {
			return nil, fmt.Errorf("%w: no ring record", api.ErrNotReady)
		}
	}
	if err := memberOf(rec, from.ID); err != nil {
		return nil, err
	}
	resp, size := &claimsResponse{}, 0
	for _, p := range req.Partitions {
		if size >= answerMax {
			break
		}
		resp.Looked++
		if rec.HomeIndex(p, r.cfg.Self) < 0 {
			continue
		}
		clock := r.cfg.Store.ClockOf(p)
		size += clockSize(&clock)
		resp.Clocks = append(resp.Clocks, partitionClock{p, clock})
	}
	return resp, nil
}

// memberOf refuses who is no member, such as one that was removed: what it kept was given
// up with it.
func memberOf(rec *ring.Record, id ring.NodeID) error {
	if rec.Member(id) == nil {
		return fmt.Errorf("%w: %s is no member at epoch %d", api.ErrRefused, id.Short(), rec.Epoch)
	}
	return nil
}

// handOverLoop lets go of partitions that were dropped, as soon as it is known what their
// homes have.
func (r *Repair) handOverLoop(ctx context.Context) error {
	chance := r.generator("hand-over", r.cfg.Self)
	seen := map[store.Drop]time.Time{}
	for r.aside(ctx, "hand-over", r.cfg.Self) == nil {
		ringed := r.cfg.Rings.Changed()
		r.handOver(ctx, seen)
		pause := time.NewTimer(jittered(chance, handOverEvery))
		select {
		case <-ringed:
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
	}
	return nil
}

// handOver is one look. seen says since when it knows of a drop.
func (r *Repair) handOver(ctx context.Context, seen map[store.Drop]time.Time) {
	rec := r.current()
	if rec == nil || rec.Member(r.cfg.Self) == nil || r.cfg.Store.Health().Failed != nil {
		return
	}
	drops, now := r.cfg.Store.ToHandOver(), time.Now()
	maps.DeleteFunc(seen, func(d store.Drop, _ time.Time) bool { return !slices.Contains(drops, d) })
	drops = slices.DeleteFunc(drops, func(d store.Drop) bool {
		if _, known := seen[d]; !known {
			seen[d] = now
		}
		return now.Sub(seen[d]) < handOverAfter && !comesBack(rec, d.Partition, r.cfg.Self)
	})
	if len(drops) == 0 {
		return
	}
	claims := r.claimsOfAll(ctx, rec, drops)
	for _, d := range drops {
		got, need := claims[d.Partition], needed(rec, d.Partition, r.cfg.Self)
		hurry := comesBack(rec, d.Partition, r.cfg.Self) && time.Since(seen[d]) >= handOverPatience
		if ctx.Err() == nil && (len(got) >= need || hurry) {
			r.cfg.Store.HandOver(d, got, need)
		}
	}
}

// comesBack says that a partition is a member's again, or soon.
func comesBack(rec *ring.Record, p ring.Partition, id ring.NodeID) bool {
	m := rec.MoveOf(p)
	return rec.HomeIndex(p, id) >= 0 || m != nil && m.To == id
}

// needed is how many homes beside a member must have what that member has let go: a
// majority, or all that there are if these are fewer. At least one.
func needed(rec *ring.Record, p ring.Partition, but ring.NodeID) int {
	homes := rec.Homes(p)
	return max(1, min(len(homes)/2+1, len(others(rec, p, but))))
}

// others are the homes of a partition beside a member, but for those whose disk is lost.
func others(rec *ring.Record, p ring.Partition, but ring.NodeID) []ring.NodeID {
	return slices.DeleteFunc(slices.Clone(rec.Homes(p)), func(id ring.NodeID) bool {
		return id == but || rec.Member(id).State == ring.Lost
	})
}

// claimsOfAll asks the homes of dropped partitions what they have incorporated.
func (r *Repair) claimsOfAll(ctx context.Context, rec *ring.Record, drops []store.Drop) map[ring.Partition][]store.Clock {
	of := map[ring.NodeID][]ring.Partition{}
	for _, d := range drops {
		for _, id := range others(rec, d.Partition, r.cfg.Self) {
			of[id] = append(of[id], d.Partition)
		}
	}
	claims := map[ring.Partition][]store.Clock{}
	for _, id := range sortedIDs(of) {
		for some := range slices.Chunk(of[id], claimsMax) {
			if ctx.Err() != nil || !r.reachable(id) {
				break
			}
			told, err := r.claimsOf(ctx, rec, id, some)
			if err != nil {
				r.log.Debug("what a home has is not known", "home", id.Short(), "error", err)
				break
			}
			for _, c := range told {
				claims[c.Partition] = append(claims[c.Partition], c.Clock)
			}
		}
	}
	return claims
}

// claimsOf asks a home about at most claimsMax partitions, which are sorted.
func (r *Repair) claimsOf(ctx context.Context, rec *ring.Record, id ring.NodeID, partitions []ring.Partition) (told []partitionClock, err error) {
	to, ok := r.peer(id)
	if !ok {
		return nil, fmt.Errorf("%w: the address of %s is not known", rpc.ErrUnreachable, id.Short())
	}
	for len(partitions) > 0 {
		resp, err := r.askClaims(ctx, to, &claimsRequest{Epoch: rec.Epoch, Partitions: partitions})
		if err != nil {
			return nil, err
		}
		if resp.Looked < 1 || resp.Looked > len(partitions) ||
			slices.ContainsFunc(resp.Clocks, func(c partitionClock) bool { return !slices.Contains(partitions[:resp.Looked], c.Partition) }) {
			return nil, fmt.Errorf("%w: %d clocks of %d partitions from %s", wire.ErrMalformed, len(resp.Clocks), resp.Looked, id.Short())
		}
		told = append(told, resp.Clocks...)
		partitions = partitions[resp.Looked:]
	}
	return told, nil
}

func (r *Repair) askClaims(ctx context.Context, to rpc.Peer, req *claimsRequest) (*claimsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, claimsCall)
	defer cancel()
	return claimsRoute.Call(ctx, r.cfg.Transport, to, req)
}

// sendHomeless sends records of one partition that are kept for nobody to the homes that
// lack them, and drops those that enough homes have.
func (r *Repair) sendHomeless(ctx context.Context, rec *ring.Record, records []store.StandIn) error {
	p := records[0].Partition
	have := make([]int, len(records))
	var failed []error
	for _, id := range rec.Homes(p) {
		if err := r.bring(ctx, rec, id, p, records, have); err != nil {
			failed = append(failed, fmt.Errorf("to %s: %w", id.Short(), err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	need := needed(rec, p, ring.NodeID{})
	left := 0
	for i := range records {
		if have[i] < need {
			left++
		} else if err := r.cfg.Store.DropStandIn(&records[i]); err != nil {
			return fmt.Errorf("drop what was handed over: %w", err)
		}
	}
	if left > 0 {
		return fmt.Errorf("%d of %d records are not with %d homes yet: %w", left, len(records), need, errors.Join(failed...))
	}
	return nil
}

// bring has one home merge those of some records that it has not incorporated, and counts
// in have which of them it has then.
func (r *Repair) bring(ctx context.Context, rec *ring.Record, id ring.NodeID, p ring.Partition, records []store.StandIn, have []int) error {
	var clock store.Clock
	if id == r.cfg.Self {
		clock = r.cfg.Store.ClockOf(p)
	} else {
		if !r.reachable(id) {
			return rpc.ErrUnreachable
		}
		told, err := r.claimsOf(ctx, rec, id, []ring.Partition{p})
		if err != nil {
			return err
		}
		if len(told) == 0 {
			return fmt.Errorf("%w: partition %d", api.ErrNotHome, p)
		}
		clock = told[0].Clock
	}
	var lacks []store.StandIn
	var at []int
	for i := range records {
		if clock.HasSiblings(&records[i].Record) {
			have[i]++
		} else {
			lacks, at = append(lacks, records[i]), append(at, i)
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	errs, err := r.deliver(ctx, id, p, lacks)
	if err != nil {
		return err
	}
	var failed error
	for i, err := range errs {
		if err == nil || errors.Is(err, api.ErrVoid) { // what is void is void for ever
			have[at[i]]++
		} else {
			failed = err
		}
	}
	return failed
}
