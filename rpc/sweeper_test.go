package rpc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// told is a Completer that keeps when it was called.
type told struct {
	at  time.Time
	err error
}

func (d *told) Complete(_ []byte, err error) { d.at, d.err = time.Now(), err }

// A deadline is noticed within sweepEvery, in whatever order they are asked for:
// a near one does not wait for the far one that the sweeper sleeps for.
func TestDeadlinesAreNoticedInTime(t *testing.T) {
	mux := NewMux(MuxConfig{})
	echo.HandleInline(mux, ClassClient, func(c *Call, _ *blob) {}) // never answers
	bubble(t, TCPConfig{Connections: 2}, mux, func(t *testing.T, _ *pipes, c *Client) {
		chance := rand.New(rand.NewPCG(3, 9))
		var want []time.Time
		var got []*told
		for range 100 {
			deadline := time.Now().Add(time.Duration(1 + chance.Int64N(int64(2*time.Second))))
			if chance.IntN(4) == 0 {
				deadline = time.Now().Add(time.Duration(1 + chance.Int64N(int64(30*time.Millisecond))))
			}
			done := &told{}
			echo.Send(c, server1, &blob{}, deadline, done)
			want, got = append(want, deadline), append(got, done)
			time.Sleep(time.Duration(chance.Int64N(int64(40 * time.Millisecond))))
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for i, d := range got {
			if late := d.at.Sub(want[i]); late < 0 || late > sweepEvery || !errors.Is(d.err, ErrDeadline) {
				t.Errorf("request %d ended %v after its deadline: %v", i, late, d.err)
			}
		}
	})
}

// Requests that are answered do not have the sweeper look for late ones all the
// time, and a client without requests sleeps.
func TestSweeperSleepsWhileNothingIsLate(t *testing.T) {
	for _, test := range []struct {
		every time.Duration // between requests, for 20 s
		most  int           // sweeps
	}{
		{5 * time.Millisecond, 45},
		{500 * time.Millisecond, 45},
		{15 * time.Second, 5},
	} {
		t.Run(fmt.Sprint(test.every), func(t *testing.T) {
			bubble(t, TCPConfig{}, nil, func(t *testing.T, _ *pipes, c *Client) {
				looks := 0
				s := &sweeper{}
				s.init()
				ctx, cancel := context.WithCancel(context.Background())
				var running sync.WaitGroup
				running.Go(func() {
					s.run(ctx, func(conns []*clientConn) []*clientConn {
						looks++
						return c.conns(conns)
					})
				})
				for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(test.every) {
					var done told
					deadline := time.Now().Add(5 * time.Second)
					echo.Send(c, server1, &blob{}, deadline, &done)
					s.notice(deadline)
					synctest.Wait()
					if done.err != nil || done.at.IsZero() {
						t.Fatalf("no answer: %v", done.err)
					}
				}
				cancel()
				running.Wait()
				if looks /= 2; looks > test.most { // it looks twice in a sweep
					t.Errorf("%d sweeps, want at most %d", looks, test.most)
				}
			})
		})
	}
}
