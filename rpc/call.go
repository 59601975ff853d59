package rpc

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/kithdb/kith/rpc/wire"
)

// responder takes answers back to where requests came from. It is called from
// any goroutine, once for each id.
type responder interface {
	// respond takes a message to encode or, if err is not nil, an error.
	// refused says that no handler has seen the request.
	respond(id uint64, msg any, err error, refused bool)
}

// arrival is a request as it was received.
type arrival struct {
	out      responder
	id       uint64
	from     *Peer
	body     []byte
	deadline time.Time
	mux      *Mux
	handler  *handler
}

// Call is one request on its way through an inline handler, and the place to
// answer it.
type Call struct {
	arrival
	reader   wire.Reader
	answered atomic.Bool
}

// begin makes c the call of an arrival that has been admitted, and decodes its
// body. It gives nil if that failed and was answered.
func (c *Call) begin(a arrival, req any) *Call {
	c.arrival = a
	c.reader.Reset(a.body)
	if err := decodeWith(&c.reader, req); err != nil {
		c.refuse(fmt.Errorf("request %s: %w", a.handler.route, err))
		return nil
	}
	return c
}

// From is who asks.
func (c *Call) From() Peer { return *c.from }

// Deadline is when the answer is of no use any more.
func (c *Call) Deadline() time.Time { return c.deadline }

// Route is the name of the route.
func (c *Call) Route() string { return c.handler.route }

// Reply answers with msg, a pointer to the route's response, which is encoded
// before Reply returns. A second answer is dropped and counted.
func (c *Call) Reply(msg any) {
	if c.finish() {
		c.out.respond(c.id, msg, nil, false)
	}
}

// Fail answers with an error. A second answer is dropped and counted.
func (c *Call) Fail(err error) {
	if err == nil {
		err = fmt.Errorf("%w: failed without an error", ErrInternal)
	}
	if c.finish() {
		c.out.respond(c.id, nil, err, false)
	}
}

// refuse answers for the rpc layer, which hasn't given the request to a handler.
func (c *Call) refuse(err error) {
	if c.finish() {
		c.out.respond(c.id, nil, err, true)
	}
}

// finish says whether this answer is the first, and gives back what the request
// took of its class.
func (c *Call) finish() bool {
	if c.answered.Swap(true) {
		c.mux.counts.extra.Add(1)
		return false
	}
	c.mux.release(c.handler.class, len(c.body))
	return true
}

// recover turns the panic of a handler into the failure of its request. To be
// deferred.
func (c *Call) recover() {
	p := recover()
	if p == nil {
		return
	}
	c.mux.counts.panics.Add(1)
	c.mux.log.Error("request handler panicked", "route", c.handler.route, "from", c.from.Addr, "panic", p, "stack", string(debug.Stack()))
	c.Fail(fmt.Errorf("request %s: %w", c.handler.route, ErrInternal))
}

// replyFunc is the responder of Mux.Serve. It puts every answer through its
// encoding, so that no more of it survives than on a wire.
type replyFunc func(body []byte, err error)

func (f replyFunc) respond(_ uint64, msg any, err error, refused bool) {
	if err == nil {
		var body []byte
		if body, err = encode(nil, msg); err == nil {
			f(body, nil)
			return
		}
	}
	f(nil, ParseError(appendError(nil, err, refused)))
}

// errExpired is what arrives too late.
var errExpired = errors.New("it had passed when the request arrived")
