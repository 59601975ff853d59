package network_test

import (
	"testing"
	"time"

	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/rpctest"
	"github.com/kithdb/kith/sim/network"
)

func startNet(t *testing.T, mux *rpc.Mux) rpctest.Net {
	n := network.New(network.Config{Seed: 1, Link: network.Link{Latency: 100 * time.Microsecond, Jitter: 100 * time.Microsecond}})
	t.Cleanup(n.Close)
	server := n.Host(peer(1), mux)
	return rpctest.Net{
		From:   n.Host(rpc.Peer{Addr: "10.0.1.1:1"}, nil),
		Server: peer(1),
		Nobody: peer(2),
		Kill:   server.Crash,
		Close:  server.Close,
	}
}

// The same promises hold over the simulated network and over TCP, in virtual
// time and in real time.
func TestKeepsThePromisesOfTransports(t *testing.T) {
	for _, c := range rpctest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) { c.Run(t, startNet) })
		})
	}
	t.Run("RealTime", func(t *testing.T) { rpctest.Run(t, startNet) })
}
