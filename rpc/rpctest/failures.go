package rpctest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
)

var errSentinel = errors.New("rpctest sentinel")

// needError is an error with fields.
type needError struct{ Need, Got int }

// Error implements error.
func (e *needError) Error() string { return fmt.Sprintf("need %d, got %d", e.Need, e.Got) }

// AppendWire implements wire.Appender.
func (e *needError) AppendWire(b []byte) []byte {
	return wire.AppendInt(wire.AppendInt(wire.AppendArray(b, 2), int64(e.Need)), int64(e.Got))
}

// ParseWire implements wire.Parser.
func (e *needError) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	e.Need, e.Got = int(s.Int()), int(s.Int())
	return s.End()
}

func init() {
	rpc.RegisterError(65000, errSentinel)
	rpc.RegisterDetail(65000, func() rpc.DetailError { return &needError{} })
}

func handlerErrors(t *testing.T, start Start) {
	m := newMux(t, rpc.MuxConfig{})
	fail := fmt.Errorf("put %q: %w: %w", "k", errSentinel, &needError{Need: 2, Got: -1})
	hold.HandleInline(m, rpc.ClassClient, func(c *rpc.Call, _ *text) { c.Fail(fail) })
	work.Handle(m, rpc.ClassClient, func(context.Context, rpc.Peer, *text) (*text, error) { return nil, fail })
	n := start(t, m)
	for _, route := range []rpc.Route[text, text]{hold, work} {
		_, err := route.Call(soon(t), n.From, n.Server, &text{})
		wantError(t, err, errSentinel, false)
		var need *needError
		if !errors.As(err, &need) || need.Need != 2 || need.Got != -1 {
			t.Errorf("%s: detail is %+v in %v", route, need, err)
		}
		if !strings.Contains(err.Error(), fail.Error()) {
			t.Errorf("%s: %q does not contain %q", route, err, fail)
		}
	}
}

func handlerErrorIsNoRefusal(t *testing.T, start Start) {
	m := newMux(t, rpc.MuxConfig{})
	work.Handle(m, rpc.ClassClient, func(ctx context.Context, _ rpc.Peer, req *text) (*text, error) {
		switch string(req.Data) {
		case "overloaded":
			return nil, fmt.Errorf("a home of mine: %w", rpc.ErrOverloaded)
		case "unreachable":
			return nil, rpc.ErrUnreachable
		}
		return nil, rpc.ErrNotSent
	})
	n := start(t, m)
	for data, want := range map[string]error{"overloaded": rpc.ErrOverloaded, "unreachable": rpc.ErrUnreachable, "other": rpc.ErrNotSent} {
		_, err := work.Call(soon(t), n.From, n.Server, &text{Data: []byte(data)})
		wantError(t, err, want, false)
	}
}

func unknownRoute(t *testing.T, start Start) {
	n := start(t, newMux(t, rpc.MuxConfig{}))
	_, err := hold.Call(soon(t), n.From, n.Server, &text{})
	wantError(t, err, rpc.ErrUnknownRoute, true)
	if !strings.Contains(err.Error(), string(hold)) {
		t.Errorf("%q does not name the route", err)
	}
	wantEcho(t, n, "still there")
}

func malformedRequest(t *testing.T, start Start) {
	m := newMux(t, rpc.MuxConfig{})
	reflect.HandleInline(m, rpc.ClassClient, func(c *rpc.Call, _ *plain) { t.Error("handled"); c.Reply(&plain{}) })
	n := start(t, m)
	for route, msg := range map[string]any{string(reflect): &text{Data: []byte("x")}, string(echo): &plain{Name: "x"}} {
		got := make(chan error, 1)
		n.From.Send(n.Server, route, msg, time.Now().Add(20*time.Second), rpc.CompleteFunc(func(_ []byte, err error) { got <- err }))
		wantError(t, <-got, wire.ErrMalformed, true)
	}
	wantEcho(t, n, "still there")
}

func deadlineEndsTheWait(t *testing.T, start Start) {
	m := newMux(t, rpc.MuxConfig{})
	held := holding(m)
	n := start(t, m)
	wantEcho(t, n, "connected")
	began := time.Now()
	const wait = 150 * time.Millisecond
	got := make(chan error, 2)
	hold.Send(n.From, n.Server, &text{}, began.Add(wait), rpc.CompleteFunc(func(_ []byte, err error) { got <- err }))
	call := <-held
	if left := time.Until(call.Deadline()); left > wait {
		t.Errorf("the handler has %v, more than the sender's %v", left, wait)
	}
	err := <-got
	wantError(t, err, rpc.ErrDeadline, false)
	if waited := time.Since(began); waited < wait {
		t.Errorf("given up after %v, before the deadline of %v", waited, wait)
	}
	call.Reply(&text{}) // nobody waits for it
	wantEcho(t, n, "still there")
	if len(got) > 0 {
		t.Error("completed twice")
	}
}

func pastDeadline(t *testing.T, start Start) {
	m := newMux(t, rpc.MuxConfig{})
	held := holding(m)
	n := start(t, m)
	wantEcho(t, n, "connected")
	got := make(chan error, 1)
	hold.Send(n.From, n.Server, &text{}, time.Now().Add(-time.Second), rpc.CompleteFunc(func(_ []byte, err error) { got <- err }))
	wantError(t, <-got, rpc.ErrNotSent, true)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := hold.Call(ctx, n.From, n.Server, &text{})
	wantError(t, err, rpc.ErrNotSent, true)
	wantEcho(t, n, "still there")
	if len(held) > 0 {
		t.Error("it was sent")
	}
}

