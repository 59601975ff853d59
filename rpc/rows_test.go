package rpc

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A peer that loses power says nothing: no FIN, no reset. Its circuit opens within
// ten seconds of the first request that it does not answer, requests fail at once
// from then on and were certainly not sent, and it closes when the peer is back.
func TestFault11_HalfOpenConnectionIsNoticedWithinTenSeconds(t *testing.T) {
	bubble(t, TCPConfig{}, nil, func(t *testing.T, p *pipes, c *Client) {
		g := NewGuard(c, GuardConfig{})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = g.Run(ctx) // it says that ctx has ended
		}()
		defer func() { cancel(); <-ended }()
		if err := callEcho(g, time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // the connection stands and is idle
		p.freeze()              // and who dials hears nothing either
		began := time.Now()
		for !g.Open(server1.ID) {
			if time.Since(began) > 10*time.Second {
				t.Fatal("it is not noticed")
			}
			if err := callEcho(g, 2*time.Second); err == nil {
				t.Fatal("it is not silent")
			}
		}
		t.Logf("noticed after %v", time.Since(began))
		for range 100 {
			asked := time.Now()
			if err := callEcho(g, 2*time.Second); !errors.Is(err, ErrUnreachable) || !NotSent(err) || time.Since(asked) > 0 {
				t.Errorf("behind an open circuit: %v after %v", err, time.Since(asked))
			}
		}
		time.Sleep(time.Minute)
		p.thaw()
		began = time.Now()
		for g.Open(server1.ID) {
			if time.Since(began) > 5*time.Second {
				t.Fatal("it is back, and nobody notices")
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err := callEcho(g, time.Second); err != nil {
			t.Error(err)
		}
	})
}
