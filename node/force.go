package node

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kithdb/kith/node/topology"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// force has survivors go on without a majority of the keepers.
func (n *Node) force(ctx context.Context, _ rpc.Peer, req *api.ForceRequest) (*api.ChangeResponse, error) {
	r, err := n.founded()
	if err != nil {
		return nil, err
	}
	if req.Cluster != r.Cluster.String() {
		return nil, fmt.Errorf("%w: this is cluster %s, not %s", api.ErrBadRequest, r.Cluster, req.Cluster)
	}
	if len(req.Who) > ring.NameMax {
		return nil, fmt.Errorf("%w: who asks: %d bytes, at most %d", api.ErrBadRequest, len(req.Who), ring.NameMax)
	}
	wish := topology.Forcing{Who: req.Who, Time: uint64(max(n.env.Now().UnixMilli(), 0))}
	for _, name := range req.Survivors {
		id, err := n.named(r, name, false)
		if err != nil {
			return nil, fmt.Errorf("survivors: %w", err)
		}
		wish.Survivors = append(wish.Survivors, id)
	}
	ctx, cancel := answerable(ctx)
	defer cancel()
	forced, err := n.topology.Force(ctx, wish)
	switch {
	case errors.Is(err, topology.ErrForced):
		return nil, refused("%w", err)
	case err != nil:
		return nil, fmt.Errorf("%w: repeat the same command: %w", api.ErrUnknown, err)
	}
	if forced.Epoch == r.Epoch {
		return &api.ChangeResponse{Epoch: r.Epoch, Said: []string{}}, nil
	}
	n.cfg.Logger.Warn("the ring was forced", "epoch", forced.Epoch, "who", req.Who, "survivors", req.Survivors)
	return &api.ChangeResponse{Epoch: forced.Epoch, Changed: true, Said: forced.Changes(r)}, nil
}

// missing says what to do about keepers that do not vote; empty if that is not known to
// be why something failed.
func missing(err error) string {
	var e *topology.MissingError
	if !errors.As(err, &e) {
		return ""
	}
	return fmt.Sprintf("%d of the %d members that vote on the ring (keepers) are missing: %s; start them again. "+
		"Keys are read and written meanwhile as far as their homes are there. If these keepers are gone for good, and only then: kith ring force-epoch --survivors %s",
		len(e.Names), e.Keepers, strings.Join(e.Names, ", "), strings.Join(e.Survivors, ","))
}

// apart says of members who were not among the survivors that they are no keepers.
func apart(r *ring.Record, id ring.NodeID) string {
	if r == nil || !r.IsApart(id) {
		return ""
	}
	f := r.LastForced()
	return fmt.Sprintf("was not among the survivors when the ring was forced at epoch %d by %s: it is no keeper; if it is whole and stays: kith join %s; if it is gone: kith remove %s",
		f.Epoch, orSomebody(f.Who), id.Short(), id.Short())
}

func orSomebody(who string) string {
	if who == "" {
		return "somebody"
	}
	return who
}