func handlerContext(t *testing.T, start Start) {
	m := newMux(t, rpc.MuxConfig{})
	ended := make(chan error, 1)
	work.Handle(m, rpc.ClassClient, func(ctx context.Context, _ rpc.Peer, _ *text) (*text, error) {
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	n := start(t, m)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := work.Call(ctx, n.From, n.Server, &text{}); err == nil {
		t.Error("a request without an answer succeeded")
	}
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the handler's context ended with %v", err)
	}
}

func overload(t *testing.T, start Start) {
	m := newMux(t, rpc.MuxConfig{Limits: map[rpc.Class]rpc.Limit{rpc.ClassClient: {Requests: 2, Bytes: 1 << 20}}})
	held := holding(m)
	n := start(t, m)
	done := make(chan error, 2)
	for range 2 {
		hold.Send(n.From, n.Server, &text{}, time.Now().Add(20*time.Second), rpc.CompleteFunc(func(_ []byte, err error) { done <- err }))
	}
	calls := []*rpc.Call{<-held, <-held}
	_, err := echo.Call(soon(t), n.From, n.Server, &text{})
	wantError(t, err, rpc.ErrOverloaded, true)
	for _, c := range calls {
		c.Reply(&text{})
	}
	for range calls {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	wantEcho(t, n, "room again")
	if got := m.Counts().Overloads; got != 1 {
		t.Errorf("%d overloads counted, want 1", got)
	}
	if r, b := m.InFlight(rpc.ClassClient); r != 0 || b != 0 {
		t.Errorf("%d requests and %d bytes are still counted as in flight", r, b)
	}
}

func classesApart(t *testing.T, start Start) {
	m := newMux(t, rpc.MuxConfig{Limits: map[rpc.Class]rpc.Limit{rpc.ClassClient: {Requests: 1}}})
	held := holding(m)
	control.HandleInline(m, rpc.ClassControl, func(c *rpc.Call, req *text) { c.Reply(req) })
	n := start(t, m)
	done := make(chan error, 1)
	hold.Send(n.From, n.Server, &text{}, time.Now().Add(20*time.Second), rpc.CompleteFunc(func(_ []byte, err error) { done <- err }))
	call := <-held
	if _, err := control.Call(soon(t), n.From, n.Server, &text{}); err != nil {
		t.Errorf("another class is full, and so: %v", err)
	}
	call.Reply(&text{})
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func nobody(t *testing.T, start Start) {
	n := start(t, newMux(t, rpc.MuxConfig{}))
	for range 3 {
		_, err := echo.Call(soon(t), n.From, n.Nobody, &text{})
		wantError(t, err, rpc.ErrUnreachable, true)
	}
	wantEcho(t, n, "others can be reached")
}

func crash(t *testing.T, start Start) {
	m := newMux(t, rpc.MuxConfig{})
	held := holding(m)
	n := start(t, m)
	const requests = 10
	got := make(chan error, requests)
	for range requests {
		hold.Send(n.From, n.Server, &text{}, time.Now().Add(2*time.Second), rpc.CompleteFunc(func(_ []byte, err error) { got <- err }))
	}
	for range requests {
		<-held
	}
	n.Kill()
	for range requests {
		err := <-got
		if !errors.Is(err, rpc.ErrLost) && !errors.Is(err, rpc.ErrDeadline) || rpc.NotSent(err) {
			t.Errorf("the server had the request and crashed: %v, NotSent %v", err, rpc.NotSent(err))
		}
	}
}

func tooLarge(t *testing.T, start Start) {
	n := start(t, newMux(t, rpc.MuxConfig{}))
	_, err := echo.Call(soon(t), n.From, n.Server, &text{Data: make([]byte, 33<<20)})
	wantError(t, err, rpc.ErrTooLarge, true)
	wantEcho(t, n, "still there")
}

func panics(t *testing.T, start Start) {
	m := newMux(t, rpc.MuxConfig{})
	hold.HandleInline(m, rpc.ClassClient, func(*rpc.Call, *text) { panic("inline") })
	work.Handle(m, rpc.ClassClient, func(context.Context, rpc.Peer, *text) (*text, error) { panic("goroutine") })
	n := start(t, m)
	for _, route := range []rpc.Route[text, text]{hold, work} {
		_, err := route.Call(soon(t), n.From, n.Server, &text{})
		wantError(t, err, rpc.ErrInternal, false)
		wantEcho(t, n, "the node lives")
	}
	if got := m.Counts().Panics; got != 2 {
		t.Errorf("%d panics counted, want 2", got)
	}
	if r, b := m.InFlight(rpc.ClassClient); r != 0 || b != 0 {
		t.Errorf("%d requests and %d bytes are still counted as in flight", r, b)
	}
}

func secondAnswer(t *testing.T, start Start) {
	m := newMux(t, rpc.MuxConfig{})
	answered := make(chan struct{})
	hold.HandleInline(m, rpc.ClassClient, func(c *rpc.Call, _ *text) {
		c.Reply(&text{Data: []byte("first")})
		c.Reply(&text{Data: []byte("second")})
		c.Fail(errSentinel)
		close(answered)
	})
	n := start(t, m)
	resp, err := hold.Call(soon(t), n.From, n.Server, &text{})
	if err != nil || string(resp.Data) != "first" {
		t.Errorf("got %v, %v", resp, err)
	}
	<-answered
	if got := m.Counts().ExtraAnswers; got != 2 {
		t.Errorf("%d extra answers counted, want 2", got)
	}
	wantEcho(t, n, "still there")
}

func cancelReturns(t *testing.T, start Start) {
	m := newMux(t, rpc.MuxConfig{})
	held := holding(m)
	n := start(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() {
		_, err := hold.Call(ctx, n.From, n.Server, &text{})
		got <- err
	}()
	call := <-held
	cancel()
	wantError(t, <-got, context.Canceled, false)
	call.Reply(&text{})
	wantEcho(t, n, "still there")
}
