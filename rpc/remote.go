package rpc

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/kithdb/kith/rpc/wire"
)

const (
	messageMax   = 1 << 10  // bytes of an error's text on the wire
	detailMax    = 16 << 10 // bytes of an error's typed detail
	sentinelsMax = 8        // sentinels that one error names
)

// DetailError is an error whose fields cross the wire, so that errors.As finds
// it on the other side. It parses into the value that its constructor made.
type DetailError interface {
	error
	wire.Appender
	wire.Parser
}

// names is what may cross the wire. It is never changed once it is current.
type names struct {
	sentinels []sentinel // sorted by code, so that output has one order
	details   map[uint16]func() DetailError
	types     map[reflect.Type]uint16 // of details
}

type sentinel struct {
	code uint16
	err  error
}

var (
	registering sync.Mutex // held by those who replace current
	current     atomic.Pointer[names]
)

// known are the names that are registered by now.
func known() *names {
	if n := current.Load(); n != nil {
		return n
	}
	return &names{}
}

// sentinel gives the registered error of code, or nil.
func (n *names) sentinel(code uint16) error {
	i, ok := slices.BinarySearchFunc(n.sentinels, code, func(s sentinel, c uint16) int { return int(s.code) - int(c) })
	if !ok {
		return nil
	}
	return n.sentinels[i].err
}

// RegisterError lets errors.Is find err, a sentinel, in errors that crossed the
// wire. Codes are for ever: those below 100 belong to this package. It panics if
// the code or the sentinel is taken. To be called from init functions.
func RegisterError(code uint16, err error) {
	registering.Lock()
	defer registering.Unlock()
	next := *known()
	for _, s := range next.sentinels {
		if s.code == code || s.err == err {
			panic(fmt.Sprintf("rpc: error %d (%v) is registered as %d (%v)", code, err, s.code, s.err))
		}
	}
	next.sentinels = append(slices.Clone(next.sentinels), sentinel{code: code, err: err})
	slices.SortFunc(next.sentinels, func(a, b sentinel) int { return int(a.code) - int(b.code) })
	current.Store(&next)
}

// RegisterDetail lets errors.As find errors of the type that create returns, a
// pointer. Its codes are apart from those of RegisterError. It panics if the
// code or the type is taken, or the code is 0. To be called from init functions.
func RegisterDetail(code uint16, create func() DetailError) {
	t := reflect.TypeOf(create())
	registering.Lock()
	defer registering.Unlock()
	next := *known()
	_, taken := next.types[t]
	if next.details[code] != nil || taken || code == 0 {
		panic(fmt.Sprintf("rpc: error detail %d (%v) is registered already, or 0", code, t))
	}
	next.details, next.types = maps.Clone(next.details), maps.Clone(next.types)
	if next.details == nil {
		next.details, next.types = map[uint16]func() DetailError{}, map[reflect.Type]uint16{}
	}
	next.details[code], next.types[t] = create, code
	current.Store(&next)
}

// RemoteError is what a peer answered. errors.Is finds the registered sentinels
// that it wrapped over there, errors.As its registered detail.
type RemoteError struct {
	message string
	causes  []error
	refused bool
}

// Error is the text that the peer gave, cut at 1 KiB.
func (e *RemoteError) Error() string { return e.message }

// Unwrap gives the sentinels and the detail.
func (e *RemoteError) Unwrap() []error { return e.causes }

// AppendError appends what crosses the wire of err: its text up to 1 KiB, the
// registered sentinels that it wraps, and its registered detail.
func AppendError(b []byte, err error) []byte { return appendError(b, err, false) }

// appendError also says that no handler has seen the request. Only the rpc
// layer itself may say so: an error that passes through another node may not.
func appendError(b []byte, err error, refused bool) []byte {
	b = wire.AppendArray(b, 5)
	b = wire.AppendString(b, cut(err.Error()))

	names := known()
	var codes [sentinelsMax]uint16
	n := 0
	for _, s := range names.sentinels {
		if n < len(codes) && errors.Is(err, s.err) {
			codes[n] = s.code
			n++
		}
	}
	b = wire.AppendArray(b, n)
	for _, code := range codes[:n] {
		b = wire.AppendUint(b, uint64(code))
	}
	code, detail := names.findDetail(err)
	if detail != nil {
		body := detail.AppendWire(nil)
		if len(body) <= detailMax {
			b = wire.AppendUint(b, uint64(code))
			b = wire.AppendBytes(b, body)
			return wire.AppendBool(b, refused)
		}
	}
	b = wire.AppendUint(b, 0)
	b = wire.AppendBytes(b, nil)
	return wire.AppendBool(b, refused)
}

// findDetail gives the outermost registered detail in the tree of err.
func (n *names) findDetail(err error) (uint16, DetailError) {
	if err == nil {
		return 0, nil
	}
	if d, ok := err.(DetailError); ok {
		if code, ok := n.types[reflect.TypeOf(err)]; ok {
			return code, d
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return n.findDetail(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			if code, d := n.findDetail(one); d != nil {
				return code, d
			}
		}
	}
	return 0, nil
}

// ParseError reads what AppendError wrote. Codes that this side does not know
// are left out. Bytes that are no error give one that is wire.ErrMalformed;
// it never returns nil.
func ParseError(b []byte) error {
	e, err := parseRemote(b)
	if err != nil {
		return fmt.Errorf("error of %d bytes: %w", len(b), err)
	}
	return e
}

func parseRemote(b []byte) (*RemoteError, error) {
	r := wire.NewReader(b)
	s := r.Struct()
	e := &RemoteError{message: s.String()}
	n := s.Array()
	if n > sentinelsMax || len(e.message) > messageMax+len(ellipsis) {
		return nil, wire.ErrMalformed
	}
	names := known()
	for range n {
		if err := names.sentinel(uint16(r.UintMax(1<<16 - 1))); err != nil {
			e.causes = append(e.causes, err)
		}
	}
	code, body := uint16(s.UintMax(1<<16-1)), s.Bytes()
	e.refused = s.Bool()
	if err := s.End(); err != nil {
		return nil, err
	}
	if len(r.Rest()) > 0 || len(body) > detailMax {
		return nil, wire.ErrMalformed
	}
	if create := names.details[code]; create != nil {
		d := create()
		if err := decode(body, d); err != nil {
			return nil, err
		}
		e.causes = append(e.causes, d)
	}
	return e, nil
}

const ellipsis = "..."

// cut shortens text to messageMax bytes, at the border of a character.
func cut(text string) string {
	if len(text) <= messageMax {
		return text
	}
	n := messageMax
	for n > messageMax-utf8.UTFMax && !utf8.RuneStart(text[n]) {
		n--
	}
	return strings.ToValidUTF8(text[:n], "?") + ellipsis
}
