package node

import (
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

// Env is the world that a node lives in: network, membership, disk and wall
// clock. Start fills it with the real one, the simulator with its own. Whatever
// waits uses package time directly.
type Env struct {
	// Network makes the node's way to reach others. It is called once.
	Network func(self ring.NodeID, cluster func() ring.ClusterID, mux *rpc.Mux) (Network, error)
	// Membership starts the node's view of the others. It is called once,
	// after Network has its address.
	Membership func(MembershipConfig) (Membership, error)
	// Burst, optional, is what Network gathers its sending by; the store
	// tells it when much comes at once.
	Burst *rpc.Burst
	// Disk is closed by the node.
	Disk storage.Storage
	// Keepsake, optional, has the node's ID a second time.
	Keepsake Keepsake
	// Now is the wall clock, for stamps and expiry.
	Now func() time.Time
	// Seed begins every generator of chance; 0 draws a random one.
	Seed uint64
}

// Network carries requests between nodes.
type Network interface {
	rpc.Transport
	// Listen begins to serve the mux and returns the address for others.
	Listen() (addr string, err error)
	// Close ends serving and all connections. Requests under way fail.
	Close() error
}

// MembershipConfig is what the membership tells others of this node.
type MembershipConfig struct {
	ID   ring.NodeID
	Name string
	Zone string
	// RPCAddr is where this node takes requests, HOST:PORT.
	RPCAddr string
	// Book keeps its peers over restarts.
	Book gossip.Book
	// State is what it announces first.
	State gossip.State
	// Seed begins every generator of chance.
	Seed uint64
}

// Membership says who can be reached now; *gossip.Cluster satisfies it.
type Membership interface {
	// View is everyone that this node knows of, itself included, sorted by ID.
	View() *gossip.View
	// Changed is closed when the next View is there.
	Changed() <-chan struct{}
	// Announce tells all others the state of this node. It never blocks.
	Announce(gossip.State)
	// Failed gives one error when this node must stop.
	Failed() <-chan error
	// Addr is the HOST:PORT of gossip that the others are told.
	Addr() string
	// Close ends membership. Nobody is told: this node is expected back.
	Close() error
}
