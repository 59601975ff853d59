package api

import (
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

// Reach has a node try every other member of the ring at the address that it tells of
// itself.
const Reach rpc.Route[ReachRequest, ReachResponse] = "node.reach"

// ReachRequest asks whom a node reaches.
type ReachRequest struct{}

// ReachResponse is whom one node reaches.
type ReachResponse struct {
	ID   ring.NodeID // of the node that answers
	Name string
	// Peers are all other members, in the order of their IDs.
	Peers []ReachedPeer
}

// ReachedPeer is one member as another one reaches it.
type ReachedPeer struct {
	ID   ring.NodeID
	Name string // as the ring record has it
	// Addr is the HOST:PORT that the member tells of itself; empty if nobody has.
	Addr string
	// Gossip says that the membership believes it alive.
	Gossip bool
	// Error is why a request to that address was not answered; empty if it was.
	Error string
}
