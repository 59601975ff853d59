package rpc

import (
	"errors"

	"github.com/kithdb/kith/rpc/wire"
)

// Why a request has no reply. Whether the peer may have acted on it: NotSent.
var (
	// ErrUnreachable: no connection; no byte of the request left.
	ErrUnreachable = errors.New("unreachable")
	// ErrOverloaded: refused, a bound on requests or bytes in flight is
	// reached, here or at the peer.
	ErrOverloaded = errors.New("overloaded")
	// ErrLost: the connection broke after the request may have left.
	ErrLost = errors.New("connection lost")
	// ErrDeadline: no reply by the deadline, and the request may have left;
	// or the peer got it too late and refused it.
	ErrDeadline = errors.New("deadline exceeded")
	// ErrNotSent: the request was given up before it left: its deadline
	// passed while it waited, it is too large, or the client is closed.
	ErrNotSent = errors.New("not sent")
	// ErrUnknownRoute: refused, the peer has no such route.
	ErrUnknownRoute = errors.New("unknown route")
	// ErrWrongCluster: the peer belongs to another cluster.
	ErrWrongCluster = errors.New("wrong cluster")
	// ErrVersion: the peer speaks no protocol version that we speak.
	ErrVersion = errors.New("no common protocol version")
	// ErrWrongNode: another node answers at the peer's address.
	ErrWrongNode = errors.New("wrong node")
	// ErrInternal: the handler panicked; what it did before is unknown.
	ErrInternal = errors.New("internal error")
	// ErrClosed: this side is closing.
	ErrClosed = errors.New("closed")
	// ErrEnding: refused, the peer is about to end, and takes no more requests.
	ErrEnding = errors.New("ending")
	// ErrTooLarge: a request or reply is over the frame limit.
	ErrTooLarge = errors.New("message too large")
)

// CallError is what a Client completes a request with that has failed. A caller that
// names the peer by itself tells Err alone.
type CallError struct {
	// Route and Addr are the request's and its peer's.
	Route, Addr string
	// Err is the cause, never nil.
	Err error
}

// Error names the route, the address and the cause.
func (e *CallError) Error() string { return e.Route + " to " + e.Addr + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *CallError) Unwrap() error { return e.Err }

func init() {
	RegisterError(1, ErrUnreachable)
	RegisterError(2, ErrOverloaded)
	RegisterError(3, ErrLost)
	RegisterError(4, ErrDeadline)
	RegisterError(5, ErrNotSent)
	RegisterError(6, ErrUnknownRoute)
	RegisterError(7, ErrWrongCluster)
	RegisterError(8, ErrVersion)
	RegisterError(9, ErrWrongNode)
	RegisterError(10, ErrInternal)
	RegisterError(11, ErrClosed)
	RegisterError(12, ErrTooLarge)
	RegisterError(13, wire.ErrMalformed)
	RegisterError(14, ErrEnding)
}

// NotSent says that the peer of one request certainly did nothing: no byte left,
// or the peer's rpc layer refused it before any handler saw it. What a handler
// answered, even with the same sentinel, gives false: it speaks of some request
// of its own. For several errors joined, all of them must say so.
func NotSent(err error) bool {
	yes, no := verdicts(err)
	return yes && !no
}

// verdicts looks for what the tree of err knows of the request: yes, that it was
// not sent; no, that it may have been.
func verdicts(err error) (yes, no bool) {
	switch err {
	case nil, ErrClosed, ErrTooLarge: // said with something that knows
		return false, false
	case ErrUnreachable, ErrOverloaded, ErrNotSent, ErrUnknownRoute, ErrWrongCluster, ErrVersion, ErrWrongNode, ErrEnding:
		return true, false
	case ErrLost, ErrDeadline, ErrInternal:
		return false, true
	}
	switch e := err.(type) {
	case *RemoteError:
		return e.refused, !e.refused
	case interface{ Unwrap() error }:
		return verdicts(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			y, n := verdicts(one)
			yes, no = yes || y, no || n
		}
	}
	return yes, no
}
