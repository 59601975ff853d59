package rpc

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/ring"
)

// script is a peer that fares as the test says.
type script struct {
	outcome atomic.Pointer[error] // nil: an answer
	delay   atomic.Int64          // until the outcome
	sent    atomic.Int64          // requests that are no pings
	// impatient says that deadlines count.
	impatient atomic.Bool
	pings     atomic.Int64           //
	addr      atomic.Pointer[string] // of the latest request
}

func (s *script) set(err error, delay time.Duration) {
	s.outcome.Store(&err)
	s.delay.Store(int64(delay))
}

// far has all requests answered after so long, if they wait as long.
func (s *script) far(delay time.Duration) {
	s.set(nil, delay)
	s.impatient.Store(true)
}

// Send implements Transport.
func (s *script) Send(to Peer, route string, _ any, deadline time.Time, c Completer) {
	s.addr.Store(&to.Addr)
	if route == string(ping) {
		s.pings.Add(1)
	} else {
		s.sent.Add(1)
	}
	err := *s.outcome.Load()
	delay := time.Duration(s.delay.Load())
	if left := time.Until(deadline); s.impatient.Load() && left < delay {
		err, delay = ErrDeadline, left
	}
	time.AfterFunc(delay, func() { c.Complete([]byte{0x91, 0xc4, 0}, err) })
}

func guarded(t *testing.T, f func(t *testing.T, s *script, g *Guard)) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.set(nil, time.Millisecond)
		g := NewGuard(s, GuardConfig{Seed: 1})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- g.Run(ctx) }()
		f(t, s, g)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
}

// wantOpen waits until all is quiet and looks at the circuit of server1.
func wantOpen(t *testing.T, g *Guard, want bool, why string) {
	t.Helper()
	synctest.Wait()
	if got := g.Open(server1.ID); got != want {
		t.Errorf("%s: the circuit's being open is %v", why, got)
	}
}

func TestGuardOpensAtOnceWithoutAConnection(t *testing.T) {
	guarded(t, func(t *testing.T, s *script, g *Guard) {
		s.set(fmt.Errorf("dial: %w", ErrUnreachable), time.Millisecond)
		if err := callEcho(g, time.Second); !errors.Is(err, ErrUnreachable) {
			t.Error(err)
		}
		wantOpen(t, g, true, "unreachable")
		select {
		case <-g.Changed():
		default:
			t.Error("nobody was told")
		}
		before, began := s.sent.Load(), time.Now()
		if err := callEcho(g, time.Second); !errors.Is(err, ErrUnreachable) || !NotSent(err) {
			t.Error(err)
		}
		if s.sent.Load() != before || time.Since(began) > 0 {
			t.Error("a request to an open circuit was tried")
		}
	})
}

func TestGuardClosesSoonAfterThePeerIsBack(t *testing.T) {
	guarded(t, func(t *testing.T, s *script, g *Guard) {
		s.set(ErrUnreachable, time.Millisecond)
		_ = callEcho(g, time.Second)
		time.Sleep(time.Minute)
		wantOpen(t, g, true, "it is still away")
		if n := s.pings.Load(); n < 200 || n > 330 {
			t.Errorf("%d probes in a minute", n)
		}
		s.set(nil, time.Millisecond)
		time.Sleep(2 * probeEvery)
		wantOpen(t, g, false, "it is back")
		if err := callEcho(g, time.Second); err != nil {
			t.Error(err)
		}
		n := s.pings.Load()
		time.Sleep(time.Hour)
		if s.pings.Load() != n {
			t.Error("a peer that answers was probed")
		}
	})
}

func TestGuardOpensAfterTwoSilences(t *testing.T) {
	for _, silence := range []error{ErrDeadline, ErrLost, fmt.Errorf("%w: the deadline has passed", ErrNotSent)} {
		guarded(t, func(t *testing.T, s *script, g *Guard) {
			if err := callEcho(g, time.Second); err != nil {
				t.Fatal(err)
			}
			s.set(silence, time.Second)
			_ = callEcho(g, 10*time.Second)
			wantOpen(t, g, false, "once is no rule")
			_ = callEcho(g, 10*time.Second)
			wantOpen(t, g, true, "twice silent")
		})
	}
}

// Slow requests say nothing while others are answered.
func TestGuardBearsSlowRequests(t *testing.T) {
	guarded(t, func(t *testing.T, s *script, g *Guard) {
		for range 10 {
			s.set(ErrDeadline, time.Second)
			done := make(chan error, 1)
			go func() { done <- callEcho(g, 10*time.Second) }()
			synctest.Wait()
			s.set(nil, time.Millisecond)
			if err := callEcho(g, 10*time.Second); err != nil {
				t.Fatal(err)
			}
			<-done
		}
		wantOpen(t, g, false, "others were answered meanwhile")
	})
}

func TestGuardTakesEveryAnswerForLife(t *testing.T) {
	for _, answer := range []error{
		ParseError(AppendError(nil, fmt.Errorf("a home: %w", ErrUnreachable))),
		ParseError(AppendError(nil, ErrWrongCluster)),
		ParseError(appendError(nil, ErrOverloaded, true)),
	} {
		guarded(t, func(t *testing.T, s *script, g *Guard) {
			s.set(answer, time.Millisecond)
			for range 5 {
				_ = callEcho(g, time.Second)
			}
			wantOpen(t, g, false, answer.Error())
		})
	}
}

