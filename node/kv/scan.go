package kv

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kithdb/kith/quorum"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store/version"
)

const (
	scanLimitDefault = 256
	scanLimitMax     = 4096
	// scanBytesMax ends a page early.
	scanBytesMax = 2 << 20
	// keysBytesMax ends a home's page of keys early.
	keysBytesMax = 1 << 20
)

// scan reads a page of a partition: R homes name their keys, and each key is
// then read like any other. A key that W homes acknowledged is named by one of
// R, if R+W > N.
func (c *Coordinator) scan(ctx context.Context, _ rpc.Peer, req *api.ScanRequest) (*api.ScanResponse, error) {
	if len(req.Prefix) > version.KeySizeMax || len(req.After) > version.KeySizeMax {
		return nil, fmt.Errorf("%w: a prefix of %d bytes, after one of %d: a key has up to %d",
			api.ErrTooLarge, len(req.Prefix), len(req.After), version.KeySizeMax)
	}
	keys, more, err := c.scanKeys(ctx, req)
	if err != nil {
		return nil, err
	}
	return c.scanItems(ctx, req, keys, more)
}

// scanKeys names the keys of a page, by the newest ring record that a home knows.
func (c *Coordinator) scanKeys(ctx context.Context, req *api.ScanRequest) ([][]byte, bool, error) {
	for range reroutesMax {
		r, err := c.record()
		if err != nil {
			return nil, false, err
		}
		keys, more, from, err := c.scanBy(ctx, r, req)
		if from < 0 {
			return keys, more, err
		}
		deadline, ok := ctx.Deadline()
		if !ok {
			deadline = time.Now().Add(timeoutDefault)
		}
		seats := quorum.SeatsOf(r, ring.Partition(req.Partition))
		home := seats.Member(from)
		if _, failed := c.newer(home, r.Epoch, deadline); failed != nil {
			return nil, false, err
		}
	}
	return nil, false, fmt.Errorf("%w: %w", api.ErrUnavailable, errReroutes)
}

// scanBy is scanKeys by one ring record. from is a home that knows a newer one,
// without which there were too few; -1 if none.
func (c *Coordinator) scanBy(ctx context.Context, r *ring.Record, req *api.ScanRequest) (keys [][]byte, more bool, from int, err error) {
	if int(req.Partition) >= r.Partitions {
		return nil, false, -1, fmt.Errorf("%w: partition %d: there are 0 to %d", api.ErrBadRequest, req.Partition, r.Partitions-1)
	}
	if req.Limit < 0 || req.Limit > scanLimitMax {
		return nil, false, -1, fmt.Errorf("%w: a page of %d keys: up to %d", api.ErrBadRequest, req.Limit, scanLimitMax)
	}
	if err := checkLevel("R", req.R, req.Zone, r.Replicas); err != nil {
		return nil, false, -1, err
	}
	limit := req.Limit
	if limit == 0 {
		limit = scanLimitDefault
	}
	p := ring.Partition(req.Partition)
	seats := quorum.SeatsOf(r, p)
	tally, _, err := c.reads(&seats, r, req.R, req.Zone)
	if err != nil {
		return nil, false, -1, err
	}
	return c.keysOf(ctx, &seats, tally, p, keysRequest{
		Epoch: r.Since[p], Partition: req.Partition, After: req.After, Prefix: req.Prefix, Limit: limit,
	})
}

