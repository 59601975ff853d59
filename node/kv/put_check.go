package kv

import (
	"fmt"
	"time"

	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store/version"
)

// check refuses bad input.
func (o *putOp) check() error {
	c := o.c
	if err := c.checkKey(o.req.Key); err != nil {
		return err
	}
	if len(o.req.Value) > c.cfg.ValueMax {
		return fmt.Errorf("%w: the value has %d bytes: this node takes up to %d", api.ErrTooLarge, len(o.req.Value), c.cfg.ValueMax)
	}
	if o.req.Delete && len(o.req.Value) > 0 {
		return fmt.Errorf("%w: a delete has no value", api.ErrBadRequest)
	}
	if err := c.checkLife(&o.req); err != nil {
		return err
	}
	r, err := c.record()
	if err != nil {
		return err
	}
	if err := checkLevel("W", o.req.W, o.req.Zone, r.Replicas); err != nil {
		return err
	}
	if o.req.Sloppy && (o.req.W == api.LocalQuorum || o.req.W == api.EachQuorum) {
		return fmt.Errorf("%w: W: a quorum in a zone is of the homes there: a sloppy write counts others", api.ErrBadRequest)
	}
	if len(o.req.Context) > 0 {
		if o.ctx, err = version.ParseToken(o.req.Context, r.Cluster, o.req.Key); err != nil {
			return fmt.Errorf("%w: context: %w", api.ErrBadRequest, err)
		}
	}
	if o.req.NotAfter == 0 {
		o.chosen = true
		o.notAfter = c.cfg.Now().Add(time.Until(o.own))
		o.req.NotAfter = uint64(o.notAfter.UnixMilli())
	} else {
		o.notAfter = time.UnixMilli(int64(min(o.req.NotAfter, 1<<52)))
	}
	return nil
}
