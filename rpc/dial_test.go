package rpc

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/ring"
)

// A dial that takes seconds is a long way, not a dead end; one that takes for ever
// is given up.
func TestDialWaitsForPeersSecondsAway(t *testing.T) {
	for _, far := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			p := newPipes()
			server := serve(p, TCPConfig{Self: Peer{ID: ring.NodeID{1}}, Mux: echoMux()})
			defer server.Close()
			client := newClient(TCPConfig{}, func(ctx context.Context, addr string) (net.Conn, error) {
				if far {
					time.Sleep(4 * time.Second)
				} else {
					p.hang.Store(true)
				}
				return p.dial(ctx, addr)
			})
			defer client.Close()
			began := time.Now()
			err := callEcho(client, time.Minute)
			if took := time.Since(began); far && err != nil || !far && (!errors.Is(err, ErrUnreachable) || took > dialTimeDefault+time.Second) {
				t.Errorf("far %v: %v after %v", far, err, took)
			}
		})
	}
}
