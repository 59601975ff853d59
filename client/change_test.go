package client_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// answerChanges has every node answer changes of the ring, and counts who was asked.
func (w *world) answerChanges(answer func(node int, c *rpc.Call, req *api.ChangeRequest)) (asked []int) {
	asked = make([]int, len(w.nodes))
	for i, n := range w.nodes {
		api.Change.HandleInline(n.mux, rpc.ClassControl, func(c *rpc.Call, req *api.ChangeRequest) {
			w.mu.Lock()
			asked[i]++
			w.mu.Unlock()
			answer(i, c, req)
		})
	}
	return asked
}

func sum(asked []int) (n int) {
	for _, k := range asked {
		n += k
	}
	return n
}

// A change is done, refused or unknown: what one node refuses by the ring is refused,
// what one could not decide is asked of another one, and what may have been decided is
// asked of nobody else.
func TestAChangeIsDoneRefusedOrUnknown(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(node int, c *rpc.Call)
		want   error
		asked  int
	}{
		"done": {func(_ int, c *rpc.Call) {
			c.Reply(&api.ChangeResponse{Epoch: 7, Changed: true, Said: []string{"n1 was active and is leaving"}})
		}, nil, 1},
		"refused":    {func(_ int, c *rpc.Call) { c.Fail(fmt.Errorf("%w: too few are left", api.ErrRefused)) }, client.ErrRefused, 1},
		"no such":    {func(_ int, c *rpc.Call) { c.Fail(fmt.Errorf("%w: nobody is called so", api.ErrBadRequest)) }, client.ErrBadRequest, 1},
		"undecided":  {func(_ int, c *rpc.Call) { c.Fail(fmt.Errorf("%w: no majority", api.ErrUnavailable)) }, client.ErrUnavailable, 3},
		"unknown":    {func(_ int, c *rpc.Call) { c.Fail(fmt.Errorf("%w: decided, perhaps", api.ErrUnknown)) }, client.ErrUnknown, 1},
		"a crash":    {func(int, *rpc.Call) {}, client.ErrUnknown, 1},
		"a surprise": {func(_ int, c *rpc.Call) { c.Fail(errors.New("what is this")) }, client.ErrUnknown, 1},
	} {
		inBubble(t, 3, func(t *testing.T, w *world) {
			asked := w.answerChanges(func(node int, call *rpc.Call, req *api.ChangeRequest) {
				if req.Verb != api.VerbLeave || req.Member != "n1" {
					t.Errorf("%s: asked for %+v", name, req)
				}
				c.answer(node, call)
				if name == "a crash" {
					w.nodes[node].host.Crash()
				}
			})
			cl := w.dial()
			defer cl.Close()
			out, err := cl.Change(ctx, client.RingRequest{Verb: client.RingLeave, Member: "n1"})
			if !errors.Is(err, c.want) || (err == nil) != (out != nil) {
				t.Errorf("%s: %v, %v, want %v", name, out, err, c.want)
			}
			if err == nil && (out.Epoch != 7 || !out.Changed || len(out.Said) != 1) {
				t.Errorf("%s: %+v", name, out)
			}
			if err != nil && client.Unknown(err) != errors.Is(c.want, client.ErrUnknown) {
				t.Errorf("%s: unknown is %v of %v", name, client.Unknown(err), err)
			}
			if n := sum(asked); n != c.asked {
				t.Errorf("%s: %d nodes were asked, want %d", name, n, c.asked)
			}
		})
	}
}

// What plans, moves and history tell comes through whole.
func TestPlansMovesAndHistoryComeThroughWhole(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		mux, id := w.nodes[0].mux, ring.NodeID{15: 1}
		api.Plan.HandleInline(mux, rpc.ClassControl, func(c *rpc.Call, req *api.ChangeRequest) {
			if req.Number != 3 {
				c.Fail(fmt.Errorf("%w: %+v", api.ErrBadRequest, req))
				return
			}
			c.Reply(&api.PlanResponse{Epoch: 1, Slots: 9, Least: 8, Bytes: 7, Seconds: 1.5, Members: []api.MemberPlan{
				{ID: id, Name: "n1", Zone: "z", State: "active", Weight: 3, Now: 64, Then: 73, In: 9, Share: 72.5}}})
		})
		api.Moves.HandleInline(mux, rpc.ClassControl, func(c *rpc.Call, _ *api.MovesRequest) {
			c.Reply(&api.MovesResponse{Epoch: 2, Queued: 1, Running: 2, Done: 3, Bytes: 4, Rate: 5, Seconds: 6.5, Moves: []api.MoveStatus{
				{Partition: 1023, Slot: 2, From: id, To: id, Phase: "dual", Keys: 1, Bytes: 2, Of: 3, Waits: "for rain"}}})
		})
		api.History.HandleInline(mux, rpc.ClassControl, func(c *rpc.Call, _ *api.HistoryRequest) {
			c.Reply(&api.HistoryResponse{Changes: []api.RingChange{{Epoch: 3, Time: 1 << 41, Said: []string{"a", "b"}}}})
		})
		c := w.dial()
		defer c.Close()
		plan, err := c.Plan(ctx, client.RingRequest{Verb: client.RingWeight, Member: "n1", Number: 3})
		if err != nil || plan.Slots != 9 || plan.Seconds != 1.5 || plan.Members[0] != (api.MemberPlan{ID: id, Name: "n1", Zone: "z", State: "active", Weight: 3, Now: 64, Then: 73, In: 9, Share: 72.5}) {
			t.Errorf("plan: %+v, %v", plan, err)
		}
		moves, err := c.Moves(ctx)
		if err != nil || moves.Rate != 5 || moves.Moves[0] != (api.MoveStatus{Partition: 1023, Slot: 2, From: id, To: id, Phase: "dual", Keys: 1, Bytes: 2, Of: 3, Waits: "for rain"}) {
			t.Errorf("moves: %+v, %v", moves, err)
		}
		history, err := c.History(ctx)
		if err != nil || len(history.Changes) != 1 || history.Changes[0].Time != 1<<41 || len(history.Changes[0].Said) != 2 {
			t.Errorf("history: %+v, %v", history, err)
		}
	})
}
