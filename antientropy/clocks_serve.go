package antientropy

import (
	"context"
	"fmt"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// What a home does for another one that asks for its clocks. Nothing here calls
// another node.

const (
	// answerMax is about how many bytes one answer has. What is larger by itself
	// goes alone.
	answerMax = 1 << 20
	// ringPatience is how long a home waits for a ring record that a request
	// names and it lacks: gossip brings it.
	ringPatience = 2 * time.Second
)

func (r *Repair) registerClocks(m *rpc.Mux) {
	clocksRoute.Handle(m, rpc.ClassHome, r.serveClocks)
}

// serveClocks tells a home the clocks that it has not heard.
func (r *Repair) serveClocks(ctx context.Context, from rpc.Peer, req *clocksRequest) (*clocksResponse, error) {
	rec, err := r.ringAt(ctx, req.Epoch)
	if err != nil {
		return nil, err
	}
	s := r.cfg.Store
	resp := &clocksResponse{Era: r.eraToTell()}
	since := req.Since
	if req.Era != resp.Era {
		since = 0
	}
	changed, now := s.ClocksChanged(since)
	resp.Now = now
	if len(req.Only) > 0 {
		changed, since = req.Only, 0
	}
	size := 0
	for _, p := range changed {
		if p < req.From || int(p) >= rec.Partitions || rec.HomeIndex(p, from.ID) < 0 || rec.HomeIndex(p, r.cfg.Self) < 0 {
			continue
		}
		if size >= answerMax {
			resp.More, resp.Next = true, p
			break
		}
		clock := s.ClockOf(p)
		if len(clock.Actors) == 0 {
			continue
		}
		size += clockSize(&clock)
		resp.Clocks = append(resp.Clocks, partitionClock{p, clock})
		// The clock before the ends: what it claims as void, they show.
		if ends, n := closedSince(s, p, since); n > 0 {
			resp.Ends = append(resp.Ends, partitionEnds{p, ends})
			size += n
		}
	}
	if r.eraToTell() != resp.Era {
		return nil, fmt.Errorf("%w: clocks were emptied meanwhile", api.ErrNotReady)
	}
	return resp, nil
}

// ringAt gives the ring record once it is of an epoch or newer.
func (r *Repair) ringAt(ctx context.Context, epoch uint64) (*ring.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, ringPatience)
	defer cancel()
	for began := time.Now(); ; {
		changed := r.cfg.Rings.Changed()
		if rec := r.current(); rec != nil && rec.Epoch >= epoch {
			return rec, nil
		}
		select {
		case <-changed:
			// Many may wait for it, and do not go on at one instant.
			if err := r.aside(ctx, "ring", timeAsID(began)); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: no ring record of epoch %d or newer", api.ErrNotReady, epoch)
		}
	}
}
