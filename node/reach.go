package node

import (
	"context"
	"sync"

	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// reach tries every other member at the address that it tells of itself.
func (n *Node) reach(ctx context.Context, _ rpc.Peer, _ *api.ReachRequest) (*api.ReachResponse, error) {
	resp := &api.ReachResponse{ID: n.id, Name: n.name}
	r, view := n.topology.Current(), n.members.View()
	if r == nil {
		return resp, nil
	}
	for i := range r.Members {
		m := &r.Members[i]
		if m.ID == n.id {
			continue
		}
		to := api.ReachedPeer{ID: m.ID, Name: m.Name}
		if p := view.Peer(m.ID); p != nil {
			to.Addr, to.Gossip = p.RPCAddr, p.Alive
		}
		resp.Peers = append(resp.Peers, to)
	}
	var asked sync.WaitGroup
	for i := range resp.Peers {
		asked.Go(func() {
			if err := n.topology.Probe(ctx, resp.Peers[i].ID); err != nil {
				resp.Peers[i].Error = err.Error()
			}
		})
	}
	asked.Wait()
	return resp, nil
}
