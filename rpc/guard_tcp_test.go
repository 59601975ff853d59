package rpc_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc"
)

// A process that dies opens its circuit, and closes it when it is back at its
// address.
func TestGuardFollowsADeathAndARestart(t *testing.T) {
	w := start(t, lasting(t), rpc.TCPConfig{})
	g := rpc.NewGuard(newClient(t, rpc.TCPConfig{}), rpc.GuardConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = g.Run(ctx) // it says that ctx has ended
	}()
	defer func() { cancel(); <-ended }()
	for round := range uint64(3) {
		if err := ask(g, w.peer, round); err != nil {
			t.Fatal(err)
		}
		if mean, p95 := g.Latency(w.peer.ID); mean <= 0 || p95 <= 0 {
			t.Errorf("latency is %v, %v", mean, p95)
		}
		w.Close()
		waitFor(t, "the circuit opens", func() bool { return ask(g, w.peer, 1) != nil && g.Open(w.peer.ID) })
		began := time.Now()
		if err := ask(g, w.peer, 1); !errors.Is(err, rpc.ErrUnreachable) || !rpc.NotSent(err) {
			t.Errorf("an open circuit: %v after %v", err, time.Since(began))
		}
		w = start(t, w.peer.Addr, rpc.TCPConfig{})
		waitFor(t, "the circuit closes", func() bool { return !g.Open(w.peer.ID) })
	}
}
