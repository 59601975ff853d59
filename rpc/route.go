package rpc

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/kithdb/kith/rpc/wire"
)

// Route is the name of one kind of request with the types of its two messages.
// Both ends of it are declared in one line:
//
//	const pull rpc.Route[PullRequest, PullResponse] = "ring.pull"
//
// A name is at most 64 bytes, and once used keeps its meaning.
type Route[Req, Resp any] string

const (
	routeMax = 64
	// callTime is the deadline of a Call whose context has none.
	callTime = 10 * time.Second
	// patience is how long a Call waits, behind its deadline, for the
	// transport to say whether the request had left.
	patience = 250 * time.Millisecond
)

// Call sends req to a peer and waits for the response, until the deadline of
// ctx, or 10 s. When ctx is canceled it returns at once, and the outcome is
// unknown. For errors see NotSent.
func (rt Route[Req, Resp]) Call(ctx context.Context, t Transport, to Peer, req *Req) (*Resp, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(callTime)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s to %s: %w: %w", string(rt), to.Addr, ErrNotSent, err)
	}
	w := &waiter{done: make(chan struct{}, 1)}
	t.Send(to, string(rt), req, deadline, w)
	if !w.wait(ctx) {
		return nil, fmt.Errorf("%s to %s: %w: %w", string(rt), to.Addr, ErrLost, context.Cause(ctx))
	}
	if w.err != nil {
		return nil, w.err
	}
	resp := new(Resp)
	w.reader.Reset(w.reply)
	if err := decodeWith(&w.reader, resp); err != nil {
		return nil, fmt.Errorf("reply to %s from %s: %w", string(rt), to.Addr, err)
	}
	return resp, nil
}

// Send sends req to a peer and returns; c gets the encoded response, for Decode,
// or an error.
func (rt Route[Req, Resp]) Send(t Transport, to Peer, req *Req, deadline time.Time, c Completer) {
	t.Send(to, string(rt), req, deadline, c)
}

// Decode reads the response that a Completer got. Byte slices of messages that
// parse themselves point into reply.
func (rt Route[Req, Resp]) Decode(reply []byte, resp *Resp) error {
	if err := decode(reply, resp); err != nil {
		return fmt.Errorf("reply to %s: %w", string(rt), err)
	}
	return nil
}

// HandleInline has h answer the requests of this route. h runs on the goroutine
// that reads the connection: it must take the request over and return, without
// waiting for anything. It answers by c, exactly once, before or after it has
// returned. It owns req, whose byte slices point into what was received.
// It panics if the route is taken or a message type can't be decoded safely.
func (rt Route[Req, Resp]) HandleInline(m *Mux, class Class, h func(c *Call, req *Req)) {
	rt.check()
	m.register(string(rt), class, func(a arrival) {
		in := &struct {
			Call
			req Req
		}{}
		if c := in.begin(a, &in.req); c != nil {
			defer c.recover()
			h(c, &in.req)
		}
	})
}

// Handle has h answer the requests of this route, each on a goroutine of its
// own; their number is bounded by the class. ctx ends at the request's deadline
// or when the Mux closes. A nil response without an error is a panic of h.
// It panics if the route is taken or a message type can't be decoded safely.
func (rt Route[Req, Resp]) Handle(m *Mux, class Class, h func(ctx context.Context, from Peer, req *Req) (*Resp, error)) {
	rt.check()
	m.register(string(rt), class, func(a arrival) {
		in := &struct {
			Call
			req Req
		}{}
		c := in.begin(a, &in.req)
		if c == nil {
			return
		}
		m.goroutine(c, func(ctx context.Context) {
			resp, err := h(ctx, c.From(), &in.req)
			switch {
			case err != nil:
				c.Fail(err)
			case resp == nil:
				panic("handler of " + string(rt) + " gave neither response nor error")
			default:
				c.Reply(resp)
			}
		})
	})
}

func (rt Route[Req, Resp]) check() {
	if len(rt) == 0 || len(rt) > routeMax {
		panic(fmt.Sprintf("rpc: route %q has %d bytes, not 1 to %d", string(rt), len(rt), routeMax))
	}
	checkType(string(rt), reflect.TypeFor[Req]())
	checkType(string(rt), reflect.TypeFor[Resp]())
}

// waiter is the Completer of a Call. It isn't used again: a channel must not
// leave the synctest bubble in which it was made.
type waiter struct {
	done   chan struct{}
	reply  []byte
	err    error
	reader wire.Reader
}

// Complete implements Completer.
func (w *waiter) Complete(reply []byte, err error) {
	w.reply, w.err = reply, err
	w.done <- struct{}{}
}

// wait says whether the outcome is there.
func (w *waiter) wait(ctx context.Context) bool {
	select {
	case <-w.done:
		return true
	case <-ctx.Done():
	}
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return false
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-w.done:
		return true
	case <-late.C:
		return false
	}
}
