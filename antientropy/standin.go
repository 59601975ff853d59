package antientropy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store"
)

const (
	// standInsEvery is how often this node looks whether records that it keeps
	// for others can go home.
	standInsEvery = 2 * time.Second
	// standInsPage is how many records are read at once.
	standInsPage = 64
	standInsCall = 15 * time.Second
)

func (r *Repair) registerStandIns(m *rpc.Mux) {
	standInsRoute.Handle(m, rpc.ClassHome, r.serveStandIns)
}

// serveStandIns merges records that somebody has kept for this node. They count for
// nothing, and may be as old as they like: what was replaced or forgotten here
// stays so.
func (r *Repair) serveStandIns(ctx context.Context, from rpc.Peer, req *standInsRequest) (*standInsResponse, error) {
	rec := r.current()
	if rec == nil {
		return nil, fmt.Errorf("%w: no ring record", api.ErrNotReady)
	}
	if err := memberOf(rec, from.ID); err != nil {
		return nil, err
	}
	if rec.HomeIndex(req.Partition, r.cfg.Self) < 0 {
		return nil, fmt.Errorf("%w: partition %d at epoch %d", api.ErrNotHome, req.Partition, rec.Epoch)
	}
	resp := &standInsResponse{Errors: make([][]byte, len(req.Records))}
	items := make([]item, len(req.Records))
	for i, b := range req.Records {
		items[i] = item{encoded: b}
		if b == nil {
			return nil, fmt.Errorf("%w: stand-in without a record", wire.ErrMalformed)
		}
	}
	if r.mergeHere(ctx, req.Partition, items, verdict{}) == nil {
		return resp, nil
	}
	// One has failed: each on its own says which. What is merged already
	// changes nothing.
	for i := range items {
		if err := r.mergeHere(ctx, req.Partition, items[i:i+1], verdict{}); err != nil {
			resp.Errors[i] = rpc.AppendError(nil, voided(err))
		}
	}
	return resp, nil
}

// standInLoop sends records home that this node keeps for others.
func (r *Repair) standInLoop(ctx context.Context) error {
	chance := r.generator("stand-ins", r.cfg.Self)
	again := newStandInPauses(chance)
	for {
		if err := sleep(ctx, jittered(chance, standInsEvery)); err != nil {
			return nil
		}
		r.sendHome(ctx, again)
	}
}

// standInPauses holds back homes to which sending has failed.
type standInPauses struct {
	chance   *rand.Rand
	failures map[ring.NodeID]int
	until    map[ring.NodeID]time.Time
}

func newStandInPauses(chance *rand.Rand) *standInPauses {
	return &standInPauses{chance, map[ring.NodeID]int{}, map[ring.NodeID]time.Time{}}
}

func (s *standInPauses) over(id ring.NodeID) bool { return !time.Now().Before(s.until[id]) }

func (s *standInPauses) note(id ring.NodeID, ok bool) {
	if ok {
		delete(s.failures, id)
		delete(s.until, id)
		return
	}
	s.failures[id]++
	s.until[id] = time.Now().Add(jittered(s.chance, standInsEvery<<min(s.failures[id], 4)))
}

// sendHome sends what can go home now.
func (r *Repair) sendHome(ctx context.Context, again *standInPauses) {
	rec := r.current()
	if rec == nil || r.cfg.Store.Health().Failed != nil {
		return
	}
	homes, err := r.cfg.Store.StandInHomes()
	if err != nil {
		r.log.Debug("stand-ins cannot be read", "error", err)
		return
	}
	for _, home := range homes {
		if ctx.Err() != nil {
			return
		}
		if again.over(home) && (rec.Member(home) == nil || r.reachable(home)) {
			again.note(home, r.sendAllHome(ctx, rec, home))
		}
	}
}

// sendAllHome sends all that is kept for a home. It says whether nothing failed.
func (r *Repair) sendAllHome(ctx context.Context, rec *ring.Record, home ring.NodeID) (ok bool) {
	var p ring.Partition
	var after []byte
	ok = true
	for {
		page, err := r.cfg.Store.StandIns(home, p, after, standInsPage)
		if err != nil {
			r.log.Debug("stand-ins cannot be read", "home", home.Short(), "error", err)
			return false
		}
		if len(page) == 0 {
			return ok
		}
		last := page[len(page)-1]
		p, after = last.Partition, last.Record.Key
		for len(page) > 0 {
			n := oneMessage(page)
			if awaitsMove(rec, home, page[0].Partition) {
				page = page[n:]
				continue
			}
			if err := r.sendSome(ctx, rec, home, page[:n]); err != nil {
				r.log.Debug("stand-ins did not go home", "home", home.Short(), "partition", page[0].Partition, "error", err)
				if ok = false; ctx.Err() != nil || !r.anyReachable(rec, home, page[0].Partition) {
					return false
				}
			}
			page = page[n:]
		}
	}
}

