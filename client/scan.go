package client

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// An Item is one key of a scan, with the value of its winner.
type Item struct {
	// Key and Value share memory with others of their page: copy what is kept for long.
	Key   []byte
	Value []byte // nil with KeysOnly
	// Siblings that the key has; more than one is a conflict to resolve.
	Siblings int
	// Expires is when the value stops to be readable; zero is never.
	Expires time.Time
	// Partition that the key belongs to.
	Partition ring.Partition
}

// Bounds of a scan.
const (
	// scanAhead is how many partitions are read at once.
	scanAhead = 8
	// scanPage is how many keys are asked for at once.
	scanPage = 256
)

// Scan gives every key with the prefix that has a value, partition after
// partition and sorted by key within each. An empty prefix is all keys. Each
// page is read from R homes: a quorum, unless an option says otherwise.
//
// Keys that are written meanwhile may be seen or not; every other key is seen
// exactly once. A partition that cannot be read ends the scan: the last pair
// has an *Error and no item. Nothing is left out silently.
//
// The context ends the whole scan; the time of WithTimeout bounds each page.
// Keys and values share memory with others of their page: copy what is kept
// for long.
func (c *Client) Scan(ctx context.Context, prefix []byte, opts ...CallOption) iter.Seq2[Item, error] {
	options := callOf(opts)
	return func(yield func(Item, error) bool) {
		view, err := c.Ring(ctx)
		if err == nil && !view.Record.Founded() {
			err = newError(&op{name: "scan", key: prefix}, "", 1, fmt.Errorf("the cluster is not founded yet: %w", ErrNotReady))
		}
		if err != nil {
			yield(Item{}, err)
			return
		}
		from, to := 0, view.Record.Partitions
		if p, ok := onlyPartition(view.Record, prefix); ok {
			from, to = p, p+1
		}
		c.scan(ctx, from, to, prefix, options, yield)
	}
}

// scan reads several partitions at once and yields them in order.
func (c *Client) scan(ctx context.Context, from, to int, prefix []byte, options call, yield func(Item, error) bool) {
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	queue := make(chan chan page, scanAhead-1)
	readers.Go(func() {
		defer close(queue)
		for p := from; p < to; p++ {
			pages := make(chan page, 1)
			select {
			case queue <- pages:
			case <-ctx.Done():
				return
			}
			readers.Go(func() {
				defer close(pages)
				c.scanPartition(ctx, p, prefix, options, pages)
			})
		}
	})
	for pages := range queue {
		for page := range pages {
			if page.err != nil {
				yield(Item{}, page.err)
				return
			}
			for _, it := range page.items {
				if !yield(it, nil) {
					return
				}
			}
		}
	}
	if ctx.Err() != nil {
		// Readers that saw the end of the context may have sent nothing.
		yield(Item{}, newError(&op{name: "scan", key: prefix}, "", 0, context.Cause(ctx)))
	}
}

// page is part of a partition, or why the scan ends.
type page struct {
	items []Item
	err   error
}

func (c *Client) scanPartition(ctx context.Context, p int, prefix []byte, options call, pages chan<- page) {
	var after []byte
	for {
		o := op{name: "scan", key: prefix, partition: p, deadline: time.Now().Add(c.cfg.timeout)}
		if d, ok := ctx.Deadline(); ok && d.Before(o.deadline) {
			o.deadline = d
		}
		req := &api.ScanRequest{
			Partition: uint16(p),
			After:     after,
			Prefix:    prefix,
			Limit:     scanPage,
			R:         api.Level(options.level),
			KeysOnly:  options.keysOnly,
			Zone:      c.zoneFor(&options),
		}
		resp := new(api.ScanResponse)
		err := run(ctx, c, &o, api.Scan, req, resp)
		if err == nil && len(resp.Next) > 0 && bytes.Compare(resp.Next, after) <= 0 {
			err = newError(&o, "", 1, fmt.Errorf("page does not go on behind %s: %w", quote(after), rpc.ErrInternal))
		}
		if err != nil {
			select {
			case pages <- page{err: fmt.Errorf("partition %d: %w", p, err)}:
			case <-ctx.Done():
			}
			return
		}
		items := make([]Item, len(resp.Items))
		for i, it := range resp.Items {
			items[i] = Item{Key: it.Key, Value: it.Value, Siblings: it.Siblings, Partition: ring.Partition(p)}
			if it.Value == nil && !options.keysOnly {
				items[i].Value = []byte{}
			}
			items[i].Expires = expiryTime(it.Expiry)
		}
		select {
		case pages <- page{items: items}:
		case <-ctx.Done():
			return
		}
		if after = resp.Next; len(after) == 0 {
			return
		}
	}
}

// onlyPartition is the one that all keys with the prefix belong to, if the
// prefix has a whole {hash tag}.
func onlyPartition(record *ring.Record, prefix []byte) (int, bool) {
	open := bytes.IndexByte(prefix, '{')
	if open < 0 || bytes.IndexByte(prefix[open:], '}') <= 1 {
		return 0, false
	}
	return int(record.PartitionOf(prefix)), true
}
