package api

import "github.com/kithdb/kith/rpc"

// Drain has a node take no new requests of clients, answer those that are under way, and
// end.
const Drain rpc.Route[DrainRequest, DrainResponse] = "node.drain"

// DrainRequest asks a node to drain.
type DrainRequest struct {
	// Limit is how long requests that are under way may take, in milliseconds; what
	// is not answered by then is answered as refused or unknown. 0 is the node's
	// default.
	Limit uint64
}

// DrainResponse says that the node has begun to drain.
type DrainResponse struct {
	// Operations of clients are under way.
	Operations int
}
