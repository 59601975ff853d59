package client

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/kithdb/kith/quorum"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// What calls fail with, for errors.Is. All but ErrUnknown mean that nothing
// was written.
var (
	// ErrNotFound: the key has no value, at as many homes as were asked.
	ErrNotFound = errors.New("not found")
	// ErrUnknown: some homes may have the write, and it may surface later.
	// Read the key to find out, or write again.
	ErrUnknown = api.ErrUnknown
	// ErrUnavailable: too few homes can be reached, or no node at all.
	ErrUnavailable = api.ErrUnavailable
	// ErrNotReady: the node or the cluster is not serving yet.
	ErrNotReady = api.ErrNotReady
	// ErrBadRequest: the input breaks a rule that the message names.
	ErrBadRequest = api.ErrBadRequest
	// ErrTooLarge: a key, a value or a record is over its bound.
	ErrTooLarge = api.ErrTooLarge
	// ErrRefused: the ring does not allow the change that was asked for.
	ErrRefused = api.ErrRefused
	// ErrTooManySiblings: the key has so many siblings that it takes only
	// writes with a context.
	ErrTooManySiblings = api.ErrTooManySiblings
	// ErrOverloaded: a queue was full; nothing was done. Try again later.
	ErrOverloaded = rpc.ErrOverloaded
	// ErrStorage: a node's disk failed.
	ErrStorage = api.ErrStorage
	// ErrClock: a node's clock is too far from its peers'.
	ErrClock = api.ErrClock
	// ErrWrongCluster: a node belongs to another cluster than the one that
	// the client has talked to first.
	ErrWrongCluster = rpc.ErrWrongCluster
	// ErrClosed: the client was closed.
	ErrClosed = rpc.ErrClosed
)

// An Outcome is what a call that failed has left behind.
type Outcome uint8

// Outcomes of calls that failed.
const (
	// OutcomeRefused means that nothing was written. All reads that fail are
	// refused.
	OutcomeRefused Outcome = iota
	// OutcomeUnknown means that some homes may have the write, and that it
	// may surface later.
	OutcomeUnknown
)

// String is "refused" or "unknown".
func (o Outcome) String() string {
	if o == OutcomeUnknown {
		return "unknown"
	}
	return "refused"
}

// Error is why a call failed. Every error of a Client's data calls is one.
type Error struct {
	// Op is get, put, delete, scan, inspect, status or ring.
	Op string
	// Key is the one that was asked for; the prefix of a scan.
	Key []byte
	// Node is the address of the one that was asked last; empty if none was.
	Node string
	// Outcome tells whether anything may have been written.
	Outcome Outcome
	// Need and Got count homes; both are 0 if it did not come to counting.
	Need, Got int
	// Homes are those that did not answer as they should, with the reason.
	Homes []quorum.HomeError
	// Attempts is to how many nodes the request was sent.
	Attempts int
	// Err is the cause.
	Err error
}

// Error names the call, the key, what is left behind and the cause.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if len(e.Key) > 0 {
		fmt.Fprintf(&b, " %s", quote(e.Key))
	}
	if e.Node != "" {
		fmt.Fprintf(&b, " at %s", e.Node)
	}
	b.WriteString(": ")
	b.WriteString(e.Err.Error())
	if e.Attempts > 1 {
		fmt.Fprintf(&b, " (%d nodes asked)", e.Attempts)
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is says that an error of unknown outcome is ErrUnknown, whatever its cause.
func (e *Error) Is(target error) bool {
	return target == ErrUnknown && e.Outcome == OutcomeUnknown
}

// Refused says that a call failed and that it certainly has written nothing.
// ErrNotFound counts: it is the answer of a read.
func Refused(err error) bool { return err != nil && !Unknown(err) }

// Unknown says that a write may have been done, and that it may surface later.
func Unknown(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		return e.Outcome == OutcomeUnknown
	}
	return errors.Is(err, ErrUnknown)
}

// newError makes the error of a call. Detail that the node sent along is
// lifted out of the cause.
func newError(o *op, node string, attempts int, cause error) *Error {
	if errors.Is(cause, rpc.ErrTooLarge) && !errors.Is(cause, ErrTooLarge) {
		cause = fmt.Errorf("%w: %w", ErrTooLarge, cause) // over the frame limit, on our side or theirs
	}
	e := &Error{Op: o.name, Key: o.key, Node: node, Attempts: attempts, Err: bare(cause, node)}
	if o.write && (errors.Is(cause, ErrUnknown) || o.lost) {
		e.Outcome = OutcomeUnknown
	}
	var unmet *quorum.UnmetError
	if errors.As(cause, &unmet) {
		e.Need, e.Got, e.Homes = unmet.Need, unmet.Got, unmet.Homes
	}
	return e
}

// bare takes the route and the address off an error that names the node itself.
func bare(err error, node string) error {
	if call, ok := err.(*rpc.CallError); ok && call.Addr == node {
		return call.Err
	}
	return err
}

// verdict is what an answer means for the call.
type verdict uint8

const (
	final verdict = iota // the caller is told
	next                 // nothing was done; another node may do better
	lost                 // a write may have been done
)

// judge decides by an error from the transport or from a node.
func judge(err error) verdict {
	switch {
	case errors.Is(err, ErrUnknown):
		return lost
	case errors.Is(err, ErrBadRequest), errors.Is(err, ErrTooLarge), errors.Is(err, rpc.ErrTooLarge),
		errors.Is(err, ErrTooManySiblings), errors.Is(err, ErrRefused):
		return final
	case rpc.NotSent(err), errors.Is(err, ErrOverloaded), errors.Is(err, ErrWrongCluster),
		errors.Is(err, ErrUnavailable), errors.Is(err, ErrNotReady), errors.Is(err, ErrStorage),
		errors.Is(err, ErrClock), errors.Is(err, api.ErrNotHome), errors.Is(err, api.ErrFenced),
		errors.Is(err, api.ErrLossy):
		return next
	}
	return lost
}

// silent says that the node did not answer, is not the one we look for, or is about
// to end, so that its health is in doubt. What a node says of others is an answer.
func silent(err error) bool {
	if fromNode(err) && !errors.Is(err, rpc.ErrWrongNode) {
		return false
	}
	return errors.Is(err, rpc.ErrUnreachable) || errors.Is(err, rpc.ErrLost) ||
		errors.Is(err, rpc.ErrDeadline) || errors.Is(err, rpc.ErrWrongNode) || ending(err)
}

// fromNode says that a node has answered with the error. One that is about to end
// refuses whatever comes, which says nothing of the others.
func fromNode(err error) bool {
	var remote *rpc.RemoteError
	return errors.As(err, &remote) && !ending(err)
}

// ending says that the node itself is about to end, and has not looked at the request.
func ending(err error) bool { return errors.Is(err, rpc.ErrEnding) && rpc.NotSent(err) }

// quote shows a key in a message: quoted, at most 64 characters of it.
func quote(key []byte) string {
	const most = 64
	if len(key) <= most {
		return fmt.Sprintf("%q", key)
	}
	cut := most
	for cut > most-utf8.UTFMax && !utf8.RuneStart(key[cut]) {
		cut--
	}
	return fmt.Sprintf("%q... (%d bytes)", key[:cut], len(key))
}

func shorten(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
