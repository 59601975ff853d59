package client

import (
	"context"

	"github.com/kithdb/kith/rpc/api"
)

// RepairStatus is what a member says of its own copies.
type RepairStatus = api.RepairStatus

// RepairProgress is how far the latest audit of one node is.
type RepairProgress = api.RepairResponse

// AllPartitions has StartRepair audit every partition that the node is a home of.
const AllPartitions = api.AllPartitions

// StartRepair has one node compare its copies of a partition, or of all, with those
// of the other homes, and mend what differs; an audit that is under way is joined.
// It does not wait for it. Which node is asked matters: use Direct, and the node's
// address alone.
func (c *Client) StartRepair(ctx context.Context, partition int) (*RepairProgress, error) {
	return c.repair(ctx, &api.RepairRequest{Start: true, Partition: partition})
}

// Repaired is how far one node's audit is, or how its latest one has ended.
func (c *Client) Repaired(ctx context.Context) (*RepairProgress, error) {
	return c.repair(ctx, &api.RepairRequest{Partition: AllPartitions})
}

func (c *Client) repair(ctx context.Context, req *api.RepairRequest) (*RepairProgress, error) {
	o := op{name: "repair", partition: -1, deadline: c.deadlineOf(ctx)}
	resp := new(RepairProgress)
	if err := run(ctx, c, &o, api.Repair, req, resp); err != nil {
		return nil, err
	}
	return resp, nil
}
