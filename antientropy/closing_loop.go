package antientropy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

const (
	closingLookMin    = time.Second
	closingLookMax    = 10 * time.Second
	closingBackoffMax = 5 * time.Minute
	// closingPause is between two partitions that have something to close.
	closingPause = 100 * time.Millisecond
)

// registerClosing answers the homes that close actors. Nothing is called out while one
// is served.
func (r *Repair) registerClosing(m *rpc.Mux) {
	endRoute.Handle(m, rpc.ClassHome, func(ctx context.Context, from rpc.Peer, req *endRequest) (*endResponse, error) {
		return r.serveEnd(ctx, req, from.ID)
	})
}

// closer is the state of closingLoop's goroutine.
type closer struct {
	r      *Repair
	places map[ring.Partition]*closingPlace
	// seen is the reading of the clocks' changes in an era that was looked at by
	// the ring record of an epoch.
	era, epoch, seen uint64
}

// closingPlace is a partition that has actors to close.
type closingPlace struct {
	actors []version.Actor
	// since when there are some, and the next try is not earlier than next.
	since, next time.Time
	backoff     time.Duration
	blocked     []cause
}

// closingLoop closes actors in the partitions of which this node is the first home. It
// ends with ctx.
func (r *Repair) closingLoop(ctx context.Context) error {
	c := &closer{r: r, places: map[ring.Partition]*closingPlace{}}
	chance := r.generator("closing", r.cfg.Self)
	every := min(closingLookMax, max(closingLookMin, r.cfg.CloseAfter/4))
	for {
		if err := sleep(ctx, jittered(chance, every)); err != nil {
			return err
		}
		if err := c.pass(ctx); err != nil {
			return err
		}
	}
}

// pass looks for actors to close, and closes what it can. It fails only with ctx.
func (c *closer) pass(ctx context.Context) error {
	rec := c.r.current()
	if rec == nil || c.r.cfg.Store.Health().Failed != nil {
		return ctx.Err()
	}
	c.look(rec)
	for _, p := range slices.Sorted(maps.Keys(c.places)) {
		place, now := c.places[p], time.Now()
		if now.Sub(place.since) < c.r.cfg.CloseAfter || now.Before(place.next) && !c.unblocked(place) {
			continue
		}
		n, blocked, err := c.r.closeActors(ctx, rec, p, place.actors)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.r.log.Debug("closing actors", "partition", p, "error", err)
		}
		if n > 0 {
			c.r.closed.Add(int64(n))
			c.r.log.Info("writes that a crash took with it are void now", "partition", p, "actors", n)
		}
		place.tried(blocked, n > 0, c.r.cfg.CloseAfter)
		c.publish()
		if err := sleep(ctx, closingPause); err != nil {
			return err
		}
	}
	c.publish()
	return nil
}

// look notes which partitions have actors to close. Only where the clock has changed
// there can be others than before.
func (c *closer) look(rec *ring.Record) {
	s := c.r.cfg.Store
	if era := s.Era(); era != c.era || rec.Epoch != c.epoch {
		c.era, c.epoch, c.seen = era, rec.Epoch, 0
	}
	changed, now := s.ClocksChanged(c.seen)
	c.seen = now
	for _, p := range changed {
		if len(rec.Homes(p)) == 0 || rec.Homes(p)[0] != c.r.cfg.Self {
			continue
		}
		clock := s.ClockOf(p)
		ends, _ := s.Endings(p)
		actors := endable(&clock, ends)
		if len(actors) == 0 {
			delete(c.places, p)
			continue
		}
		place := c.places[p]
		if place == nil || !slices.ContainsFunc(actors, func(a version.Actor) bool { return slices.Contains(place.actors, a) }) {
			place = &closingPlace{since: time.Now()}
			c.places[p] = place
		}
		place.actors = actors
	}
	for p := range c.places {
		if homes := rec.Homes(p); len(homes) == 0 || homes[0] != c.r.cfg.Self {
			delete(c.places, p)
		}
	}
}

// unblocked says that all members are back that a place waited for.
func (c *closer) unblocked(place *closingPlace) bool {
	waited := false
	for _, b := range place.blocked {
		if b.why != whyAway || !c.r.reachable(b.member) {
			return false
		}
		waited = true
	}
	return waited
}

// tried puts the next try off: for longer each time that nothing could be closed.
func (d *closingPlace) tried(blocked []cause, progress bool, least time.Duration) {
	d.blocked = blocked
	if progress || d.backoff == 0 {
		d.backoff = max(closingLookMin, least/4)
	} else {
		d.backoff = min(2*d.backoff, closingBackoffMax)
	}
	d.next = time.Now().Add(d.backoff)
}

