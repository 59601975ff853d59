package client

import (
	"context"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// Status is the cluster as one node sees it, and MemberStatus one member.
type (
	Status       = api.StatusResponse
	MemberStatus = api.MemberStatus
)

// Status asks one node how the cluster is.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	o := op{name: "status", partition: -1, deadline: c.deadlineOf(ctx)}
	c.turn.Add(1)
	resp := new(Status)
	if err := run(ctx, c, &o, api.Status, &api.StatusRequest{}, resp); err != nil {
		return nil, err
	}
	c.noticed(resp.Epoch)
	return resp, nil
}

// A RingView is the ring record, and where its members are.
type RingView struct {
	// Record is the newest one that the node had. Do not change it.
	Record *ring.Record
	// Members are those with an address that clients can use.
	Members []api.MemberAddress
}

// Ring asks one node for the ring record. It gives ErrNotReady while the node
// has none.
func (c *Client) Ring(ctx context.Context) (RingView, error) {
	o := op{name: "ring", partition: -1, deadline: c.deadlineOf(ctx)}
	c.turn.Add(1)
	req := api.RingRequest{Epoch: c.view.Load().epoch}
	resp := new(api.RingResponse)
	begun := time.Now()
	if err := run(ctx, c, &o, api.Ring, &req, resp); err != nil {
		return RingView{}, err
	}
	if err := c.adopt(resp, begun); err != nil {
		return RingView{}, newError(&o, "", 1, err)
	}
	record := c.view.Load().record
	if record == nil {
		return RingView{}, newError(&o, "", 1, ErrNotReady)
	}
	return RingView{Record: record, Members: resp.Members}, nil
}

// Partitions is the number of the cluster's partitions; 0 while it is not known.
func (c *Client) Partitions() int {
	if r := c.view.Load().record; r != nil {
		return r.Partitions
	}
	return 0
}
