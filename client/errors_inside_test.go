package client

import (
	"errors"
	"testing"

	"github.com/kithdb/kith/rpc"
)

// An error names the node that was asked once, and another one that it speaks of.
func TestErrorsNameANodeOnce(t *testing.T) {
	refusal := func(addr string) error { return &rpc.CallError{Route: "kv.put", Addr: addr, Err: ErrRefused} }
	for _, c := range []struct {
		cause error
		want  string
	}{
		{refusal("a:1"), `put "k" at a:1: refused`},
		{refusal("b:1"), `put "k" at a:1: kv.put to b:1: refused`},
		{unknown(bare(refusal("a:1"), "a:1")), `put "k" at a:1: outcome unknown: refused`},
	} {
		err := newError(&op{name: "put", key: []byte("k"), write: true}, "a:1", 1, c.cause)
		if err.Error() != c.want || !errors.Is(err, ErrRefused) {
			t.Errorf("%q, want %q", err, c.want)
		}
	}
}
