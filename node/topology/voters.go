package topology

import (
	"context"

	"github.com/kithdb/kith/ring"
)

// Votes is nil if a member says now that it may vote on the ring: that it can be reached
// is not enough where every vote counts. It is asked for a second at most, and promises
// nothing. The node holds a record.
func (t *Topology) Votes(ctx context.Context, id ring.NodeID) error {
	req := &surviveRequest{Cluster: t.Current().Cluster, Step: stepLook}
	if id == t.cfg.Self.ID {
		_, err := t.survive(ctx, req)
		return err
	}
	to, err := t.peer(id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeMax)
	defer cancel()
	_, err = surviveRoute.Call(ctx, t.cfg.Transport, to, req)
	return err
}

// Abstains says why this node never votes on the ring again; empty if nothing is known
// against that. Any goroutine may call it.
func (t *Topology) Abstains() string {
	if why := t.abstains.Load(); why != nil {
		return *why
	}
	return ""
}
