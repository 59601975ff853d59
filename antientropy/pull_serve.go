package antientropy

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// What a home does for another one that pulls. Nothing here calls another node.

// Bounds of what is read for one page, wanted or not: the asker's patience ends
// some time.
const (
	scannedMax      = 20_000
	scannedBytesMax = 64 << 20
)

func (r *Repair) registerPull(m *rpc.Mux) {
	pullRoute.Handle(m, rpc.ClassHome, r.servePull)
}

// servePull sends a page of the records that a home lacks.
func (r *Repair) servePull(ctx context.Context, from rpc.Peer, req *pullRequest) (*pullResponse, error) {
	rec, err := r.ringAt(ctx, req.Epoch)
	if err != nil {
		return nil, err
	}
	if err := sharedHomes(rec, req.Partition, r.cfg.Self, from.ID); err != nil {
		return nil, err
	}
	s, p := r.cfg.Store, req.Partition
	if era := r.eraToTell(); era != req.Era {
		return nil, fmt.Errorf("%w: the clock of partition %d was of era %x, and this is era %x", api.ErrNotReady, p, req.Era, era)
	}
	// The clock before the records: what it claims, they show.
	vouched := s.CountsForRead(p)
	clock := s.ClockOf(p)
	logged, unknown, err := s.KeysOf(p, req.Want)
	if err != nil {
		return nil, fmt.Errorf("keys of partition %d: %w", p, err)
	}
	page := &pullPage{store: s, p: p, have: &req.Have, most: r.pace.pageMax(), resp: &pullResponse{Scanned: len(unknown) > 0}}
	page.logged = keysBehind(logged, req.After)
	if len(unknown) > 0 {
		err = page.scan(ctx, req.After)
	} else {
		err = page.look(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("reading partition %d: %w", p, err)
	}
	if r.eraToTell() != req.Era {
		return nil, fmt.Errorf("%w: something of partition %d was lost meanwhile", api.ErrNotReady, p)
	}
	if vouched && s.CountsForRead(p) {
		page.resp.Verdict, page.resp.Base = true, clock.Bases()
	}
	return page.resp, nil
}

// sharedHomes refuses a partition of which one of the two is no home.
func sharedHomes(rec *ring.Record, p ring.Partition, self, from ring.NodeID) error {
	for _, id := range []ring.NodeID{self, from} {
		if rec.HomeIndex(p, id) < 0 {
			return fmt.Errorf("%w: %s is no home of partition %d at epoch %d", api.ErrNotHome, id.Short(), p, rec.Epoch)
		}
	}
	return nil
}

// pullPage is a page on its way. Its keys come in order.
type pullPage struct {
	store  Store
	p      ring.Partition
	have   *store.Clock
	most   int               // records
	logged []store.LoggedKey // keys that the dot log knows, in order; those behind are left
	resp   *pullResponse
	bytes  int
}

// add takes a record, nil for none, or says that it is for the next page. wanted are
// the dots of it that were asked for, as far as they are known.
func (g *pullPage) add(key, encoded []byte, wanted []version.Dot) bool {
	dots := hiddenIn(encoded, wanted)
	hidden := wantedAt(key, dots)
	size := len(key)*(1+len(hidden)) + len(encoded) + dotSize*len(dots)
	if len(g.resp.Items) > 0 && (g.bytes+size > answerMax || len(g.resp.Items) >= g.most || len(g.resp.Hidden)+len(hidden) > pullItemsMax) {
		return false
	}
	g.resp.Hidden = append(g.resp.Hidden, hidden...)
	g.bytes += size
	g.resp.Items = append(g.resp.Items, item{key: key, encoded: encoded})
	g.resp.Next = key
	return true
}

// look reads the logged keys.
func (g *pullPage) look(ctx context.Context) error {
	for len(g.logged) > 0 {
		if ok, err := g.next(ctx); !ok || err != nil {
			return err
		}
	}
	g.end()
	return nil
}

// next adds the first of the logged keys, or says that it is for the next page.
func (g *pullPage) next(ctx context.Context) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	first := &g.logged[0]
	encoded, err := g.store.Get(g.p, first.Key)
	if err != nil || !g.add(first.Key, encoded, first.Dots) {
		return false, err
	}
	g.logged = g.logged[1:]
	return true, nil
}

func (g *pullPage) end() { g.resp.Next, g.resp.Done = nil, true }

// scan reads the partition behind a key and sends what the log knows and what the
// asker's clock does not cover. A record all of whose last dots the asker claims
// can tell it nothing: of what these have replaced it has the effect.
func (g *pullPage) scan(ctx context.Context, after []byte) error {
	records, size, full := 0, 0, false
	late := time.Now().Add(pullMax)
	if end, ok := ctx.Deadline(); ok {
		late = time.Now().Add(time.Until(end) / 2)
	}
	var failed error
	err := g.store.Scan(g.p, after, 0, func(key, encoded []byte) bool {
		if failed = ctx.Err(); failed != nil {
			return false
		}
		if full = records > 0 && (records == scannedMax || size > scannedBytesMax || time.Now().After(late)); full {
			return false
		}
		records++
		size += len(encoded)
		// Logged keys before this one have no record, or did not when the
		// scan began.
		for len(g.logged) > 0 && bytes.Compare(g.logged[0].Key, key) < 0 {
			ok, err := g.next(ctx)
			if full, failed = !ok, err; full {
				return false
			}
		}
		wanted := len(g.logged) > 0 && bytes.Equal(g.logged[0].Key, key)
		var dots []version.Dot
		if wanted {
			dots = g.logged[0].Dots
			g.logged = g.logged[1:]
		} else if wanted, failed = g.outside(encoded); failed != nil {
			return false
		}
		if wanted {
			if full = !g.add(key, encoded, dots); full {
				return false
			}
		}
		g.resp.Next = key
		return true
	})
	if err == nil {
		err = failed
	}
	if err != nil || full {
		return err
	}
	return g.look(ctx)
}

// outside says that a record names a dot that the asker's clock does not claim.
func (g *pullPage) outside(encoded []byte) (bool, error) {
	header, err := version.Header(encoded)
	if err != nil {
		return false, err
	}
	r, err := version.ParseHeader(header)
	if err != nil {
		return false, err
	}
	for _, d := range r.Seen {
		if !g.have.Has(d) {
			return true, nil
		}
	}
	for i := range r.Siblings {
		if !g.have.Has(r.Siblings[i].Dot) {
			return true, nil
		}
	}
	return false, nil
}
