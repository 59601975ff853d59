package node_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/sim/network"
)

// silent is a DNS that never answers.
type silent struct{}

// LookupIPAddr implements gossip.Resolver.
func (silent) LookupIPAddr(ctx context.Context, _ string) ([]net.IPAddr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A node whose seed is a name of which DNS says nothing starts, says in its status what
// it waits for, and answers clients at once.
func TestFault13_StatusSaysWhyNobodyIsReached(t *testing.T) {
	world := network.New(network.Config{Seed: 13})
	defer world.Close()
	me := world.Host(rpc.Peer{Addr: "10.9.9.9:1"}, nil)
	const addr = "10.0.0.1:7600"
	n, err := node.StartIn(node.Env{
		Disk: disk.New(13).Open(), Now: time.Now, Seed: 13,
		Network: func(self ring.NodeID, _ func() ring.ClusterID, mux *rpc.Mux) (node.Network, error) {
			return &socket{world.HostNamed("n1", rpc.Peer{ID: self, Addr: addr}, nil), mux}, nil
		},
		Membership: func(m node.MembershipConfig) (node.Membership, error) {
			return gossip.Start(gossip.Config{
				ID: m.ID, Name: m.Name, Bind: "127.0.0.1:0", RPCAddr: m.RPCAddr, Cluster: "kith", Book: m.Book, State: m.State,
				Seeds: []string{"seed.example:7946"}, Resolver: silent{}, Logger: quiet(), Seed: m.Seed,
			})
		},
	}, node.Config{Data: "simulated", Name: "n1", Join: []string{"seed.example:7946"}, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	ask := func() (*api.StatusResponse, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return api.Status.Call(ctx, me, rpc.Peer{Addr: addr}, &api.StatusRequest{})
	}
	until(t, "status says why", func() bool {
		resp, err := ask()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(resp.Reason, `resolve "seed.example"`) && len(resp.Members) == 1 &&
			strings.Contains(strings.Join(resp.Members[0].Problems, "\n"), "deadline exceeded")
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = api.Put.Call(ctx, me, rpc.Peer{Addr: addr}, &api.PutRequest{Key: []byte("k"), Value: []byte("v")})
	if !errors.Is(err, api.ErrNotReady) {
		t.Errorf("a put is answered by %v", err)
	}
}
