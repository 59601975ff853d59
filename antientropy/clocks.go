package antientropy

import (
	"context"
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

const (
	// flightMax is how long a write may be on its way before its dot counts as
	// missing.
	flightMax = 2 * time.Second
	// reachEvery is how often a partner that cannot be reached is looked at.
	reachEvery = 400 * time.Millisecond
	// clocksMax bounds one question for clocks.
	clocksMax = 5 * time.Second
	// roundMax is how long partitions are filled until clocks are compared again.
	roundMax = 30 * time.Second
	// againMax is the longest pause after failures.
	againMax = 15 * time.Second
)

// partnerLoop compares clocks with a partner every few seconds and pulls what is
// missing here, at once where it cannot be on its way.
func (r *Repair) partnerLoop(ctx context.Context, pt *partner) {
	for r.aside(ctx, "clocks", pt.id) == nil {
		pt.turn.down()
		viewed := r.cfg.Members.Changed()
		wait, reached := r.round(ctx, pt)
		if reached {
			viewed = nil // who is there is of no interest
		}
		pause := time.NewTimer(wait)
		select {
		case <-pt.turn:
		case <-viewed:
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

// round is one look at a partner. It says when the next one is to come, and whether
// the partner could be reached.
func (r *Repair) round(ctx context.Context, pt *partner) (next time.Duration, reached bool) {
	to, known := r.peer(pt.id)
	if !known || r.cfg.Circuits.Open(pt.id) || r.cfg.Store.Health().Failed != nil {
		pt.fresh = true
		return jittered(pt.chance, reachEvery), false
	}
	if err := r.exchange(ctx, pt, to); err != nil {
		if ctx.Err() == nil {
			r.log.Debug("clocks were not exchanged", "with", pt.id.Short(), "error", err)
		}
		pt.fresh = true
		return jittered(pt.chance, backoff(pt.failed())), true
	}
	over := time.Now().Add(roundMax)
	r.refillAll(ctx, pt, to, over)
	r.pullDue(ctx, pt, to, over)
	if len(pt.gaps) == 0 {
		r.settle(pt.id)
	}
	return jittered(pt.chance, r.cfg.ClocksEvery), true
}

// backoff is the pause after so many failures in a row.
func backoff(failures int) time.Duration {
	return min(againMax, reachEvery<<min(failures, 10))
}

// failed counts an exchange that failed.
func (pt *partner) failed() int {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	pt.failures++
	return pt.failures
}

// renew forgets what the partner has told where that counts for nothing any more: both
// are homes of other partitions now, or this node has lost what it had pulled.
func (r *Repair) renew(pt *partner, rec *ring.Record) {
	era := r.cfg.Store.Era()
	if pt.mine == era && pt.epoch == rec.Epoch {
		return
	}
	shared := map[ring.Partition]struct{}{}
	for p := range ring.Partition(rec.Partitions) {
		if rec.HomeIndex(p, r.cfg.Self) < 0 || rec.HomeIndex(p, pt.id) < 0 {
			continue
		}
		shared[p] = struct{}{}
		if _, before := pt.shared[p]; !before || r.cfg.Store.EraOf(p) > pt.mine {
			pt.anew[p] = struct{}{}
		}
	}
	maps.DeleteFunc(pt.anew, func(p ring.Partition, _ struct{}) bool { _, ok := shared[p]; return !ok })
	for p := range pt.gaps {
		_, ok := shared[p]
		if _, again := pt.anew[p]; !ok || again {
			delete(pt.gaps, p)
			pt.note(p, 0)
		}
	}
	pt.mine, pt.epoch, pt.shared = era, rec.Epoch, shared
	if len(pt.anew) == len(shared) { // which saves a question
		pt.theirEra, pt.since, pt.fresh = 0, 0, true
	}
}

// emptied says that this node has lost what it had pulled of a partition, since the
// partner was looked at last.
func (r *Repair) emptied(pt *partner, p ring.Partition) bool { return r.cfg.Store.EraOf(p) > pt.mine }

// exchange asks for the clocks that have changed and notes what is missing here.
func (r *Repair) exchange(ctx context.Context, pt *partner, to rpc.Peer) error {
	rec := r.current()
	if rec == nil {
		return fmt.Errorf("%w: no ring record", api.ErrNotReady)
	}
	r.renew(pt, rec)
	told, ends, theirEra, now, err := r.askClocks(ctx, pt, to, rec)
	if err != nil {
		return err
	}
	if pt.theirEra != theirEra {
		pt.begun(told)
	}
	for _, e := range ends {
		if err := r.learnEnds(e); err != nil {
			return err
		}
	}
	for _, c := range told {
		g := pt.gaps[c.Partition]
		if g == nil {
			g = new(gap)
			pt.gaps[c.Partition] = g
		}
		g.theirs = c.Clock
	}
	for _, p := range slices.Sorted(maps.Keys(pt.gaps)) {
		r.lookAt(pt, p, time.Now())
	}
	pt.theirEra, pt.since, pt.fresh = theirEra, now, false
	clear(pt.anew)
	pt.mu.Lock()
	defer pt.mu.Unlock()
	pt.whole, pt.by, pt.failures = true, pt.epoch, 0
	return nil
}

// askClocks fetches all pages of an answer.
func (r *Repair) askClocks(ctx context.Context, pt *partner, to rpc.Peer, rec *ring.Record) (told []partitionClock, ends []partitionEnds, era, now uint64, err error) {
	req := &clocksRequest{Epoch: rec.Epoch, Era: pt.theirEra, Since: pt.since}
	for page := 0; ; page++ {
		resp, err := callClocks(ctx, r.cfg.Transport, to, req)
		if err != nil {
			return nil, nil, 0, 0, err
		}
		if page == 0 {
			era, now = resp.Era, resp.Now
		} else if resp.Era != era {
			return nil, nil, 0, 0, fmt.Errorf("%w: clocks of %s were emptied meanwhile", api.ErrNotReady, pt.id.Short())
		}
		for _, c := range resp.Clocks {
			if rec.HomeIndex(c.Partition, r.cfg.Self) >= 0 && rec.HomeIndex(c.Partition, pt.id) >= 0 {
				told = append(told, c)
			}
		}
		ends = append(ends, resp.Ends...)
		if !resp.More && (era != pt.theirEra || len(req.Only) > 0 || len(pt.anew) == 0) {
			return told, ends, era, now, nil
		}
		if !resp.More { // now those of which all is to be told again
			req = &clocksRequest{Epoch: rec.Epoch, Era: era, Only: slices.Sorted(maps.Keys(pt.anew))}
			continue
		}
		if resp.Next <= req.From {
			return nil, nil, 0, 0, fmt.Errorf("%w: clocks of %s do not go on behind partition %d", wire.ErrMalformed, pt.id.Short(), req.From)
		}
		req.From = resp.Next
	}
}

func callClocks(ctx context.Context, t rpc.Transport, to rpc.Peer, req *clocksRequest) (*clocksResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, clocksMax)
	defer cancel()
	return clocksRoute.Call(ctx, t, to, req)
}

// begun drops what the partner told before it began anew and does not say again: it
// may have lost that, and shows nothing of it.
// A pull under way goes on behind the keys that are merged here already.
func (pt *partner) begun(told []partitionClock) {
	// Where nothing has failed since the last time, what is new may be on its way.
	if s := pt.standing(0); !s.whole || s.failures > 0 {
		pt.fresh = true
	}
	again := map[ring.Partition]*store.Clock{}
	for i := range told {
		again[told[i].Partition] = &told[i].Clock
	}
	for p, g := range pt.gaps {
		clock := again[p]
		if clock == nil {
			delete(pt.gaps, p)
			pt.note(p, 0)
			continue
		}
		g.want, g.suspects, g.again = g.want.And(clock), g.suspects.And(clock), time.Time{}
		g.unproven = nil
	}
}

// lookAt says what is missing in a partition, and whether it is due.
func (r *Repair) lookAt(pt *partner, p ring.Partition, now time.Time) {
	g := pt.gaps[p]
	own := r.cfg.Store.ClockOf(p)
	r.askAgain(p, g, now)
	if len(g.taken.Without(&own)) == 0 {
		g.taken = nil
	}
	g.waited = g.waited.Without(&own)
	missing := g.lacks(g.theirs.Minus(&own))
	_, again := pt.anew[p]
	switch {
	case len(missing) == 0:
		g.suspects, g.due = nil, false
	case pt.fresh || again:
		g.suspects, g.due, g.first, g.rejoined = missing, true, now, true
	case g.due: // what was due before comes first
	case len(g.suspects) > 0 && now.Sub(g.first) < flightMax:
	default:
		due := g.suspects.Without(&own)
		g.suspects, g.first = missing, now
		if len(due) > 0 {
			g.suspects, g.due = due, true
		}
	}
	if len(missing) == 0 && g.taken == nil && g.unproven == nil {
		delete(pt.gaps, p)
	}
	pt.note(p, g.count(&own))
}

// lacks leaves out the dots that were pulled although the clock cannot claim them, or
// is not to.
func (g *gap) lacks(s store.DotSet) store.DotSet {
	for _, out := range []store.DotSet{g.taken, g.unproven} {
		if out != nil {
			pulled := clockOfDots(out)
			s = s.Without(&pulled)
		}
	}
	return s
}

// count is how many dots are known to be lacking.
func (g *gap) count(own *store.Clock) uint64 {
	if !g.due {
		return 0
	}
	return g.lacks(g.suspects.Without(own)).Count()
}
