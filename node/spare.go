package node

import (
	"context"
	"slices"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// spareData refuses to give up somebody who has what nobody else has who is there, unless
// it was said that this may be lost.
func (n *Node) spareData(ctx context.Context, r *ring.Record, id ring.NodeID, req *api.ChangeRequest) error {
	if r.Member(id).State == ring.Lost || r.HomeCount(id) == 0 {
		return nil
	}
	only := n.onlyCopies(ctx, r, id)
	switch {
	case only == 0:
	case req.DataLost:
		n.cfg.Logger.Warn("a member is given up with the only copy of something, as was asked for", "member", label(r, id), "partitions", only)
	default:
		return refused("%s has the only copy of %d of %d partitions: no other home of theirs can be reached that has lost nothing. Given up, their keys would be lost for good: start it again with its disk, or the others; to accept the loss: kith %v ... --data-lost",
			label(r, id), only, r.Partitions, req.Verb)
	}
	return nil
}

// onlyCopies counts the partitions of which nobody but a member has a whole copy, as far
// as members tell.
func (n *Node) onlyCopies(ctx context.Context, r *ring.Record, id ring.NodeID) int {
	whole := map[ring.NodeID]bool{}
	for _, m := range n.everybody(ctx, r) {
		is, err := ring.ParseNodeID(m.ID)
		whole[is] = err == nil && is != id && m.Reachable && m.Repair.Lossy == 0 && m.Membership != ring.Lost.String()
	}
	return without(r, id, func(other ring.NodeID) bool { return whole[other] })
}

// without counts the partitions of a member none of whose other homes is as wanted.
func without(r *ring.Record, id ring.NodeID, wanted func(ring.NodeID) bool) (count int) {
	for p := range ring.Partition(r.Partitions) {
		if homes := r.Homes(p); slices.Contains(homes, id) && !slices.ContainsFunc(homes, func(other ring.NodeID) bool { return other != id && wanted(other) }) {
			count++
		}
	}
	return count
}
