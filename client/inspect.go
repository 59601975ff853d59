package client

import (
	"context"

	"github.com/kithdb/kith/rpc/api"
)

// Inspection is what each home holds of a key, and why they differ. InspectedCopy
// is one home's copy in it, and InspectedSibling one sibling of a copy.
type (
	Inspection       = api.InspectResponse
	InspectedCopy    = api.CopyInfo
	InspectedSibling = api.SiblingInfo
)

// Inspect asks one node for everything that the homes of a key, and those who
// stand in for them, know of it. It changes nothing and repairs nothing. A home
// that cannot be asked is part of the answer.
func (c *Client) Inspect(ctx context.Context, key []byte) (*Inspection, error) {
	o := op{name: "inspect", key: key, deadline: c.deadlineOf(ctx)}
	if err := checkKey(key); err != nil {
		return nil, newError(&o, "", 0, err)
	}
	o.partition = c.partitionOf(key)
	resp := new(Inspection)
	if err := run(ctx, c, &o, api.Inspect, &api.InspectRequest{Key: key}, resp); err != nil {
		return nil, err
	}
	c.noticed(resp.Epoch)
	return resp, nil
}
