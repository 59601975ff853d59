package antientropy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// Closing ends an actor. A crash can leave a dot that nobody holds; then no clock's base
// ever rises above it, and nothing that has seen later dots of the actor is forgotten.
// Closing declares such dots void. What must not happen is that a void dot was an
// acknowledged write, or that it turns up somewhere and takes effect there. The rules,
// of which none may be weakened:
//
//  1. Every home and every other member is asked, for a stand-in may hold what was
//     acknowledged. Each makes the fence on the actor durable, and all that it has
//     merged, before it answers what it holds. (endsHere)
//  2. A fenced member refuses whole every record with a dot of the actor that neither
//     it nor another fenced member holds. (store.Refused)
//  3. The actor's dots are what all of them hold together. They are fixed only when
//     every home holds all of them, by the homes of the newest ring record; both ends
//     of a move count as homes. (agreed)
//  4. For ever after, a record with another dot of the actor is refused whole: to drop
//     only the dot would let its context end siblings that were acknowledged.
//     (store.Refused)
//
// Why that is safe: only the process that minted a dot counts its acknowledgements. It
// is gone, or it was asked itself, and held on its disk by then whatever it had minted.
// So what was acknowledged is held by somebody who was asked.
//
// closing_model_test.go plays random histories by these rules, and without each.

// endable lists, sorted, the actors of a partition that are to be closed: those that are
// fenced already, those of which the clock lacks a dot below one that it has, and where
// there are very many, all.
func endable(clock *store.Clock, ends []store.Ending) []version.Actor {
	var out, rest []version.Actor
	closed := 0
	for i := range ends {
		if ends[i].Closed {
			closed++
		} else {
			out = append(out, ends[i].Actor)
		}
	}
	crowded := len(clock.Actors)-closed > openMax
	for i := range clock.Actors {
		a := &clock.Actors[i]
		if _, known := slices.BinarySearchFunc(ends, a.Actor, compareEnding); known {
			continue
		}
		if len(a.Ranges) > 0 {
			out = append(out, a.Actor)
		} else if crowded {
			rest = append(rest, a.Actor)
		}
	}
	if n := endsMax - len(out); n > 0 {
		out = append(out, rest[:min(n, len(rest))]...)
	}
	slices.Sort(out)
	return out[:min(len(out), endsMax)]
}

// openMax is how many actors the clock of a partition has that were not closed before
// those are closed that have no holes: it has room for four times as many.
const openMax = 1024

func compareEnding(e store.Ending, actor version.Actor) int {
	switch {
	case e.Actor < actor:
		return -1
	case e.Actor > actor:
		return 1
	}
	return 0
}

// asked are those whom a closing must ask: all members, and first those who must hold
// what is left of the actor: the homes and, while a slot moves, its target.
func asked(rec *ring.Record, p ring.Partition) (all []ring.NodeID, homes int) {
	all = holders(rec, p)
	homes = len(all)
	for i := range rec.Members {
		if id := rec.Members[i].ID; !rec.Holds(p, id) {
			all = append(all, id)
		}
	}
	return all, homes
}

// agreed says whether the dots of an actor are fixed, and which they are as far as the
// answers tell: held are those of the members that were asked, of which the first ones
// are the homes. known are those that any of them takes: it may have come by one after
// it was asked, and from a stand-in that kept it no longer when that was asked.
func agreed(held, known [][]store.Range, homes int) (dots []store.Range, fixed bool) {
	for _, some := range slices.Concat(held, known) {
		dots = uniteRanges(dots, some)
	}
	for _, some := range held[:homes] {
		if !slices.Equal(uniteRanges(nil, some), dots) {
			return dots, false
		}
	}
	return dots, true
}

// serveEnd tells a home what this member holds of actors that it closes.
func (r *Repair) serveEnd(ctx context.Context, req *endRequest, from ring.NodeID) (*endResponse, error) {
	rec, err := r.ringAt(ctx, req.Epoch)
	if err != nil {
		return nil, err
	}
	p := req.Partition
	if rec.HomeIndex(p, from) < 0 || rec.Member(r.cfg.Self) == nil {
		return nil, fmt.Errorf("%w: partition %d at epoch %d", api.ErrNotHome, p, rec.Epoch)
	}
	if since := rec.Since[p]; req.Epoch < since {
		return nil, fmt.Errorf("%w: the homes of partition %d changed at epoch %d, the request is by %d", api.ErrFenced, p, since, req.Epoch)
	}
	return r.endsHere(ctx, rec, req)
}