// oneMessage is how many of the first records are of one partition and fit into one
// message.
func oneMessage(page []store.StandIn) int {
	size := len(page[0].Encoded)
	for n := 1; n < len(page); n++ {
		size += len(page[n].Encoded)
		if page[n].Partition != page[0].Partition || size > answerMax || n == standInsMax {
			return n
		}
	}
	return len(page)
}

// goTo are the homes that must have a record before it is dropped here: the home
// that it is kept for or, if that is none any more, all.
func goTo(rec *ring.Record, home ring.NodeID, p ring.Partition) []ring.NodeID {
	if rec.HomeIndex(p, home) >= 0 {
		return []ring.NodeID{home}
	}
	return rec.Homes(p)
}

// awaitsMove says that what is kept for a home stays here until a move is over: an end of
// the move may drop the partition soon, and the other one may not know yet what was
// forgotten.
func awaitsMove(rec *ring.Record, home ring.NodeID, p ring.Partition) bool {
	m := rec.MoveOf(p)
	return m != nil && m.Phase > ring.PhasePlan && (home == m.From || home == m.To || rec.HomeIndex(p, home) < 0)
}

func (r *Repair) anyReachable(rec *ring.Record, home ring.NodeID, p ring.Partition) bool {
	return slices.ContainsFunc(goTo(rec, home, p), func(id ring.NodeID) bool { return id == r.cfg.Self || r.reachable(id) })
}

// sendSome sends records of one partition, and drops those that have arrived and not
// changed since.
func (r *Repair) sendSome(ctx context.Context, rec *ring.Record, home ring.NodeID, records []store.StandIn) error {
	if home.IsZero() {
		return r.sendHomeless(ctx, rec, records)
	}
	p := records[0].Partition
	to := goTo(rec, home, p)
	if len(to) == 0 {
		return fmt.Errorf("%w: partition %d has no homes", api.ErrNotReady, p)
	}
	if rec.HomeIndex(p, r.cfg.Self) >= 0 && !slices.Contains(to, r.cfg.Self) {
		to = append([]ring.NodeID{r.cfg.Self}, to...) // a home keeps no stand-ins beside its copy
	}
	arrived := make([]bool, len(records))
	for i := range arrived {
		arrived[i] = true
	}
	var failed error
	for _, id := range to {
		errs, err := r.deliver(ctx, id, p, records)
		if err != nil {
			return err
		}
		for i, err := range errs {
			if err != nil && !errors.Is(err, api.ErrVoid) { // what is void is void for ever
				arrived[i], failed = false, err
			}
		}
	}
	for i := range records {
		if !arrived[i] {
			continue
		}
		if err := r.cfg.Store.DropStandIn(&records[i]); err != nil {
			return fmt.Errorf("drop what went home: %w", err)
		}
	}
	return failed
}

// deliver has a home merge records, and gives the outcome of each.
func (r *Repair) deliver(ctx context.Context, id ring.NodeID, p ring.Partition, records []store.StandIn) ([]error, error) {
	errs := make([]error, len(records))
	if id == r.cfg.Self {
		for i := range records {
			errs[i] = voided(r.mergeHere(ctx, p, []item{{key: records[i].Record.Key, encoded: records[i].Encoded}}, verdict{}))
		}
		return errs, nil
	}
	peer, ok := r.peer(id)
	if !ok {
		return nil, fmt.Errorf("%w: the address of %s is not known", rpc.ErrUnreachable, id.Short())
	}
	req, size := &standInsRequest{Partition: p}, 0
	for i := range records {
		req.Records = append(req.Records, records[i].Encoded)
		size += len(records[i].Encoded)
	}
	if err := r.pace.take(ctx, size); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, standInsCall)
	defer cancel()
	resp, err := standInsRoute.Call(ctx, r.cfg.Transport, peer, req)
	if err != nil {
		return nil, err
	}
	if len(resp.Errors) != len(records) {
		return nil, fmt.Errorf("%w: %d outcomes of %d records from %s", wire.ErrMalformed, len(resp.Errors), len(records), id.Short())
	}
	for i, e := range resp.Errors {
		if len(e) > 0 {
			errs[i] = rpc.ParseError(e)
		}
	}
	return errs, nil
}
