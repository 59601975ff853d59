package kv

import (
	"errors"
	"fmt"

	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
)

// storeErrors says what a caller is told for what the store said.
var storeErrors = []struct{ from, to error }{
	{store.ErrUncertain, api.ErrUnknown},
	{store.ErrFailed, api.ErrStorage},
	{store.ErrFenced, api.ErrFenced},
	{store.ErrExpired, api.ErrUnavailable},
	{store.ErrTooLarge, api.ErrTooLarge},
	{store.ErrTooManySiblings, api.ErrTooManySiblings},
	{store.ErrBadContext, api.ErrBadRequest},
	{store.ErrCorrupt, api.ErrStorage},
	{store.ErrOverloaded, rpc.ErrOverloaded},
	{store.ErrStandInsFull, rpc.ErrOverloaded},
	{store.ErrClosed, api.ErrNotReady},
	{store.ErrEnding, api.ErrNotReady},
	{store.ErrDropping, api.ErrNotReady},
	{store.ErrEnded, api.ErrVoid},
}

// errReroutes says that a request has begun anew too often.
var errReroutes = fmt.Errorf("the ring changed %d times meanwhile", reroutesMax)

// fromStore makes an error of the store one that travels.
func fromStore(err error) error {
	if err == nil {
		return nil
	}
	for _, e := range storeErrors {
		if errors.Is(err, e.from) {
			return fmt.Errorf("%w: %w", e.to, err)
		}
	}
	return fmt.Errorf("%w: %w", api.ErrStorage, err)
}

// elsewhere says that a home refused a write that another home may take. What a
// home calls unknown is never that, whatever else the error names.
func elsewhere(err error) bool {
	if errors.Is(err, api.ErrUnknown) {
		return false
	}
	for _, e := range []error{api.ErrStorage, api.ErrNotReady, api.ErrClock, api.ErrUnavailable, rpc.ErrOverloaded} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// rerouted says that a home refused because it knows another ring record than the
// request.
func rerouted(err error) bool {
	if errors.Is(err, api.ErrUnknown) {
		return false
	}
	return errors.Is(err, api.ErrFenced) || errors.Is(err, api.ErrNotHome)
}

// refused says that the peer has certainly written nothing.
func refused(err error) bool {
	if errors.Is(err, api.ErrUnknown) {
		return false
	}
	if rpc.NotSent(err) {
		return true
	}
	for _, e := range []error{api.ErrBadRequest, api.ErrTooLarge, api.ErrUnavailable, api.ErrNotReady, api.ErrTooManySiblings,
		api.ErrClock, api.ErrStorage, api.ErrNotHome, api.ErrFenced, rpc.ErrOverloaded} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// unknownFor is the outcome of a minted put that ended for some reason. What else
// the reason's error says, of another request, must not be taken for a refusal.
func unknownFor(err error) error { return fmt.Errorf("%w: %v", api.ErrUnknown, err) }

// reason is an error in a few words, for the list of homes.
func reason(err error) string {
	switch {
	case err == nil:
		return "no answer yet"
	case errors.Is(err, rpc.ErrUnreachable):
		return "unreachable"
	case errors.Is(err, rpc.ErrEnding):
		return "is stopping"
	case errors.Is(err, rpc.ErrDeadline), errors.Is(err, rpc.ErrNotSent):
		return "no answer in time"
	case errors.Is(err, rpc.ErrLost):
		return "connection lost"
	case errors.Is(err, rpc.ErrOverloaded):
		return "overloaded"
	case errors.Is(err, api.ErrLossy):
		return "has lost data"
	}
	return err.Error()
}
