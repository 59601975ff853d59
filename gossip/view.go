package gossip

import (
	"slices"

	"github.com/kithdb/kith/ring"
)

// State is what a node tells all others about itself.
type State struct {
	// Cluster is zero until the node has joined or founded one.
	Cluster ring.ClusterID
	// Epoch and Digest name the ring record that the node holds durably;
	// Digest is a prefix of the record's.
	Epoch  uint64
	Digest [8]byte
	// Ready is one word for people: starting, joining, ready, failed.
	Ready string
}

// Peer is one member as this node sees it now.
type Peer struct {
	// ID tells members apart; Name and Zone are labels that it gave itself.
	ID   ring.NodeID
	Name string
	Zone string
	// RPCAddr and GossipAddr are HOST:PORT.
	RPCAddr    string
	GossipAddr string
	// Alive says that gossip believes it can be reached. That is a hint: it
	// may be wrong either way.
	Alive bool
	// State is what it last told of itself.
	State State
	// ProtocolMin and ProtocolMax are the RPC versions that it speaks.
	ProtocolMin, ProtocolMax uint8
}

// View is everyone that this node knows of, itself included, at one moment. It
// is never changed.
type View struct {
	// Peers are sorted by ID.
	Peers []Peer
}

// Peer finds a member; nil if it is not known.
func (v *View) Peer(id ring.NodeID) *Peer {
	if v == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(v.Peers, id, func(p Peer, id ring.NodeID) int { return p.ID.Compare(id) })
	if !ok {
		return nil
	}
	return &v.Peers[i]
}