// endsHere is this node's own answer. What the clock claims and the records show is read
// once the fence is on disk.
func (r *Repair) endsHere(ctx context.Context, rec *ring.Record, req *endRequest) (*endResponse, error) {
	s, p := r.cfg.Store, req.Partition
	resp := &endResponse{Epoch: rec.Epoch}
	minting, err := s.Minting(p)
	if err == nil && !req.Look {
		err = s.End(p, req.Ends, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("ends of actors in partition %d: %w", p, err)
	}
	era := s.EraOf(p)
	_, _, counted := s.TreeOf(p)
	clock := s.ClockOf(p)
	ends, _ := s.Endings(p)
	held := newHeldDots(req.Ends)
	held.addClock(&clock)
	if !req.Look {
		if err := held.addRecords(ctx, s, p); err != nil {
			return nil, err
		}
	}
	if err := held.addStandIns(ctx, s, p); err != nil {
		return nil, err
	}
	switch {
	case !s.CountsForRead(p) || s.EraOf(p) != era:
		resp.Word = endLossy
	case !counted:
		resp.Word = endCounting
	}
	for i := range req.Ends {
		actor := req.Ends[i].Actor
		answer := endAnswer{Minting: actor == minting, End: store.Ending{Actor: actor, Dots: held.dots[actor]}}
		if at, ok := slices.BinarySearchFunc(ends, actor, compareEnding); ok && ends[at].Closed {
			answer.End = ends[at]
		} else if ok {
			answer.Known = ends[at].Dots
		}
		if n := len(answer.End.Dots); n > store.EndingRangesMax {
			return nil, fmt.Errorf("%w: actor %016x has %d ranges of dots, limit %d", api.ErrTooLarge, uint64(actor), n, store.EndingRangesMax)
		}
		resp.Ends = append(resp.Ends, answer)
	}
	return resp, nil
}

// heldDots collects what a member holds of some actors.
type heldDots struct {
	dots map[version.Actor][]store.Range
}

func newHeldDots(of []store.Ending) *heldDots {
	h := &heldDots{map[version.Actor][]store.Range{}}
	for i := range of {
		h.dots[of[i].Actor] = nil
	}
	return h
}

func (h *heldDots) addClock(c *store.Clock) {
	for _, a := range dotsOfClock(c) {
		if _, wanted := h.dots[a.Actor]; wanted {
			h.dots[a.Actor] = uniteRanges(h.dots[a.Actor], a.Ranges)
		}
	}
}

func (h *heldDots) addRecord(r *version.Record) {
	for i := range r.Siblings {
		d := r.Siblings[i].Dot
		if _, wanted := h.dots[d.Actor]; wanted {
			h.dots[d.Actor] = uniteRanges(h.dots[d.Actor], []store.Range{{First: d.Seq, Last: d.Seq}})
		}
	}
}

// addRecords reads the partition: a clock has bounds, and may claim less than the
// records show.
func (h *heldDots) addRecords(ctx context.Context, s Store, p ring.Partition) error {
	var bad error
	err := s.Scan(p, nil, 0, func(key, encoded []byte) bool {
		r, err := version.ParseHeader(encoded)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			bad = fmt.Errorf("key %.64q: %w", key, err)
			return false
		}
		h.addRecord(&r)
		return true
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return fmt.Errorf("read partition %d: %w", p, err)
	}
	return nil
}

// addStandIns reads what this node keeps of the partition for homes.
func (h *heldDots) addStandIns(ctx context.Context, s Store, p ring.Partition) error {
	homes, err := s.StandInHomes()
	if err != nil {
		return fmt.Errorf("read stand-ins: %w", err)
	}
	for _, home := range homes {
		var after []byte
		for ctx.Err() == nil {
			page, err := s.StandIns(home, p, after, standInsPage)
			if err != nil {
				return fmt.Errorf("read stand-ins for %s: %w", home.Short(), err)
			}
			for i := range page {
				if page[i].Partition != p {
					page = nil
					break
				}
				h.addRecord(&page[i].Record)
				after = page[i].Record.Key
			}
			if len(page) == 0 {
				break
			}
		}
	}
	return ctx.Err()
}

// voided has the refusal of a void write travel.
func voided(err error) error {
	if errors.Is(err, store.ErrEnded) {
		return fmt.Errorf("%w: %w", api.ErrVoid, err)
	}
	return err
}

// closedSince are the closed actors of a partition, if some were closed since a reading
// of the clocks' changes, and about how many bytes they have in a message.
func closedSince(s Store, p ring.Partition, since uint64) (closed []store.Ending, size int) {
	ends, changed := s.Endings(p)
	if changed <= since {
		return nil, 0
	}
	for i := range ends {
		if ends[i].Closed {
			closed = append(closed, ends[i])
			size += 16 + 8*len(ends[i].Dots)
		}
	}
	return closed, size
}

// learnEnds takes what another member knows of closed actors, if this node holds the
// partition too.
func (r *Repair) learnEnds(told partitionEnds) error {
	rec := r.current()
	if rec == nil || !rec.Holds(told.Partition, r.cfg.Self) {
		return nil
	}
	known, _ := r.cfg.Store.Endings(told.Partition)
	var news []store.Ending
	for i := range told.Ends {
		at, ok := slices.BinarySearchFunc(known, told.Ends[i].Actor, compareEnding)
		if !ok || !known[at].Closed {
			news = append(news, told.Ends[i])
		}
	}
	if len(news) == 0 {
		return nil
	}
	if err := r.cfg.Store.End(told.Partition, news, 0); err != nil {
		return fmt.Errorf("learn of closed actors in partition %d: %w", told.Partition, err)
	}
	return nil
}
