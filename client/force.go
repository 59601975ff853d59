package client

import (
	"context"

	"github.com/kithdb/kith/rpc/api"
)

// A ForceRequest names who is to go on without the keepers that are gone for good.
type ForceRequest = api.ForceRequest

// Force has survivors change the ring together where a majority of the keepers is gone
// for good. It is the last resort: if the others live, the cluster falls apart into two.
// One of the survivors is to be asked: use Direct, and its address alone. ErrRefused says
// why it cannot be; after ErrUnknown it has to be repeated.
func (c *Client) Force(ctx context.Context, req ForceRequest) (*RingOutcome, error) {
	o := op{name: "force the ring", partition: -1, write: true, deadline: c.deadlineOf(ctx)}
	resp := new(RingOutcome)
	if err := run(ctx, c, &o, api.Force, &req, resp); err != nil {
		return nil, err
	}
	c.noticed(resp.Epoch)
	return resp, nil
}

// Reached is whom one node reaches.
type Reached = api.ReachResponse

// Reach has one node try every other member at the address that it tells of itself. Which
// node is asked matters: use Direct, and the node's address alone.
func (c *Client) Reach(ctx context.Context) (*Reached, error) {
	o := op{name: "reach", partition: -1, deadline: c.deadlineOf(ctx)}
	resp := new(Reached)
	if err := run(ctx, c, &o, api.Reach, &api.ReachRequest{}, resp); err != nil {
		return nil, err
	}
	return resp, nil
}
