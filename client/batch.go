package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// A Put is one write of PutAll.
type Put struct {
	// Key is 1 to KeyMax bytes, Value at most ValueMax.
	Key   []byte
	Value []byte
	// Delete removes the key; Value is left out then.
	Delete bool
	// Context, if set, makes the write replace exactly what it names.
	Context Context
	// TTL, if set, is how long the value can be read, as with WithTTL, and
	// Expires until when, as with WithExpiry. One of them may be set; it goes
	// before the option of the call.
	TTL     time.Duration
	Expires time.Time
}

// A Read is the outcome of one key of GetAll.
type Read struct {
	Result
	// Err is nil, ErrNotFound, or why the key was not read.
	Err error
}

// A Wrote is the outcome of one write of PutAll.
type Wrote struct {
	Written
	// Err is nil, or an *Error: see Refused and Unknown.
	Err error
}

// GetAll reads many keys, each for itself, and returns their outcomes in the
// order of the keys. Keys are grouped by the home that is asked for them, and
// the groups go out together. Values share memory with others of the same
// call: copy what is kept for long.
func (c *Client) GetAll(ctx context.Context, keys [][]byte, opts ...CallOption) []Read {
	options := callOf(opts)
	b := &batch[api.GetResponse]{c: c, deadline: c.deadlineOf(ctx)}
	b.items = make([]item[api.GetResponse], len(keys))
	for i, key := range keys {
		b.items[i].op = op{name: "get", key: key, deadline: b.deadline}
		b.items[i].err = checkKey(key)
		b.items[i].size = len(key) + getSize
	}
	b.send = func(n *node, group []*item[api.GetResponse]) error {
		req := &api.GetAllRequest{R: api.Level(options.level), Stamp: c.clock.stamp.Load(), Zone: c.zoneFor(&options)}
		for _, it := range group {
			req.Keys = append(req.Keys, it.op.key)
		}
		resp := new(api.GetAllResponse)
		t := tried{n: group[0].tried.n}
		err := send(ctx, c, api.GetAll, n, req, resp, group[0].op.attemptDeadline(c.view.Load(), &t))
		if err == nil && len(resp.Results) != len(group) {
			err = fmt.Errorf("%d results for %d keys: %w", len(resp.Results), len(group), rpc.ErrInternal)
		}
		if err != nil {
			return err
		}
		for i, it := range group {
			it.response, it.err = resp.Results[i].Response, parseError(resp.Results[i].Error)
		}
		return nil
	}
	b.run(ctx)
	out := make([]Read, len(keys))
	for i := range b.items {
		it := &b.items[i]
		if it.tried.n > 0 && (errors.Is(it.err, ErrTooLarge) || errors.Is(it.err, rpc.ErrTooLarge)) {
			// The values of its group together were; alone it may pass.
			out[i].Result, out[i].Err = c.Get(ctx, it.op.key, opts...)
			continue
		}
		if it.err != nil {
			out[i].Err = newError(&it.op, it.at, it.tried.n, it.err)
			continue
		}
		out[i].Result, out[i].Err = c.read(&it.op, &it.response)
	}
	return out
}

// PutAll does many writes, each for itself, and returns their outcomes in the
// order of the writes. There is no atomicity. Several writes of one key are
// done in some order.
func (c *Client) PutAll(ctx context.Context, puts []Put, opts ...CallOption) []Wrote {
	options := callOf(opts)
	b := &batch[api.PutResponse]{c: c, deadline: c.deadlineOf(ctx)}
	b.items = make([]item[api.PutResponse], len(puts))
	requests := make([]api.PutRequest, len(puts))
	for i := range puts {
		p, it := &puts[i], &b.items[i]
		it.op = op{name: "put", key: p.Key, write: true, deadline: b.deadline}
		value := p.Value
		if p.Delete {
			it.op.name, value = "delete", nil
		}
		one := options
		one.context = p.Context
		if p.Delete || p.TTL != 0 || !p.Expires.IsZero() { // the option is for puts that say nothing
			one.life = life{ttl: p.TTL, hasTTL: p.TTL != 0, expires: p.Expires}
		}
		requests[i], it.err = c.putRequest(&it.op, p.Key, value, &one)
		it.index = i
		it.size = len(p.Key) + len(value) + len(p.Context) + putSize
	}
	b.send = func(n *node, group []*item[api.PutResponse]) error {
		req := new(api.PutAllRequest)
		for _, it := range group {
			req.Puts = append(req.Puts, requests[it.index])
		}
		resp := new(api.PutAllResponse)
		err := send(ctx, c, api.PutAll, n, req, resp, b.deadline)
		if err == nil && len(resp.Results) != len(group) {
			err = fmt.Errorf("%d results for %d writes: %w", len(resp.Results), len(group), rpc.ErrInternal)
		}
		if err != nil {
			return err
		}
		for i, it := range group {
			it.response, it.err = resp.Results[i].Response, parseError(resp.Results[i].Error)
		}
		return nil
	}
	b.run(ctx)
	out := make([]Wrote, len(puts))
	for i := range b.items {
		it := &b.items[i]
		if it.err != nil {
			out[i].Err = newError(&it.op, it.at, it.tried.n, it.err)
			continue
		}
		c.clock.observe(it.response.Stamp)
		c.noticed(it.response.Receipt.Epoch)
		out[i].Written = writtenOf(&it.response)
	}
	return out
}