// publish puts what blocks the closing behind Status.
func (c *closer) publish() {
	due, partitions := 0, map[cause]int{}
	for p, place := range c.places {
		if time.Since(place.since) < c.r.cfg.CloseAfter {
			continue
		}
		for _, b := range place.blocked {
			partitions[b]++
		}
		ends, _ := c.r.cfg.Store.Endings(p)
		if len(place.blocked) > 0 || slices.ContainsFunc(ends, func(e store.Ending) bool { return !e.Closed }) {
			due++ // else what is missing is on its way
		}
	}
	var sentences []string
	for b, n := range partitions {
		sentences = append(sentences, fmt.Sprintf("%s %s: writes that a crash took with it, in %d partitions, cannot be declared void before all members were asked", c.r.nameOf(b.member), b.why, n))
	}
	if due > 0 && len(sentences) == 0 {
		sentences = append(sentences, fmt.Sprintf("writes that a crash took with it are being declared void in %d partitions", due))
	}
	slices.SortFunc(sentences, strings.Compare)
	sentences = sentences[:min(len(sentences), blockedMax)]
	c.r.closing.Store(int64(due))
	c.r.closingWaits.Store(&sentences)
}

// endWordings say why a member's answer cannot be relied on.
var endWordings = [endWords]string{
	endLossy:    "has lost something, and fills it anew",
	endCounting: "has not read all of its records yet",
}

// closingOf is one try to close some actors of a partition.
type closingOf struct {
	r     *Repair
	rec   *ring.Record
	p     ring.Partition
	era   uint64
	all   []ring.NodeID // to be asked, the homes first
	homes int
	// blocked are the members that keep it from its end.
	blocked []cause
}

// closeActors closes those of some actors of a partition that can be, and says how many
// those were and what keeps the others. It may end anywhere, and be tried again by
// whoever is the first home then: what is fenced stays so, and all come to the same
// end.
func (r *Repair) closeActors(ctx context.Context, rec *ring.Record, p ring.Partition, actors []version.Actor) (int, []cause, error) {
	c := &closingOf{r: r, rec: rec, p: p, era: r.cfg.Store.EraOf(p)}
	c.all, c.homes = asked(rec, p)
	for _, id := range c.all {
		if id != r.cfg.Self && !r.reachable(id) {
			c.block(id, whyAway)
		}
	}
	ends, _ := r.cfg.Store.Endings(p)
	var fenced, fresh []store.Ending
	for _, a := range actors {
		at, known := slices.BinarySearchFunc(ends, a, compareEnding)
		switch {
		case !known:
			fresh = append(fresh, store.Ending{Actor: a})
		case !ends[at].Closed:
			fenced = append(fenced, store.Ending{Actor: a})
		}
	}
	if len(c.blocked) == 0 && len(fresh) > 0 {
		ready, err := c.glance(ctx, fresh)
		if err != nil {
			return 0, c.blocked, err
		}
		fenced = append(fenced, ready...)
		slices.SortFunc(fenced, func(x, y store.Ending) int { return compareEnding(x, y.Actor) })
	}
	if len(fenced) == 0 {
		return 0, c.blocked, nil
	}
	n, err := c.close(ctx, fenced)
	return n, c.blocked, err
}

func (c *closingOf) block(id ring.NodeID, why string) {
	if b := (cause{id, why}); !slices.Contains(c.blocked, b) {
		c.blocked = append(c.blocked, b)
	}
}

