package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kithdb/kith/rpc/wire"
)

func TestNotSentBelievesOnlyTheOwnLayer(t *testing.T) {
	remote := func(err error, refused bool) error { return ParseError(appendError(nil, err, refused)) }
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("else"), false},
		{ErrUnreachable, true},
		{ErrOverloaded, true},
		{ErrNotSent, true},
		{ErrLost, false},
		{ErrDeadline, false},
		{ErrInternal, false},
		{ErrClosed, false},
		{context.Canceled, false},
		{fmt.Errorf("put: %w", fmt.Errorf("to b: %w", ErrUnreachable)), true},
		{fmt.Errorf("%w: %w", ErrNotSent, ErrClosed), true},
		{fmt.Errorf("%w: %w", ErrLost, ErrClosed), false},
		{fmt.Errorf("%w: %w", ErrNotSent, context.DeadlineExceeded), true},
		{errors.Join(ErrUnreachable, ErrUnreachable), true},
		{errors.Join(ErrUnreachable, ErrLost), false},
		{remote(ErrOverloaded, true), true},
		{remote(ErrDeadline, true), true},
		{remote(ErrOverloaded, false), false},
		{remote(remote(ErrOverloaded, true), false), false}, // passed on by a handler
		{fmt.Errorf("%w: %w", ErrUnreachable, remote(ErrWrongCluster, true)), true},
		{errors.Join(ErrUnreachable, remote(ErrOverloaded, false)), false},
	} {
		if got := NotSent(c.err); got != c.want {
			t.Errorf("NotSent(%v) = %v", c.err, got)
		}
	}
}

func TestErrorsKeepSentinelsThroughManyHops(t *testing.T) {
	err := fmt.Errorf("a: %w: %w", ErrOverloaded, ErrLost)
	for hop := range 5 {
		err = fmt.Errorf("hop %d: %w", hop, ParseError(AppendError(nil, err)))
		if !errors.Is(err, ErrOverloaded) || !errors.Is(err, ErrLost) || errors.Is(err, ErrUnreachable) {
			t.Fatalf("after hop %d: %v", hop, err)
		}
	}
}

func TestErrorTextIsCutAtACharacter(t *testing.T) {
	for _, text := range []string{strings.Repeat("x", 5000), strings.Repeat("é", 5000), "x" + strings.Repeat("世", 5000), strings.Repeat("\xff", 5000)} {
		got := ParseError(AppendError(nil, errors.New(text))).Error()
		if len(got) > messageMax+len(ellipsis) || utf8.ValidString(text) && len(got) < messageMax-utf8.UTFMax {
			t.Errorf("%d bytes are left of %d", len(got), len(text))
		}
		if utf8.ValidString(text) && !utf8.ValidString(got) {
			t.Errorf("%q... was cut inside a character", text[:4])
		}
	}
}

func TestUnknownCodesAreLeftOut(t *testing.T) {
	b := wire.AppendArray(nil, 6) // one field more than we know
	b = wire.AppendString(b, "text")
	b = wire.AppendUint(wire.AppendUint(wire.AppendArray(b, 2), 64999), 2)
	b = wire.AppendUint(b, 64999)
	b = wire.AppendBytes(b, []byte{1, 2, 3})
	b = wire.AppendBool(b, false)
	b = wire.AppendString(b, "new")
	err := ParseError(b)
	if !errors.Is(err, ErrOverloaded) || err.Error() != "text" || errors.Is(err, wire.ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

func TestCodesAreTakenOnce(t *testing.T) {
	for name, register := range map[string]func(){
		"code":     func() { RegisterError(2, errors.New("another")) },
		"sentinel": func() { RegisterError(64000, ErrOverloaded) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a %s was registered twice", name)
				}
			}()
			register()
		}()
	}
}

func FuzzParseError(f *testing.F) {
	f.Add(AppendError(nil, fmt.Errorf("a: %w", ErrOverloaded)))
	f.Add([]byte{0x95, 0xa0, 0x90, 0, 0xc4, 0, 0xc2})
	f.Fuzz(func(t *testing.T, b []byte) {
		err := ParseError(b)
		if err == nil {
			t.Fatal("no error")
		}
		var remote *RemoteError
		if !errors.As(err, &remote) {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Fatalf("neither parsed nor malformed: %v", err)
			}
			return
		}
		once := appendError(nil, remote, remote.refused)
		if twice := appendError(nil, ParseError(once), remote.refused); !bytes.Equal(once, twice) {
			t.Fatalf("%x became %x", once, twice)
		}
	})
}
