// Package rpc carries one request and one response between two nodes, or
// between a client and a node. It hides TCP, framing, multiplexing, checksums
// and msgpack.
//
// A Transport sends; a Mux answers. The simulator has its own Transport, which
// hands requests to the same Mux. Client and Server are the two ends of TCP, and
// a Guard keeps requests from peers that don't answer.
//
// It promises that every request is completed once, at the latest soon after its
// deadline; that an error tells whether the peer may have acted (NotSent); that
// registered errors survive the wire; that a server which ends in good order leaves
// nobody in doubt (see Server.Close); and that nothing is allocated for what a peer
// merely claims to send. Everything that waits is bounded, and what is over a bound is
// refused at once.
//
// It does not send anything twice, keep an order between requests, or know what
// the messages mean. Peers are not authenticated: whoever can connect is trusted.
package rpc

import (
	"time"

	"github.com/kithdb/kith/ring"
)

// Peer is where a request goes or comes from.
type Peer struct {
	// ID is the node's; zero for a client, and for a node known by its
	// address alone.
	ID ring.NodeID
	// Addr is HOST:PORT.
	Addr string
}

// Completer takes the outcome of one request.
type Completer interface {
	// Complete is called exactly once, from any goroutine, perhaps before
	// Send has returned, and at the latest soon after the deadline. It must
	// not block, nor wait for another reply. The reply may be kept; it is
	// not written to again. It may be part of a buffer of 64 KiB: who keeps
	// little of it for long should copy that.
	Complete(reply []byte, err error)
}

// CompleteFunc is a function as a Completer.
type CompleteFunc func(reply []byte, err error)

// Complete calls f.
func (f CompleteFunc) Complete(reply []byte, err error) { f(reply, err) }

// Transport sends requests to peers.
type Transport interface {
	// Send encodes msg before it returns and never blocks on the network.
	// Errors tell what the peer may have done: see NotSent.
	Send(to Peer, route string, msg any, deadline time.Time, c Completer)
}
