package client

import (
	"context"
	"fmt"
	"time"

	"github.com/kithdb/kith/rpc/api"
)

// Get reads a key from R homes: a quorum, unless an option says otherwise.
//
// A key without a value gives ErrNotFound, and a Result with the context that
// a write over it can use. Other errors are an *Error with an empty Result.
func (c *Client) Get(ctx context.Context, key []byte, opts ...CallOption) (Result, error) {
	o := op{name: "get", key: key, deadline: c.deadlineOf(ctx)}
	if err := checkKey(key); err != nil {
		return Result{}, newError(&o, "", 0, err)
	}
	o.partition = c.partitionOf(key)
	options := callOf(opts)
	req := &api.GetRequest{Key: key, R: api.Level(options.level), Stamp: c.clock.stamp.Load(), Zone: c.zoneFor(&options)}
	resp := new(api.GetResponse)
	if err := run(ctx, c, &o, api.Get, req, resp); err != nil {
		return Result{}, err
	}
	return c.read(&o, resp)
}

// read takes over a response.
func (c *Client) read(o *op, resp *api.GetResponse) (Result, error) {
	c.clock.observe(resp.Stamp)
	c.noticed(resp.Receipt.Epoch)
	if !resp.Found {
		return resultOf(resp), newError(o, "", 1, ErrNotFound)
	}
	return resultOf(resp), nil
}

// Put writes a key and returns when W homes have it on disk: a quorum, unless
// an option says otherwise. An empty value is a value.
//
// An error is an *Error: Refused(err) says that nothing was written, and
// Unknown(err) that some homes may have the write.
func (c *Client) Put(ctx context.Context, key, value []byte, opts ...CallOption) (Written, error) {
	return c.write(ctx, op{name: "put", key: key, write: true}, value, opts)
}

// Delete removes a key; it is a write like Put. Deleting a key that has no
// value is done all the same: the node that is asked cannot know what the
// other homes have.
func (c *Client) Delete(ctx context.Context, key []byte, opts ...CallOption) (Written, error) {
	return c.write(ctx, op{name: "delete", key: key, write: true}, nil, opts)
}

func (c *Client) write(ctx context.Context, o op, value []byte, opts []CallOption) (Written, error) {
	o.deadline = c.deadlineOf(ctx)
	options := callOf(opts)
	req, err := c.putRequest(&o, o.key, value, &options)
	if err != nil {
		return Written{}, newError(&o, "", 0, err)
	}
	o.partition = c.partitionOf(o.key)
	resp := new(api.PutResponse)
	if err := run(ctx, c, &o, api.Put, &req, resp); err != nil {
		return Written{}, err
	}
	c.clock.observe(resp.Stamp)
	c.noticed(resp.Receipt.Epoch)
	return writtenOf(resp), nil
}

func (c *Client) putRequest(o *op, key, value []byte, options *call) (api.PutRequest, error) {
	if err := checkKey(key); err != nil {
		return api.PutRequest{}, err
	}
	if len(value) > ValueMax {
		return api.PutRequest{}, fmt.Errorf("value of %d bytes, most is %d: %w", len(value), ValueMax, ErrTooLarge)
	}
	req := api.PutRequest{
		Key:      key,
		Value:    value,
		Delete:   o.name == "delete",
		W:        api.Level(options.level),
		Context:  options.context,
		NotAfter: c.clock.notAfter(time.Until(o.deadline)),
		Stamp:    c.clock.stamp.Load(),
		Sloppy:   options.sloppy,
		Zone:     c.zoneFor(options),
	}
	var err error
	req.TTL, req.Expiry, err = options.life.wire(req.Delete)
	return req, err
}

// zoneFor is the zone that a call tells its coordinator.
func (c *Client) zoneFor(options *call) string {
	if options.level == LocalQuorum {
		return c.cfg.zone
	}
	return ""
}

// wire is how a put's request says it.
func (l *life) wire(deletes bool) (ttl, expiry uint64, err error) {
	if deletes && (l.hasTTL || !l.expires.IsZero()) {
		return 0, 0, fmt.Errorf("a delete has no expiry: %w", ErrBadRequest)
	}
	if l.hasTTL && !l.expires.IsZero() {
		return 0, 0, fmt.Errorf("both a TTL and an expiry: %w", ErrBadRequest)
	}
	if l.hasTTL {
		if l.ttl < time.Millisecond || l.ttl > TTLMax {
			return 0, 0, fmt.Errorf("TTL of %v: 1ms to %v: %w", l.ttl, TTLMax, ErrBadRequest)
		}
		return uint64((l.ttl + time.Millisecond - 1) / time.Millisecond), 0, nil
	}
	if l.expires.IsZero() {
		return 0, 0, nil
	}
	ms := l.expires.UnixMilli()
	if ms < 1 {
		return 0, 0, fmt.Errorf("expiry at %v: after 1970: %w", l.expires, ErrBadRequest)
	}
	return 0, uint64(ms), nil
}

// noticed has the ring fetched when a node has used a newer one.
func (c *Client) noticed(epoch uint64) {
	if epoch > c.view.Load().epoch {
		c.stale.Store(true)
	}
}

func checkKey(key []byte) error {
	switch {
	case len(key) == 0:
		return fmt.Errorf("key is empty: %w", ErrBadRequest)
	case len(key) > KeyMax:
		return fmt.Errorf("key of %d bytes, most is %d: %w", len(key), KeyMax, ErrTooLarge)
	}
	return nil
}
