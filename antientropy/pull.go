package antientropy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store"
)

const (
	// pullMax bounds one question; the answer may have to be looked for.
	pullMax = 15 * time.Second
	// turnPause is between two turns.
	turnPause = time.Millisecond
	// wantActors and wantRanges bound the dots of one pull; the others come in
	// the next one. A set of dots travels as a clock, and has its bounds.
	wantActors = 4096
	wantRanges = 64 // per actor
)

// errLate says that a pull stops for other work, and goes on later.
var errLate = errors.New("there is more to pull")

// pullDue pulls all that is due from a partner, partition by partition. It leaves
// out those that another partner is asked for, and comes back to them, and those
// that have lost something and were not filled.
func (r *Repair) pullDue(ctx context.Context, pt *partner, to rpc.Peer, over time.Time) {
	for {
		var busy <-chan struct{}
		for _, p := range slices.Sorted(maps.Keys(pt.gaps)) {
			g := pt.gaps[p]
			if !g.due || time.Now().Before(g.again) || !r.cfg.Store.CountsForRead(p) && !r.lossy.has(p, r.cfg.Store.EraOf(p), pt.id) {
				continue // what was lost is filled first
			}
			mine, free := r.turns.take(p, pt.id)
			if !mine {
				busy = free
				continue
			}
			err := r.pull(ctx, pt, to, p, g, over)
			r.turns.give(p)
			if errors.Is(err, errLate) || ctx.Err() != nil {
				return
			}
			if err != nil {
				tries := pt.tried(p)
				level := slog.LevelDebug
				if tries == pullsMax { // once
					level = slog.LevelWarn
				}
				r.log.Log(ctx, level, "pull failed", "partition", p, "from", pt.id.Short(), "tries", tries, "error", err)
				g.again = time.Now().Add(backoff(tries))
				if rpc.NotSent(err) || errors.Is(err, rpc.ErrLost) || errors.Is(err, rpc.ErrDeadline) {
					return // the partner, not the partition
				}
			}
		}
		if busy == nil || time.Now().After(over) || !pt.waitFor(ctx, busy, r.cfg.ClocksEvery) {
			return
		}
	}
}

// waitFor waits for a turn, at most so long; false says that it did not come. Those
// who wait for one do not go on at the same instant.
func (pt *partner) waitFor(ctx context.Context, free <-chan struct{}, most time.Duration) bool {
	late := time.NewTimer(most)
	defer late.Stop()
	select {
	case <-free:
		return sleep(ctx, jittered(pt.chance, turnPause)) == nil
	case <-late.C:
	case <-ctx.Done():
	}
	return false
}

// tried counts a pull that failed.
func (pt *partner) tried(p ring.Partition) int {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	pt.tries[p]++
	return pt.tries[p]
}

// pull fetches what is due in one partition and merges it. Dots are claimed when
// all that the partner knows of them is on this disk, and only then.
func (r *Repair) pull(ctx context.Context, pt *partner, to rpc.Peer, p ring.Partition, g *gap, over time.Time) error {
	scanned := false
	for {
		if r.emptied(pt, p) {
			return fmt.Errorf("partition %d: clocks of this node were emptied", p)
		}
		own := r.cfg.Store.ClockOf(p)
		pt.note(p, g.count(&own))
		if len(g.want) == 0 {
			due := g.lacks(g.suspects.Without(&own))
			if len(due) == 0 {
				g.due, g.suspects, g.first = false, nil, time.Time{}
				if g.rejoined || scanned {
					g.rejoined = false
					r.auditSoon(p)
				}
				return nil
			}
			g.want, g.after, g.hidden = firstOf(due), nil, nil
		}
		if time.Now().After(over) {
			return errLate
		}
		resp, err := r.page(ctx, pt, to, p, g, own)
		if err != nil {
			return err
		}
		if resp.Scanned && g.after == nil {
			r.scans.Add(1)
		}
		scanned = scanned || resp.Scanned
		g.hidden = append(g.hidden, resp.Hidden...)
		if !resp.Done {
			g.after = resp.Next
			continue
		}
		if err := r.claimPulled(ctx, pt, p, g); err != nil {
			return err
		}
	}
}

