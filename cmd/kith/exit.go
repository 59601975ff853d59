package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/rpc"
)

// Exit statuses; scripts rely on them.
const (
	exitOK           = 0
	exitUnexpected   = 1
	exitUsage        = 2
	exitNotFound     = 3
	exitPrecondition = 4
	exitUnknown      = 5
	exitRefused      = 6
	exitOverloaded   = 8
	exitWait         = 124
	exitInterrupted  = 130
)

// usageError is a mistake on the command line, in the environment or in a
// configuration file.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// exitError ends the program with a status, and says why unless err is nil.
type exitError struct {
	status int
	err    error
	hint   string
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// kinds are the errors that have a status and a code word of their own, and
// what to do next. The first that fits counts.
var kinds = []struct {
	err    error
	status int
	code   string
	hint   string
}{
	{client.ErrUnknown, exitUnknown, "UNKNOWN", "the write may or may not have been done: read the key, or write again"},
	{client.ErrNotFound, exitNotFound, "NOT_FOUND", ""},
	{client.ErrRefused, exitRefused, "REFUSED", ""},
	{client.ErrTooManySiblings, exitPrecondition, "TOO_MANY_SIBLINGS", "read the key with --format json and write again with --context"},
	{client.ErrBadRequest, exitUsage, "BAD_REQUEST", ""},
	{client.ErrTooLarge, exitUsage, "TOO_LARGE", ""},
	{client.ErrOverloaded, exitOverloaded, "OVERLOADED", "try again later, or with less at once"},
	{client.ErrWrongCluster, exitRefused, "WRONG_CLUSTER", "the addresses belong to different clusters: check --addr"},
	{rpc.ErrVersion, exitRefused, "VERSION", "the node runs another version: upgrade the older of the two, see kith version"},
	{client.ErrNotReady, exitRefused, "NOT_READY", "see kith status, or wait with kith status --wait ready"},
	{client.ErrStorage, exitRefused, "STORAGE", "a node's disk failed: see kith status"},
	{client.ErrClock, exitRefused, "CLOCK", "a node's clock is wrong: see kith status"},
	{client.ErrUnavailable, exitRefused, "UNAVAILABLE", "see kith status for what can be reached, and check --addr"},
	{context.DeadlineExceeded, exitRefused, "DEADLINE", "try a longer --timeout, or see kith status"},
}

// exit writes why the program ends and gives its status.
func (a *app) exit(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	var chosen *exitError
	if errors.As(err, &chosen) {
		if chosen.err != nil {
			a.complain(chosen.err, "", chosen.hint)
		}
		return chosen.status
	}
	var usage *usageError
	if errors.As(err, &usage) {
		a.complain(err, "USAGE", strings.TrimSpace("see kith help "+a.verb))
		return exitUsage
	}
	if ctx.Err() != nil && !client.Unknown(err) {
		a.complain(errors.New("interrupted"), "", "")
		return exitInterrupted
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			switch op := opOf(err); {
			case (op == opChange || op == opForce) && k.status == exitUnknown:
				a.complain(err, k.code, "the change may or may not stand: see kith ring history, or say it again, which changes nothing twice")
			case op == opChange || op == opForce:
				a.complain(err, k.code, k.hint)
				a.hint("nothing was changed")
			case (op == "put" || op == "delete") && k.status != exitUnknown:
				a.complain(err, k.code, k.hint)
				a.hint("nothing was written")
			default:
				a.complain(err, k.code, k.hint)
			}
			return k.status
		}
	}
	a.complain(err, "UNEXPECTED", "")
	return exitUnexpected
}

// opChange is what the client calls a change of the membership.
const opChange = "change the ring"

// opForce is what the client calls to force the ring.
const opForce = "force the ring"

// opOf is the call of the client that failed; empty if it was none.
func opOf(err error) string {
	var e *client.Error
	if errors.As(err, &e) {
		return e.Op
	}
	return ""
}

func (a *app) complain(err error, code, hint string) {
	text := strings.TrimSpace(err.Error())
	if code != "" {
		text += " (" + code + ")"
	}
	a.hint("error: %s", text)
	if hint != "" {
		a.hint("hint: %s", hint)
	}
}
