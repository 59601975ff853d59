package kv

import (
	"context"
	"fmt"

	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// errDraining is what a Coordinator says to clients once it drains.
var errDraining = fmt.Errorf("%w: the node is draining, and takes no new requests: ask another one", api.ErrNotReady)

// Drain refuses what clients ask from now on, with ErrNotReady: they go to another node.
// It returns when all that was under way is answered, or with ctx's error and how many
// operations are left. Other nodes are answered as before: this node's copies count until
// Close.
func (c *Coordinator) Drain(ctx context.Context) (left int, err error) {
	c.draining.Store(true)
	select {
	case <-c.sweep.empty():
		return 0, nil
	case <-ctx.Done():
		return c.Operations(), ctx.Err()
	}
}

// takes refuses a call of a client while the Coordinator drains.
func (c *Coordinator) takes(call *rpc.Call) bool {
	if c.draining.Load() {
		call.Fail(errDraining)
		return false
	}
	return true
}
