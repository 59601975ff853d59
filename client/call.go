package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kithdb/kith/rpc"
)

// op is one call of the user: what errors say of it, and how it may be
// repeated.
type op struct {
	name      string
	key       []byte
	partition int // -1 for none
	write     bool
	lost      bool // an attempt may have been carried out
	deadline  time.Time
}

// deadlineOf is when a call ends.
func (c *Client) deadlineOf(ctx context.Context) time.Time {
	if d, ok := ctx.Deadline(); ok {
		return d
	}
	return time.Now().Add(c.cfg.timeout)
}

// partitionOf is the key's partition, -1 while there is no ring.
func (c *Client) partitionOf(key []byte) int {
	if r := c.view.Load().record; r != nil && r.Founded() {
		return int(r.PartitionOf(key))
	}
	return -1
}

// Of attempts at reads.
const (
	// attemptMax is how long a read waits for one node before it asks
	// another: a node that works answers long before, and one that hangs
	// must not use up the deadline.
	attemptMax = time.Second
	// overloadWait is the pause before another node is asked for what one
	// was too busy for.
	overloadWait = 5 * time.Millisecond
)

// run sends a request to one node after the other until one has done it, or
// may have done it, or nobody is left. resp is filled when it returns nil.
func run[Req, Resp any](ctx context.Context, c *Client, o *op, route rpc.Route[Req, Resp], req *Req, resp *Resp) error {
	var t tried
	var worst error
	var at string
	v := c.view.Load()
	for {
		if err := c.over(ctx, o); err != nil {
			if worst != nil {
				err = fmt.Errorf("%w: %w", err, worst)
			}
			return newError(o, at, t.n, err)
		}
		n := v.pick(o.partition, &t, c.spread())
		if n == nil {
			return newError(o, at, t.n, nobodyLeft(worst))
		}
		t.add(n)
		at = n.name
		err := send(ctx, c, route, n, req, resp, o.attemptDeadline(v, &t))
		if err == nil {
			return nil
		}
		switch o.judge(ctx, err) {
		case final:
			return newError(o, at, t.n, err)
		case lost:
			o.lost = true
			return newError(o, at, t.n, unknown(bare(err, at)))
		}
		t.refused(err)
		worst = worse(worst, err)
		c.stale.Store(true)
		if errors.Is(err, ErrOverloaded) {
			pause(ctx, overloadWait)
		}
	}
}

// over says that the call must end.
func (c *Client) over(ctx context.Context, o *op) error {
	switch {
	case c.isClosed():
		return ErrClosed
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !time.Now().Before(o.deadline):
		return context.DeadlineExceeded
	}
	return nil
}

// attemptDeadline is when to stop waiting for one node. A write has one
// chance: once sent, its outcome is known from that node or not at all.
func (o *op) attemptDeadline(v *view, t *tried) time.Time {
	if o.write || t.n >= min(len(v.nodes), attemptsMax) {
		return o.deadline
	}
	half := time.Now().Add(max(time.Until(o.deadline)/2, 0))
	if most := time.Now().Add(attemptMax); most.Before(half) {
		return most
	}
	return half
}

// judge is the meaning of an error for this call.
func (o *op) judge(ctx context.Context, err error) verdict {
	v := judge(err)
	if v != lost || o.write {
		return v
	}
	if ctx.Err() != nil {
		return final
	}
	return next // a read can always be repeated
}

// unknown gives the cause of a write that may have been done its kind.
func unknown(err error) error {
	if errors.Is(err, ErrUnknown) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}

// nobodyLeft is the cause when every node has refused.
func nobodyLeft(worst error) error {
	switch {
	case worst == nil:
		return fmt.Errorf("%w: no node is known", ErrUnavailable)
	case silent(worst), errors.Is(worst, rpc.ErrNotSent):
		return fmt.Errorf("%w: no node answers: %w", ErrUnavailable, worst)
	}
	return worst
}

// worse keeps of two refusals the one that tells more: what a node has
// answered over what the network has.
func worse(a, b error) error {
	if a == nil || silent(a) && !silent(b) {
		return b
	}
	return a
}

// spread is where to begin among nodes that are no homes: a direct client
// keeps the order of its addresses, others take turns.
func (c *Client) spread() int {
	if c.cfg.direct {
		return 0
	}
	return int(c.turn.Load())
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// waiter takes one answer. It is made for each request: a pool of channels
// would not bear the bubbles of testing/synctest, and saves little.
type waiter struct {
	done  chan struct{} // holds one
	reply []byte
	err   error
}

// Complete implements rpc.Completer.
func (w *waiter) Complete(reply []byte, err error) {
	w.reply, w.err = reply, err
	w.done <- struct{}{}
}

// send asks one node once. No context, timer or goroutine is made for it: the
// transport keeps the deadline.
func send[Req, Resp any](ctx context.Context, c *Client, route rpc.Route[Req, Resp], n *node, req *Req, resp *Resp, deadline time.Time) error {
	w := &waiter{done: make(chan struct{}, 1)}
	n.sent.Add(1)
	route.Send(c.transport, n.peer, req, deadline, w)
	select {
	case <-w.done:
	case <-ctx.Done():
		if ctx.Err() == context.Canceled {
			n.answered.Add(1)
			return fmt.Errorf("gave up waiting: %w", context.Cause(ctx))
		}
		<-w.done // the transport keeps the same deadline, and knows more
	}
	n.answered.Add(1)
	if w.err != nil {
		if silent(w.err) {
			c.suspect(n)
		}
		return w.err
	}
	reply := w.reply
	if len(reply) <= replySmall {
		reply = bytes.Clone(reply)
	}
	return route.Decode(reply, resp)
}

// replySmall bounds the replies that are copied before values point into
// them: a small one may be part of a buffer that is many times as large, which
// a kept value would keep too.
const replySmall = 16 << 10