// Bounds of one request. A group of reads is kept small because its values are
// not: what does not fit the reply is asked for again by itself.
const (
	groupBytesMax = 1 << 20
	groupItemsMax = 256
	groupsMax     = 16      // under way at once
	getSize       = 4 << 10 // a guess at a value
	putSize       = 64      // what a write takes beside its bytes
)

// item is one key of a batch. It is pending while it has neither a response
// nor a final error.
type item[Resp any] struct {
	op       op
	index    int
	size     int
	tried    tried
	at       string // the node that was asked last
	response Resp
	err      error
	worst    error // the refusal that tells most
}

// batch sends items in groups, by the same rules as single calls.
type batch[Resp any] struct {
	c        *Client
	deadline time.Time
	items    []item[Resp]
	// send asks a node for a group, and gives each item its outcome or
	// returns why there is none.
	send func(n *node, group []*item[Resp]) error
}

// run ends when every item has a response or an error.
func (b *batch[Resp]) run(ctx context.Context) {
	pending := make([]*item[Resp], 0, len(b.items))
	for i := range b.items {
		if b.items[i].err == nil {
			b.items[i].op.partition = b.c.partitionOf(b.items[i].op.key)
			pending = append(pending, &b.items[i])
		}
	}
	slots := make(chan struct{}, groupsMax)
	for len(pending) > 0 {
		groups := b.group(ctx, pending)
		var sent sync.WaitGroup
		for _, g := range groups {
			slots <- struct{}{}
			sent.Go(func() {
				defer func() { <-slots }()
				if err := b.send(g.node, g.items); err != nil {
					for _, it := range g.items {
						it.err = err
					}
				}
			})
		}
		sent.Wait()
		pending = b.settle(ctx, groups, pending[:0])
	}
}

// group is items for one request to one node.
type group[Resp any] struct {
	node  *node
	items []*item[Resp]
	bytes int
}

// group chooses a node for every pending item; those for whom nobody is left
// get their error.
func (b *batch[Resp]) group(ctx context.Context, pending []*item[Resp]) []*group[Resp] {
	var groups []*group[Resp]
	open := make(map[*node]*group[Resp])
	over := b.c.over(ctx, &op{deadline: b.deadline})
	v, turn := b.c.view.Load(), b.c.spread()
	for _, it := range pending {
		if over != nil {
			it.err = over
			if it.worst != nil {
				it.err = fmt.Errorf("%w: %w", over, it.worst)
			}
			continue
		}
		n := v.pick(it.op.partition, &it.tried, turn)
		if n == nil {
			it.err = nobodyLeft(it.worst)
			continue
		}
		it.tried.add(n)
		it.at = n.name
		g := open[n]
		if g == nil || len(g.items) >= groupItemsMax || g.bytes+it.size > groupBytesMax {
			g = &group[Resp]{node: n}
			open[n] = g
			groups = append(groups, g)
		}
		g.items = append(g.items, it)
		g.bytes += it.size
	}
	return groups
}

// settle judges what came back and keeps the items that another node is to be
// asked for.
func (b *batch[Resp]) settle(ctx context.Context, groups []*group[Resp], pending []*item[Resp]) []*item[Resp] {
	overloaded := false
	for _, g := range groups {
		for _, it := range g.items {
			if it.err == nil {
				continue
			}
			v := it.op.judge(ctx, it.err)
			if v == lost {
				it.op.lost, it.err = true, unknown(it.err)
			}
			if v != next {
				continue
			}
			overloaded = overloaded || errors.Is(it.err, ErrOverloaded)
			it.tried.refused(it.err)
			it.worst, it.err = worse(it.worst, it.err), nil
			pending = append(pending, it)
		}
	}
	if overloaded {
		pause(ctx, overloadWait)
	}
	return pending
}

// parseError is the error of one item; no bytes are none.
func parseError(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return rpc.ParseError(b)
}