// ask asks all members that can be reached, this one too, in their order; nil stands for
// no answer that can be relied on.
func (c *closingOf) ask(ctx context.Context, req *endRequest) ([]*endResponse, error) {
	out := make([]*endResponse, len(c.all))
	for i, id := range c.all {
		var err error
		switch {
		case id == c.r.cfg.Self:
			out[i], err = c.r.endsHere(ctx, c.rec, req)
		case !c.r.reachable(id):
			c.block(id, whyAway)
			continue
		default:
			out[i], err = ask(ctx, c.r, id, endRoute, req)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		switch {
		case err != nil && id == c.r.cfg.Self:
			return nil, err
		case err != nil:
			c.r.log.Debug("closing actors", "partition", c.p, "at", id.Short(), "error", err)
			c.block(id, "does not answer")
		case len(out[i].Ends) != len(req.Ends) || !sameActors(out[i].Ends, req.Ends):
			out[i] = nil
			c.block(id, "does not answer what it was asked")
		case out[i].Epoch != c.rec.Epoch:
			c.block(id, "knows a newer ring record")
		case out[i].Word != endWhole:
			c.block(id, endWordings[out[i].Word])
		}
	}
	return out, nil
}

func sameActors(answers []endAnswer, ends []store.Ending) bool {
	return slices.EqualFunc(answers, ends, func(a endAnswer, e store.Ending) bool { return a.End.Actor == e.Actor })
}

// glance looks, without a fence, which actors are over: nobody writes with them, all
// homes hold the same of them, and nobody else holds more. A fence on another one would
// only be in the way of catch-up.
func (c *closingOf) glance(ctx context.Context, fresh []store.Ending) ([]store.Ending, error) {
	answers, err := c.ask(ctx, &endRequest{Epoch: c.rec.Epoch, Partition: c.p, Look: true, Ends: fresh})
	if err != nil || len(c.blocked) > 0 {
		return nil, err
	}
	var ready []store.Ending
	for i := range fresh {
		held, known, minting, closed := heldBy(answers, i)
		if closed != nil {
			if err := c.r.cfg.Store.End(c.p, []store.Ending{*closed}, 0); err != nil {
				return nil, err
			}
			continue
		}
		if _, same := agreed(held, known, c.homes); same && !minting {
			ready = append(ready, store.Ending{Actor: fresh[i].Actor})
		}
	}
	return ready, nil
}

// heldBy gives what those who were asked hold of an actor, in their order, and take,
// whether one writes with it, and what one of them has closed it with.
func heldBy(answers []*endResponse, i int) (held, known [][]store.Range, minting bool, closed *store.Ending) {
	held, known = make([][]store.Range, len(answers)), make([][]store.Range, len(answers))
	for j, a := range answers {
		if a == nil {
			continue
		}
		minting = minting || a.Ends[i].Minting
		held[j], known[j] = a.Ends[i].End.Dots, a.Ends[i].Known
		if a.Ends[i].End.Closed {
			closed = &a.Ends[i].End
		}
	}
	return held, known, minting, closed
}

// close fences actors everywhere and closes those of which all homes hold the same.
func (c *closingOf) close(ctx context.Context, ends []store.Ending) (int, error) {
	s := c.r.cfg.Store
	if err := s.End(c.p, ends, 0); err != nil {
		return 0, err
	}
	// What is fenced here is held by a fenced member: others may take it.
	clock := s.ClockOf(c.p)
	own := newHeldDots(ends)
	own.addClock(&clock)
	req := &endRequest{Epoch: c.rec.Epoch, Partition: c.p}
	for i := range ends {
		dots := own.dots[ends[i].Actor]
		req.Ends = append(req.Ends, store.Ending{Actor: ends[i].Actor, Dots: dots[:min(len(dots), store.EndingRangesMax)]})
	}
	answers, err := c.ask(ctx, req)
	if err != nil {
		return 0, err
	}
	var fixed, open []store.Ending
	for i := range req.Ends {
		held, known, _, closed := heldBy(answers, i)
		dots, same := agreed(held, known, c.homes)
		switch {
		case closed != nil:
			fixed = append(fixed, *closed)
		case same && len(c.blocked) == 0:
			fixed = append(fixed, store.Ending{Actor: req.Ends[i].Actor, Closed: true, Dots: dots})
		case len(dots) <= store.EndingRangesMax && !slices.Equal(dots, req.Ends[i].Dots):
			open = append(open, store.Ending{Actor: req.Ends[i].Actor, Dots: dots})
		}
	}
	if len(open) > 0 {
		// All of that is held by fenced members: who lacks it is to take it, from
		// whomever it comes.
		if _, err := c.ask(ctx, &endRequest{Epoch: c.rec.Epoch, Partition: c.p, Ends: open}); err != nil {
			return 0, err
		}
	}
	if len(fixed) == 0 {
		return 0, nil
	}
	return c.fix(fixed)
}

// fix makes the end of actors durable here; the other homes hear of it with the clocks.
func (c *closingOf) fix(ends []store.Ending) (int, error) {
	s := c.r.cfg.Store
	if now := c.r.current(); now == nil || now.Epoch != c.rec.Epoch {
		return 0, fmt.Errorf("the ring record is not that of epoch %d any more", c.rec.Epoch)
	}
	if s.EraOf(c.p) != c.era {
		return 0, fmt.Errorf("clocks of this node were emptied")
	}
	if err := s.End(c.p, ends, c.rec.Epoch); err != nil {
		return 0, err
	}
	var all store.DotSet
	for i := range ends {
		if len(ends[i].Dots) > 0 {
			all = append(all, store.ActorDots{Actor: ends[i].Actor, Ranges: ends[i].Dots})
		}
	}
	// Every home holds them; a clock that had no room has it now.
	if err := s.Incorporate(c.p, all, c.era); err != nil {
		return 0, err
	}
	return len(ends), nil
}
