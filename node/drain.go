package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// Bounds of how long requests that are under way may hold up the end of a node.
const (
	// DrainDefault is longer than clients wait for an answer unless they say otherwise.
	DrainDefault = 10 * time.Second
	drainMax     = time.Hour
)

// ErrDrained: the node was asked to drain and has done so; there is nothing wrong with it.
var ErrDrained = errors.New("drained")

// Drain takes no new requests of clients and waits until those under way are answered, or
// ctx ends: the error then says how many are left. Status says "draining" meanwhile. Other
// nodes are answered until Close, which is what follows.
func (n *Node) Drain(ctx context.Context) error {
	n.draining.Store(true)
	if left, err := n.kv.Drain(ctx); err != nil {
		return fmt.Errorf("%d requests are not answered yet: %w", left, err)
	}
	return nil
}

// drain begins to drain, and ends the node once that is done.
func (n *Node) drain(_ context.Context, _ rpc.Peer, req *api.DrainRequest) (*api.DrainResponse, error) {
	limit := DrainDefault
	if req.Limit > 0 {
		limit = time.Duration(min(req.Limit, uint64(drainMax.Milliseconds()))) * time.Millisecond
	}
	resp := &api.DrainResponse{Operations: n.kv.Operations()}
	if n.draining.Swap(true) {
		return resp, nil
	}
	n.drains <- limit // there is room for the only one
	return resp, nil
}

// drainLoop waits until the node is asked to drain, and ends it when that is done.
func (n *Node) drainLoop(ctx context.Context) error {
	var limit time.Duration
	select {
	case limit = <-n.drains:
	case <-ctx.Done():
		return nil
	}
	n.cfg.Logger.Info("draining: no new requests of clients are taken", "operations", n.kv.Operations(), "limit", limit)
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := n.Drain(limited)
	if ctx.Err() != nil {
		return nil
	}
	n.ended.Do(func() {
		n.err = ErrDrained
		if err != nil {
			n.cfg.Logger.Warn("drained, but not to the end", "error", err)
		} else {
			n.cfg.Logger.Info("drained")
		}
		close(n.done)
	})
	return nil
}