// Own overload, and requests that had hardly any time, say nothing.
func TestGuardKnowsWhatSaysNothing(t *testing.T) {
	for _, own := range []error{ErrOverloaded, ErrDeadline, ErrNotSent, fmt.Errorf("%w: %w", ErrLost, ErrClosed)} {
		guarded(t, func(t *testing.T, s *script, g *Guard) {
			s.set(own, failureMin/2)
			for range 5 {
				_ = callEcho(g, time.Second)
			}
			wantOpen(t, g, false, own.Error())
		})
	}
}

func TestGuardOpensForAnotherNodeAtTheAddress(t *testing.T) {
	guarded(t, func(t *testing.T, s *script, g *Guard) {
		s.set(fmt.Errorf("%w: %w", ErrUnreachable, ParseError(appendError(nil, ErrWrongNode, true))), time.Millisecond)
		_ = callEcho(g, time.Second)
		wantOpen(t, g, true, "another node answers")
	})
}

func TestGuardTriesANewAddress(t *testing.T) {
	guarded(t, func(t *testing.T, s *script, g *Guard) {
		s.set(ErrUnreachable, time.Millisecond)
		_ = callEcho(g, time.Second)
		wantOpen(t, g, true, "gone")
		s.set(nil, time.Millisecond)
		moved := Peer{ID: server1.ID, Addr: "server:2"}
		if _, err := echo.Call(t.Context(), g, moved, &blob{}); err != nil {
			t.Errorf("at its new address: %v", err)
		}
		wantOpen(t, g, false, "it answers at its new address")
	})
}

func TestGuardLetsStrangersPass(t *testing.T) {
	guarded(t, func(t *testing.T, s *script, g *Guard) {
		s.set(ErrUnreachable, time.Millisecond)
		for range 5 {
			_, _ = echo.Call(t.Context(), g, Peer{Addr: "somewhere:1"}, &blob{})
		}
		if s.sent.Load() != 5 {
			t.Errorf("%d of 5 requests were tried", s.sent.Load())
		}
		if g.Open(ring.NodeID{}) {
			t.Error("nobody's circuit is open")
		}
	})
}

func TestGuardMeasuresLatency(t *testing.T) {
	guarded(t, func(t *testing.T, s *script, g *Guard) {
		if mean, p95 := g.Latency(server1.ID); mean != 0 || p95 != 0 {
			t.Errorf("before the first answer: %v, %v", mean, p95)
		}
		for i := range 200 {
			delay := 10 * time.Millisecond
			if i%10 == 9 {
				delay = 100 * time.Millisecond
			}
			s.set(nil, delay)
			if err := callEcho(g, time.Second); err != nil {
				t.Fatal(err)
			}
		}
		mean, p95 := g.Latency(server1.ID)
		if mean < 10*time.Millisecond || mean > 40*time.Millisecond || p95 != 100*time.Millisecond {
			t.Errorf("mean %v, 95th percentile %v", mean, p95)
		}
		g.Forget(server1.ID)
		if mean, _ := g.Latency(server1.ID); mean != 0 {
			t.Error("it was to be forgotten")
		}
	})
}

func TestSuspicionOpensTheCircuitOfASilentPeerOnly(t *testing.T) {
	guarded(t, func(t *testing.T, s *script, g *Guard) {
		g.Suspect(server1)
		time.Sleep(suspectMin)
		wantOpen(t, g, false, "it answers")
		s.set(ErrDeadline, suspectMin)
		g.Suspect(server1)
		time.Sleep(suspectMin)
		wantOpen(t, g, true, "it is silent")
	})
}

// A link whose answers take seconds is slow, not gone: satellites, and queues that
// are too long.
func TestCircuitOfAPeerSecondsAwayCloses(t *testing.T) {
	guarded(t, func(t *testing.T, s *script, g *Guard) {
		s.set(ErrUnreachable, time.Millisecond)
		_ = callEcho(g, time.Second)
		wantOpen(t, g, true, "it is away")
		const far = 4 * time.Second
		s.far(far)
		time.Sleep(far + 2*probeEvery)
		wantOpen(t, g, false, "it is back, and far away")
		if err := callEcho(g, 10*time.Second); err != nil {
			t.Error(err)
		}
		g.Suspect(server1)
		time.Sleep(10 * time.Second)
		wantOpen(t, g, false, "a suspicion that is wrong")
	})
}

// Probes that vanish hold up none that would be answered.
func TestCircuitClosesSoonAfterProbesVanished(t *testing.T) {
	guarded(t, func(t *testing.T, s *script, g *Guard) {
		s.set(ErrUnreachable, time.Millisecond)
		_ = callEcho(g, time.Second)
		s.set(ErrDeadline, probeTime)
		time.Sleep(time.Minute)
		wantOpen(t, g, true, "it is silent")
		if n := s.pings.Load(); n < 40 || n > 70 {
			t.Errorf("%d probes in a minute of silence", n)
		}
		s.set(nil, time.Millisecond)
		time.Sleep(probeAgain + 2*probeEvery)
		wantOpen(t, g, false, "it is back")
	})
}
