package node

import (
	"context"
	"sync"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// askedMax is how many members are asked at most for how far their moves are; beyond
// that only those that drive some.
const askedMax = 64

// moves says how far the moves are: what this node knows, and what those say who
// drive the others.
func (n *Node) moves(ctx context.Context, _ rpc.Peer, req *api.MovesRequest) (*api.MovesResponse, error) {
	r, err := n.founded()
	if err != nil {
		return nil, err
	}
	resp := n.mover.Status()
	if req.Local {
		return &resp, nil
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	view := n.members.View()
	var asked sync.WaitGroup
	told := make([]*api.MovesResponse, len(r.Members))
	drivers := driversOf(r)
	for i := range r.Members {
		id := r.Members[i].ID
		p := view.Peer(id)
		if id == n.id || p == nil || !n.kv.Reachable(id) || len(r.Members) > askedMax && !drivers[id] {
			continue
		}
		asked.Go(func() {
			if local, err := api.Moves.Call(ctx, n.guard, rpc.Peer{ID: id, Addr: p.RPCAddr}, &api.MovesRequest{Local: true}); err == nil {
				told[i] = local
			}
		})
	}
	asked.Wait()
	for i, local := range told {
		if local != nil {
			n.merge(r, r.Members[i].ID, &resp, local)
		}
	}
	return &resp, nil
}

func driversOf(r *ring.Record) map[ring.NodeID]bool {
	drivers := map[ring.NodeID]bool{}
	for i := range r.Moves {
		drivers[r.Driver(r.Moves[i].Partition)] = true
	}
	return drivers
}

// merge adds what a member tells of the moves that it drives.
func (n *Node) merge(r *ring.Record, by ring.NodeID, resp, local *api.MovesResponse) {
	resp.Bytes += local.Bytes
	resp.Rate += local.Rate
	at := map[ring.Partition]*api.MoveStatus{}
	for i := range local.Moves {
		at[local.Moves[i].Partition] = &local.Moves[i]
	}
	for i := range resp.Moves {
		m := &resp.Moves[i]
		own := at[m.Partition]
		if own == nil || r.Driver(m.Partition) != by || own.Phase != m.Phase || own.From != m.From || own.To != m.To {
			continue
		}
		m.Keys, m.Bytes, m.Of, m.Waits = own.Keys, own.Bytes, own.Of, own.Waits
	}
}

// plan says what a change would do.
func (n *Node) plan(ctx context.Context, _ rpc.Peer, req *api.ChangeRequest) (*api.PlanResponse, error) {
	r, err := n.founded()
	if err != nil {
		return nil, err
	}
	next, err := n.planned(r, req)
	if err != nil {
		return nil, err
	}
	f, err := next.Forecast()
	if err != nil {
		return nil, refused("%w", err)
	}
	resp := &api.PlanResponse{Epoch: r.Epoch, Slots: f.Slots, Least: f.Least}
	for i := range f.Members {
		m := &f.Members[i]
		resp.Members = append(resp.Members, api.MemberPlan{
			ID: m.Member.ID, Name: m.Member.Name, Zone: m.Member.Zone, State: m.Member.State.String(), Weight: m.Member.Weight,
			Now: m.Now, Then: m.Then, In: m.In, Out: m.Out, Share: m.Share,
		})
	}
	resp.Bytes = uint64(float64(f.Slots) * n.slotBytes(ctx, r))
	if now, err := n.moves(ctx, rpc.Peer{}, &api.MovesRequest{}); err == nil {
		resp.Seconds = lasts(f.Slots, resp.Bytes, now)
	}
	return resp, nil
}

// lasts is how many seconds moves take at the pace of those that are under way; 0 is
// unknown. Where there is little data, the steps of a move take the time and bytes say
// nothing of it; where there is much, the first moves have not ended yet and moves say
// nothing. So the shorter of the two is it.
func lasts(slots int, bytes uint64, now *api.MovesResponse) (seconds float64) {
	if now.Running == 0 {
		return 0 // what is left of the latest rates is no pace
	}
	if now.Rate > 0 {
		seconds = float64(bytes) / float64(now.Rate)
	}
	bySlots := float64(slots) * now.Seconds / float64(now.Queued+now.Running)
	if bySlots > 0 && (seconds == 0 || bySlots < seconds) {
		return bySlots
	}
	return seconds
}

// slotBytes is what one slot takes on a disk, on average over the members that tell.
func (n *Node) slotBytes(ctx context.Context, r *ring.Record) float64 {
	var bytes, slots float64
	for _, m := range n.everybody(ctx, r) {
		if m.Homes > 0 && m.Disk > 0 {
			bytes += float64(m.Disk)
			slots += float64(m.Homes)
		}
	}
	if slots == 0 {
		return 0
	}
	return bytes / slots
}
