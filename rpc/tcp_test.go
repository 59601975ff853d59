package rpc_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/rpctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// nobody is an address where nobody listens: port 2 of loopback is given to none.
const nobody = "127.0.0.1:2"

func TestTCPKeepsTheTransportsPromises(t *testing.T) {
	rpctest.Run(t, func(t *testing.T, mux *rpc.Mux) rpctest.Net {
		id := ring.NodeID{7}
		server, err := rpc.Listen("127.0.0.1:0", rpc.TCPConfig{Self: rpc.Peer{ID: id}, Mux: mux})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Close)
		client := rpc.NewClient(rpc.TCPConfig{Self: rpc.Peer{ID: ring.NodeID{8}, Addr: "127.0.0.1:1"}})
		t.Cleanup(client.Close)
		return rpctest.Net{
			From:   client,
			Server: rpc.Peer{ID: id, Addr: server.Addr()},
			Nobody: rpc.Peer{Addr: nobody},
			Kill:   server.Close,
			Close:  server.Close,
		}
	})
}
