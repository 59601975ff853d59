package rpc

import (
	"fmt"
	"testing"
	"time"
)

// Nobody sends to a peer whose circuit is open, so Run has to look for it where
// it has moved to.
func TestGuardLooksForAPeerWhereItHasMovedTo(t *testing.T) {
	guarded(t, func(t *testing.T, s *script, g *Guard) {
		moved := Peer{ID: server1.ID, Addr: "10.9.9.9:1"}
		g.Moved(moved) // of one that was never tried there is nothing to tell
		s.set(fmt.Errorf("dial: %w", ErrUnreachable), time.Millisecond)
		if err := callEcho(g, time.Second); err == nil {
			t.Fatal("the peer answered")
		}
		time.Sleep(2 * probeEvery)
		if at := *s.addr.Load(); at != server1.Addr {
			t.Fatalf("probed at %s", at)
		}
		s.set(nil, time.Millisecond)
		g.Moved(moved)
		time.Sleep(2 * probeEvery)
		if at := *s.addr.Load(); at != moved.Addr {
			t.Errorf("probed at %s, not where it is", at)
		}
		wantOpen(t, g, false, "answered at the new address")
	})
}