// keysOf merges the pages of R homes into one, and says that there is more
// behind its last key. from is as in scanBy.
func (c *Coordinator) keysOf(ctx context.Context, seats *quorum.Seats, tally quorum.Tally, p ring.Partition, req keysRequest) (keys [][]byte, more bool, from int, err error) {
	type answer struct {
		home int
		resp *keysResponse
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	homes := seats.Members()
	answers := make(chan answer, len(homes))
	asked := 0
	for i, id := range homes {
		if !tally.Counts(i) {
			continue
		}
		asked++
		ask := func() {
			resp, err := c.keysFrom(ctx, id, p, &req)
			answers <- answer{i, resp, err}
		}
		if !c.goroutine(ask) {
			return nil, false, -1, errClosed
		}
	}
	from = -1
	var errs [quorum.SeatsMax]error
	var pages []*keysResponse
	for tally.Result() != quorum.Met && asked > 0 {
		a := <-answers
		asked--
		if a.err != nil {
			errs[a.home] = a.err
			if rerouted(a.err) {
				from = a.home
			}
			continue
		}
		pages = append(pages, a.resp)
		tally.Ack(a.home)
	}
	if tally.Result() != quorum.Met {
		return nil, false, from, fmt.Errorf("%w: %w", api.ErrUnavailable, c.unmet("scan", seats, &tally, func(i int) string {
			switch {
			case !tally.Counts(i):
				return "takes writes only, while a slot moves"
			case errs[i] == nil:
				return "answered"
			}
			return reason(errs[i])
		}))
	}
	keys, more = mergePages(pages, req.Limit)
	return keys, more, -1, nil
}

// mergePages unites sorted pages. Behind the last key of a page that has more,
// that home may have keys which it did not name: the united page ends there.
func mergePages(pages []*keysResponse, limit int) (keys [][]byte, more bool) {
	var end []byte
	for _, page := range pages {
		if !page.More || len(page.Keys) == 0 {
			continue
		}
		if last := page.Keys[len(page.Keys)-1]; end == nil || bytes.Compare(last, end) < 0 {
			end = last
		}
	}
	for _, page := range pages {
		for _, k := range page.Keys {
			if end != nil && bytes.Compare(k, end) > 0 {
				break
			}
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	keys = slices.CompactFunc(keys, bytes.Equal)
	if len(keys) > limit {
		return keys[:limit], true
	}
	return keys, end != nil
}

func (c *Coordinator) keysFrom(ctx context.Context, id ring.NodeID, p ring.Partition, req *keysRequest) (*keysResponse, error) {
	if id == c.cfg.Self {
		return c.vouchedKeys(ctx, p, req)
	}
	to, ok := c.peer(id)
	if !ok {
		return nil, rpc.ErrUnreachable
	}
	return keysRoute.Call(ctx, c.cfg.Transport, to, req)
}

// handleKeys names this node's keys to a coordinator elsewhere.
func (c *Coordinator) handleKeys(ctx context.Context, from rpc.Peer, req *keysRequest) (*keysResponse, error) {
	c.served.Add(1)
	r := c.cfg.Rings.Current()
	if req.Epoch > 0 && (r == nil || r.Epoch < req.Epoch) {
		deadline, ok := ctx.Deadline()
		if !ok {
			deadline = time.Now().Add(timeoutDefault)
		}
		var err error
		if r, err = c.newer(from.ID, req.Epoch-1, deadline); err != nil {
			return nil, fmt.Errorf("%w: %w", api.ErrNotReady, err)
		}
	}
	if r == nil || !r.Founded() {
		return nil, fmt.Errorf("%w: no ring record", api.ErrNotReady)
	}
	p := ring.Partition(req.Partition)
	if int(p) >= r.Partitions || !r.Holds(p, c.cfg.Self) {
		return nil, fmt.Errorf("%w: partition %d at epoch %d", api.ErrNotHome, p, r.Epoch)
	}
	return c.vouchedKeys(ctx, p, req)
}

// vouchedKeys lists what this node has, if that may be answered with. All homes are
// asked, and those that answer first are enough: so it is held back where it must be.
func (c *Coordinator) vouchedKeys(ctx context.Context, p ring.Partition, req *keysRequest) (*keysResponse, error) {
	for held := false; ; held = true {
		var resp *keysResponse
		err := c.readable(p)
		if err == nil {
			resp, err = c.ownKeys(p, req)
		}
		if err = c.vouch(p, req.Epoch, err); err == nil {
			return resp, nil
		}
		if held || !c.awaitPull(ctx, p, req.Epoch, err) {
			return nil, err
		}
	}
}

// ownKeys lists what this node has.
func (c *Coordinator) ownKeys(p ring.Partition, req *keysRequest) (*keysResponse, error) {
	resp := new(keysResponse)
	size := 0
	limit := req.Limit
	if limit <= 0 || limit > scanLimitMax {
		limit = scanLimitMax
	}
	after := req.After
	if bytes.Compare(after, req.Prefix) < 0 {
		// Keys from the prefix on: the prefix itself may be a key.
		k, err := c.cfg.Store.Get(p, req.Prefix)
		if err != nil {
			return nil, err
		}
		if k != nil {
			resp.Keys = append(resp.Keys, req.Prefix)
		}
		after = req.Prefix
	}
	err := c.cfg.Store.Scan(p, after, limit+1, func(key, _ []byte) bool {
		if !bytes.HasPrefix(key, req.Prefix) {
			return false
		}
		if len(resp.Keys) == limit || size >= keysBytesMax {
			resp.More = true
			return false
		}
		resp.Keys = append(resp.Keys, bytes.Clone(key))
		size += len(key)
		return true
	})
	return resp, err
}

// scanRead waits for the get of one key.
type scanRead struct {
	done chan struct{}
	resp api.GetResponse
	err  error
}

// GetDone implements GetSink.
func (s *scanRead) GetDone(resp *api.GetResponse, err error) {
	s.resp, s.err = *resp, err
	close(s.done)
}

// scanWindowMax is how many keys of a page are read at a time, if they are small.
const scanWindowMax = 32

// scanItems reads the named keys, and ends the page where it grows too large.
func (c *Coordinator) scanItems(ctx context.Context, req *api.ScanRequest, keys [][]byte, more bool) (*api.ScanResponse, error) {
	deadline, _ := ctx.Deadline()
	resp := new(api.ScanResponse)
	size, next := 0, 2
	for len(keys) > 0 && size < scanBytesMax {
		read := 0
		window := keys[:min(next, len(keys))]
		reads := make([]scanRead, len(window))
		for i, key := range window {
			reads[i].done = make(chan struct{})
			c.Get(&api.GetRequest{Key: key, R: req.R, Zone: req.Zone}, deadline, &reads[i])
		}
		for i, key := range window {
			select {
			case <-reads[i].done:
			case <-ctx.Done():
				return nil, fmt.Errorf("%w: key %.64q: %w", api.ErrUnavailable, key, ctx.Err())
			}
			if err := reads[i].err; err != nil {
				return nil, fmt.Errorf("key %.64q: %w", key, err)
			}
			read += valueBytes(&reads[i].resp)
			if size >= scanBytesMax {
				continue // read again with the next page
			}
			keys = keys[1:]
			resp.Next = key
			if item, ok := scanItem(req, key, &reads[i].resp); ok {
				resp.Items = append(resp.Items, item)
				size += len(item.Key) + len(item.Value)
			}
		}
		// Twice as many, as long as a page would hold what is read for them.
		next = min(2*len(window), scanWindowMax, max(1, scanBytesMax*len(window)/max(1, read)))
	}
	if len(keys) == 0 && !more {
		resp.Next = nil
	}
	return resp, nil
}

// valueBytes is how much a response holds.
func valueBytes(resp *api.GetResponse) (n int) {
	for i := range resp.Values {
		n += len(resp.Values[i].Data)
	}
	return n
}

func scanItem(req *api.ScanRequest, key []byte, got *api.GetResponse) (api.ScanItem, bool) {
	if !got.Found {
		return api.ScanItem{}, false
	}
	item := api.ScanItem{Key: key, Siblings: got.Receipt.Siblings, Expiry: got.Values[got.Winner].Expiry}
	if !req.KeysOnly {
		item.Value = got.Values[got.Winner].Data
	}
	return item, true
}
