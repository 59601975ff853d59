package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kithdb/kith/rpc/wire"
)

// Class is a kind of request with bounds of its own, so that one kind can't
// starve another: homes that wait for each other's merges never wait for
// clients.
type Class uint8

// The classes.
const (
	ClassClient  Class = iota // what clients ask for, and forwards of it
	ClassHome                 // between the homes of a partition; never calls out
	ClassControl              // ring record, agreement, status
	classes
)

var classNames = [classes]string{"client", "home", "control"}

// String gives the class's name.
func (c Class) String() string {
	if c >= classes {
		return fmt.Sprintf("class %d", uint8(c))
	}
	return classNames[c]
}

// Limit bounds what is in flight in one class: requests taken and not answered,
// and the bytes of their bodies. A request is always taken when there is no
// other, however large.
type Limit struct {
	Requests int
	Bytes    int64
}

// defaultLimits leave room for thousands of callers; bytes are what a small
// machine can spare.
var defaultLimits = [classes]Limit{
	ClassClient:  {Requests: 16384, Bytes: 128 << 20},
	ClassHome:    {Requests: 32768, Bytes: 256 << 20},
	ClassControl: {Requests: 1024, Bytes: 64 << 20},
}

// MuxConfig sets up a Mux. The zero value is good.
type MuxConfig struct {
	// Limits of each class; what is zero has its default.
	Limits map[Class]Limit
	// Logger gets the panics of handlers; nil for none.
	Logger *slog.Logger
}

// Mux gives requests to the handlers of their routes. Routes are registered
// before the first request.
type Mux struct {
	log    *slog.Logger
	routes map[string]*handler
	class  [classes]classState
	counts counts

	ctx     context.Context
	cancel  context.CancelFunc
	mu      sync.Mutex // guards closed and the beginning of running
	closed  atomic.Bool
	running sync.WaitGroup // goroutines of Handle
}

type handler struct {
	route string
	class Class
	serve func(arrival)
}

type classState struct {
	limit    Limit
	requests atomic.Int64
	bytes    atomic.Int64
}

type counts struct {
	extra, panics, overloads, expired, unknown atomic.Uint64
}

// Counts are totals since the Mux was made.
type Counts struct {
	ExtraAnswers  uint64 // answers to requests that had one: a handler's bug
	Panics        uint64
	Overloads     uint64 // refused for a class's limit
	Expired       uint64 // refused because the deadline had passed
	UnknownRoutes uint64
}

// ping is answered by every Mux.
const ping Route[pingMessage, pingMessage] = "rpc.ping"

type pingMessage struct{}

// AppendWire implements wire.Appender.
func (*pingMessage) AppendWire(b []byte) []byte { return append(b, 0x90) }

// ParseWire implements wire.Parser.
func (*pingMessage) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	return s.End()
}

// NewMux makes a Mux that knows no route but the ping of a Guard.
func NewMux(cfg MuxConfig) *Mux {
	m := &Mux{log: cfg.Logger, routes: map[string]*handler{}}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	for class := range classes {
		l := cfg.Limits[class]
		if l.Requests <= 0 {
			l.Requests = defaultLimits[class].Requests
		}
		if l.Bytes <= 0 {
			l.Bytes = defaultLimits[class].Bytes
		}
		m.class[class].limit = l
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	ping.HandleInline(m, ClassControl, func(c *Call, req *pingMessage) { c.Reply(req) })
	return m
}

// Close refuses requests from now on, ends the contexts of those that run on
// goroutines of their own, and waits for these. Inline handlers answer when
// they do.
func (m *Mux) Close() {
	m.mu.Lock()
	m.closed.Store(true)
	m.mu.Unlock()
	m.cancel()
	m.running.Wait()
}

// Counts gives what has happened so far.
func (m *Mux) Counts() Counts {
	return Counts{
		ExtraAnswers:  m.counts.extra.Load(),
		Panics:        m.counts.panics.Load(),
		Overloads:     m.counts.overloads.Load(),
		Expired:       m.counts.expired.Load(),
		UnknownRoutes: m.counts.unknown.Load(),
	}
}

// InFlight gives the requests of a class that are not answered yet, and the
// bytes of their bodies.
func (m *Mux) InFlight(class Class) (requests, bytes int64) {
	return m.class[class].requests.Load(), m.class[class].bytes.Load()
}

// Serve answers one request: what a Transport without a connection calls. reply
// is called exactly once, before or after Serve returns, from any goroutine, and
// must not block; its error is what the sender's Completer is to get. The body
// must not be written to again. Inline handlers run on the caller's goroutine.
func (m *Mux) Serve(from Peer, route string, body []byte, deadline time.Time, reply func(body []byte, err error)) {
	m.dispatch(m.routes[route], route, arrival{
		out: replyFunc(reply), from: &from, body: body, deadline: deadline,
	}, time.Now())
}

// find gives the handler of a route in received bytes, or nil.
func (m *Mux) find(route []byte) *handler { return m.routes[string(route)] }

// dispatch admits a request, or refuses it, and starts its handler.
func (m *Mux) dispatch(h *handler, route string, a arrival, now time.Time) {
	switch {
	case m.closed.Load():
		a.out.respond(a.id, nil, errGoodbye, true)
		return
	case h == nil:
		m.counts.unknown.Add(1)
		a.out.respond(a.id, nil, fmt.Errorf("%w: %q", ErrUnknownRoute, route), true)
		return
	case !now.Before(a.deadline):
		m.counts.expired.Add(1)
		a.out.respond(a.id, nil, fmt.Errorf("request %s: %w: %w", h.route, ErrDeadline, errExpired), true)
		return
	}
	if err := m.admit(h, len(a.body)); err != nil {
		m.counts.overloads.Add(1)
		a.out.respond(a.id, nil, err, true)
		return
	}
	a.mux, a.handler = m, h
	h.serve(a)
}

// admit takes a request into its class. Two at once may both be refused where
// one would have fitted; neither is admitted above the limit.
func (m *Mux) admit(h *handler, size int) error {
	s := &m.class[h.class]
	requests, bytes := s.requests.Add(1), s.bytes.Add(int64(size))
	if requests == 1 || requests <= int64(s.limit.Requests) && bytes <= s.limit.Bytes {
		return nil
	}
	m.release(h.class, size)
	return fmt.Errorf("request %s: %w: %d requests and %d bytes of class %s in flight, at most %d and %d",
		h.route, ErrOverloaded, requests-1, bytes-int64(size), h.class, s.limit.Requests, s.limit.Bytes)
}

func (m *Mux) release(class Class, size int) {
	s := &m.class[class]
	s.requests.Add(-1)
	s.bytes.Add(-int64(size))
}

func (m *Mux) register(route string, class Class, serve func(arrival)) {
	if class >= classes {
		panic(fmt.Sprintf("rpc: route %s: %v does not exist", route, class))
	}
	if m.routes[route] != nil {
		panic(fmt.Sprintf("rpc: route %s has a handler already", route))
	}
	m.routes[route] = &handler{route: route, class: class, serve: serve}
}

// goroutine runs one request's handler on a goroutine that Close waits for.
func (m *Mux) goroutine(c *Call, run func(context.Context)) {
	m.mu.Lock()
	closed := m.closed.Load()
	if !closed {
		m.running.Add(1)
	}
	m.mu.Unlock()
	if closed {
		c.refuse(errGoodbye)
		return
	}
	go func() {
		defer m.running.Done()
		defer c.recover()
		ctx, cancel := context.WithDeadline(m.ctx, c.deadline)
		defer cancel()
		run(ctx)
	}()
}