// claimPulled claims what was wanted, but for what the partner does not show and other
// homes may hold: that comes from them.
func (r *Repair) claimPulled(ctx context.Context, pt *partner, p ring.Partition, g *gap) error {
	unproven, err := r.unproven(ctx, pt.id, p, g.hidden, g.waited)
	if err != nil {
		return err
	}
	claim := g.want
	if len(unproven) > 0 {
		g.disbelieve(unproven, time.Now())
		r.auditSoon(p)
		out := clockOfDots(unproven)
		claim = claim.Without(&out)
	}
	if err := r.cfg.Store.Incorporate(p, claim, pt.mine); err != nil {
		return fmt.Errorf("claim what was pulled of partition %d: %w", p, err)
	}
	if err := r.aside(ctx, "claim", pt.id); err != nil {
		return err
	}
	own := r.cfg.Store.ClockOf(p)
	if left := g.lacks(g.want.Without(&own)); len(left) > 0 {
		g.taken = unite(g.taken, left)
	}
	g.want, g.after, g.hidden = nil, nil, nil
	return nil
}

// page fetches and merges one page.
func (r *Repair) page(ctx context.Context, pt *partner, to rpc.Peer, p ring.Partition, g *gap, own store.Clock) (*pullResponse, error) {
	asked, cancel := context.WithTimeout(ctx, pullMax)
	defer cancel()
	began := time.Now()
	resp, err := pullRoute.Call(asked, r.cfg.Transport, to, &pullRequest{
		Epoch: pt.epoch, Partition: p, Era: pt.theirEra, Want: g.want, Have: own, After: g.after,
	})
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	if !resp.Done && bytes.Compare(resp.Next, g.after) <= 0 {
		return nil, fmt.Errorf("%w: a page of partition %d does not go on behind key %.64q", wire.ErrMalformed, p, g.after)
	}
	keys, size := 0, 0
	for i := range resp.Items {
		if n := len(resp.Items[i].encoded); n > 0 {
			keys++
			size += n
		}
	}
	r.pace.noteSized(pt.id, took, size)
	if err := r.pace.rest(ctx, took); err != nil {
		return nil, err
	}
	v := verdict{resp.Verdict, resp.Base}
	judged, spared, err := r.spare(p, resp.Items, v)
	if err != nil {
		return nil, err
	}
	if len(spared) > 0 {
		if err := r.mergeHere(ctx, p, spared, verdict{}); err != nil {
			return nil, err
		}
		r.auditSoon(p)
	}
	if err := r.mergeHere(ctx, p, judged, v); err != nil {
		return nil, err
	}
	if err := r.aside(ctx, "pull", pt.id); err != nil {
		return nil, err
	}
	r.pulledKeys.Add(int64(keys))
	r.pulledBytes.Add(int64(size))
	return resp, r.pace.take(ctx, size)
}

// firstOf are the first dots of a set, as many as one pull has.
func firstOf(s store.DotSet) store.DotSet {
	out := make(store.DotSet, 0, min(len(s), wantActors))
	for _, a := range s[:min(len(s), wantActors)] {
		out = append(out, store.ActorDots{Actor: a.Actor, Ranges: a.Ranges[:min(len(a.Ranges), wantRanges)]})
	}
	return out
}

// unite returns the dots of both sets.
func unite(a, b store.DotSet) store.DotSet {
	all := slices.Concat(a, b)
	slices.SortStableFunc(all, func(x, y store.ActorDots) int {
		switch {
		case x.Actor < y.Actor:
			return -1
		case x.Actor > y.Actor:
			return 1
		}
		return 0
	})
	var out store.DotSet
	for _, d := range all {
		if n := len(out); n > 0 && out[n-1].Actor == d.Actor {
			out[n-1].Ranges = uniteRanges(out[n-1].Ranges, d.Ranges)
		} else {
			out = append(out, d)
		}
	}
	return out
}

// uniteRanges returns the numbers of both, with gaps between the ranges.
func uniteRanges(a, b []store.Range) []store.Range {
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(x, y store.Range) int {
		switch {
		case x.First < y.First:
			return -1
		case x.First > y.First:
			return 1
		}
		return 0
	})
	var out []store.Range
	for _, r := range all {
		if n := len(out); n > 0 && r.First <= out[n-1].Last+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
		} else {
			out = append(out, r)
		}
	}
	return out
}
