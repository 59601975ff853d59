package client

import (
	"context"

	"github.com/kithdb/kith/rpc/api"
)

// A RingVerb is one change of the membership, a RingRequest asks for one, and a
// RingOutcome says what was decided.
type (
	RingVerb    = api.Verb
	RingRequest = api.ChangeRequest
	RingOutcome = api.ChangeResponse
)

// The changes of the membership.
const (
	RingJoin     = api.VerbJoin
	RingLeave    = api.VerbLeave
	RingRemove   = api.VerbRemove
	RingReplace  = api.VerbReplace
	RingWeight   = api.VerbWeight
	RingReplicas = api.VerbReplicas
	RingAbort    = api.VerbAbort
)

// RingPlan is where a change would lead, RingMoves how far the moves of slots are,
// and RingHistory what the latest ring records have changed.
type (
	RingPlan    = api.PlanResponse
	RingMoves   = api.MovesResponse
	RingMove    = api.MoveStatus
	RingHistory = api.HistoryResponse
)

// Change has a change of the membership decided. It returns when a majority of the
// members that vote on the ring stores it; the moves of slots that follow go on
// behind it, see Moves. ErrRefused and ErrBadRequest say why it cannot be;
// ErrUnknown, that it may still come. A change that stands already is no error and
// changes nothing, so that it may be repeated. Where it speaks of no member, the
// node that is asked is meant: use Direct, and its address alone.
func (c *Client) Change(ctx context.Context, req RingRequest) (*RingOutcome, error) {
	o := op{name: "change the ring", partition: -1, write: true, deadline: c.deadlineOf(ctx)}
	resp := new(RingOutcome)
	if err := run(ctx, c, &o, api.Change, &req, resp); err != nil {
		return nil, err
	}
	c.noticed(resp.Epoch)
	return resp, nil
}

// Plan says what a change would do, and does nothing.
func (c *Client) Plan(ctx context.Context, req RingRequest) (*RingPlan, error) {
	o := op{name: "plan", partition: -1, deadline: c.deadlineOf(ctx)}
	resp := new(RingPlan)
	if err := run(ctx, c, &o, api.Plan, &req, resp); err != nil {
		return nil, err
	}
	return resp, nil
}

// Moves says how far the moves of slots are, as one node sees it and the members
// that drive them tell it.
func (c *Client) Moves(ctx context.Context) (*RingMoves, error) {
	o := op{name: "moves", partition: -1, deadline: c.deadlineOf(ctx)}
	resp := new(RingMoves)
	if err := run(ctx, c, &o, api.Moves, &api.MovesRequest{}, resp); err != nil {
		return nil, err
	}
	c.noticed(resp.Epoch)
	return resp, nil
}

// History says what the latest ring records have changed, as one node has adopted
// them.
func (c *Client) History(ctx context.Context) (*RingHistory, error) {
	o := op{name: "history", partition: -1, deadline: c.deadlineOf(ctx)}
	resp := new(RingHistory)
	if err := run(ctx, c, &o, api.History, &api.HistoryRequest{}, resp); err != nil {
		return nil, err
	}
	return resp, nil
}
