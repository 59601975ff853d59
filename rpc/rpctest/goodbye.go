package rpctest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc"
)

// goodbyeMax is how long an ending server waits for the others. On a machine that is too
// busy for that nothing is promised.
const goodbyeMax = time.Second

// What a server has taken before its orderly end is answered, what comes later is not
// taken, and the end comes as soon as all is answered.
func goodbyeAnswers(t *testing.T, start Start) {
	m := newMux(t, rpc.MuxConfig{})
	held := holding(m)
	n := start(t, m)
	taken := make(chan error, 1)
	hold.Send(n.From, n.Server, &text{}, time.Now().Add(20*time.Second), rpc.CompleteFunc(func(_ []byte, err error) { taken <- err }))
	call := <-held
	ctx := soon(t)
	began := time.Now()
	closed := make(chan struct{})
	go func() {
		n.Close()
		close(closed)
	}()
	for {
		_, err := echo.Call(ctx, n.From, n.Server, &text{Data: []byte("x")})
		if err == nil {
			continue // it has not begun to close
		}
		if !rpc.NotSent(err) && time.Since(began) < goodbyeMax {
			t.Errorf("a request to a server that is ending: %v", err)
		}
		break
	}
	call.Reply(&text{})
	if err := <-taken; err != nil && time.Since(began) < goodbyeMax {
		t.Errorf("what was taken before: %v", err)
	}
	<-closed
	_, err := echo.Call(soon(t), n.From, n.Server, &text{})
	wantError(t, err, rpc.ErrUnreachable, true)
}

// Whoever asks while a server ends in good order knows of each request whether it was
// carried out.
func goodbyeLeavesNoDoubt(t *testing.T, start Start) {
	m := newMux(t, rpc.MuxConfig{})
	var served sync.Map
	hold.HandleInline(m, rpc.ClassClient, func(c *rpc.Call, req *text) {
		served.Store(string(req.Data), true)
		c.Reply(req)
	})
	work.Handle(m, rpc.ClassClient, func(_ context.Context, _ rpc.Peer, req *text) (*text, error) {
		served.Store(string(req.Data), true)
		return req, nil
	})
	n := start(t, m)
	const callers, before = 16, 400
	never := time.Now().Add(time.Hour)
	var answered atomic.Int64
	busy := make(chan struct{})
	ended := make(chan error, callers)
	ctx := soon(t)
	var began atomic.Pointer[time.Time] // the end; later than any time until then
	began.Store(&never)
	for caller := range callers {
		route := hold
		if caller%2 == 1 {
			route = work
		}
		go func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%d/%d", caller, i)
				_, err := route.Call(ctx, n.From, n.Server, &text{Data: []byte(name)})
				_, done := served.Load(name)
				switch {
				case err == nil && done:
					if answered.Add(1) == before {
						close(busy)
					}
					continue
				case err == nil:
					ended <- fmt.Errorf("%s was answered and not served", name)
				case rpc.NotSent(err) && done:
					ended <- fmt.Errorf("%s was served, and is said not to be sent: %w", name, err)
				case rpc.NotSent(err), errors.Is(err, rpc.ErrLost) && time.Since(*began.Load()) >= goodbyeMax:
					ended <- nil
				default:
					ended <- fmt.Errorf("%s is in doubt: %w", name, err)
				}
				return
			}
		}()
	}
	<-busy
	now := time.Now()
	began.Store(&now)
	n.Close()
	for range callers {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
