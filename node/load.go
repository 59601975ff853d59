package node

import "github.com/kithdb/kith/store"

// Load is what waits inside a node.
type Load struct {
	// Operations of clients that the node coordinates and has not answered.
	Operations int
	// Writes that its store has taken and not committed, and the bytes that
	// are counted for them; bounded by store.WaitingMax and
	// store.WaitingBytesMax.
	Writes, WriteBytes int64
}

// Load says what waits now. Any goroutine may call it until Close.
func (n *Node) Load() Load {
	l := Load{Operations: n.kv.Operations()}
	l.Writes, l.WriteBytes = n.store.Waiting()
	return l
}

// Store is the node's own, to look into. It is open until Close.
func (n *Node) Store() *store.Store { return n.store }
