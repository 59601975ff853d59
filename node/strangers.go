package node

import (
	"fmt"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/rpc"
)

// lonely says why this node reaches nobody in gossip; empty if it reaches somebody, or
// there is nobody to be reached.
func (n *Node) lonely() string {
	for _, p := range n.members.View().Peers {
		if p.Alive && p.ID != n.id {
			return ""
		}
	}
	if err := n.members.joinError(); err != nil {
		return fmt.Sprintf("no other node is reached, and is tried again and again: %v", err)
	}
	return ""
}

// foreignProtocol says that a peer and this node have no version of the protocol in
// common; empty if they have. A peer that tells no range is not judged.
func foreignProtocol(p *gossip.Peer) string {
	theirs := rpc.Protocols{Min: p.ProtocolMin, Max: p.ProtocolMax}
	if _, ok := rpc.Spoken().Common(theirs); ok || theirs == (rpc.Protocols{}) {
		return ""
	}
	return fmt.Sprintf("speaks the protocols %v, and the node that tells this %v: they have none in common, the older one is to be upgraded", theirs, rpc.Spoken())
}

// notJoined says that this node is in no cluster, and why if that is known.
func (n *Node) notJoined() string {
	if why := n.lonely(); why != "" {
		return "this node has not joined a cluster yet: " + why
	}
	return "this node has not joined a cluster yet"
}
