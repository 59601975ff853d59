package api

import (
	"errors"

	"github.com/kithdb/kith/quorum"
	"github.com/kithdb/kith/rpc"
)

// Outcomes of an operation that was not done. They survive the wire: a client
// tests for them with errors.Is. Refused means that nothing was written; only
// ErrUnknown leaves that open.
var (
	// ErrBadRequest: the input breaks a rule that the message names.
	ErrBadRequest = errors.New("bad request")
	// ErrTooLarge: a key, value, record or batch is over its bound.
	ErrTooLarge = errors.New("too large")
	// ErrUnavailable: refused, too few homes can be reached.
	ErrUnavailable = errors.New("unavailable")
	// ErrUnknown: some homes may have the write, and it may surface later.
	ErrUnknown = errors.New("outcome unknown")
	// ErrNotReady: refused, the node or the cluster is not serving yet.
	ErrNotReady = errors.New("not ready")
	// ErrTooManySiblings: refused, a write without context of a key with
	// too many siblings; read it and write with the context.
	ErrTooManySiblings = errors.New("too many siblings")
	// ErrClock: refused, the coordinator's clock is too far ahead of its
	// peers'.
	ErrClock = errors.New("clock out of bounds")
	// ErrStorage: refused, the node's disk failed.
	ErrStorage = errors.New("storage failed")
	// ErrNotHome: refused, the node is no home of the key by its ring
	// record. Between nodes only.
	ErrNotHome = errors.New("not a home")
	// ErrFenced: refused, the request's epoch is too old for its partition.
	// Between nodes only.
	ErrFenced = errors.New("epoch too old")
	// ErrLossy: the home has lost data and does not count for reads.
	// Between nodes only.
	ErrLossy = errors.New("home has lost data")
	// ErrMoving: the home is about to take the reads of a slot over, and has not
	// pulled yet what it must. Between nodes only.
	ErrMoving = errors.New("home has not pulled yet")
	// ErrVoid: refused for ever, the record has a write that nobody had when its
	// actor was closed. Between nodes only.
	ErrVoid = errors.New("write is void")
	// ErrRefused: the ring does not allow the change; the message says why, and
	// what to do. Nothing was changed.
	ErrRefused = errors.New("refused")
)

func init() {
	rpc.RegisterError(100, ErrBadRequest)
	rpc.RegisterError(101, ErrTooLarge)
	rpc.RegisterError(102, ErrUnavailable)
	rpc.RegisterError(103, ErrUnknown)
	rpc.RegisterError(104, ErrNotReady)
	rpc.RegisterError(105, ErrTooManySiblings)
	rpc.RegisterError(106, ErrClock)
	rpc.RegisterError(107, ErrStorage)
	rpc.RegisterError(108, ErrNotHome)
	rpc.RegisterError(109, ErrFenced)
	rpc.RegisterError(110, ErrLossy)
	rpc.RegisterError(111, ErrVoid)
	rpc.RegisterError(112, ErrRefused)
	rpc.RegisterError(113, ErrMoving)
	rpc.RegisterDetail(1, func() rpc.DetailError { return new(quorum.UnmetError) })
}
