package client

import (
	"context"
	"time"

	"github.com/kithdb/kith/rpc/api"
)

// Drain has one node take no new requests of clients, answer those that are under way,
// for limit at most (0 is the node's default), and end. It returns when the node has begun
// with that, with the number of requests under way. The node stays a member. Which node is
// asked matters: use Direct, and the node's address alone. After ErrUnknown it may drain.
func (c *Client) Drain(ctx context.Context, limit time.Duration) (operations int, err error) {
	o := op{name: "drain", partition: -1, write: true, deadline: c.deadlineOf(ctx)}
	resp := new(api.DrainResponse)
	if err := run(ctx, c, &o, api.Drain, &api.DrainRequest{Limit: uint64(max(0, limit).Milliseconds())}, resp); err != nil {
		return 0, err
	}
	return resp.Operations, nil
}
