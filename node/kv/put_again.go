package kv

import (
	"fmt"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// A put whose homes know a newer ring record goes on by that one.

// again sends the minted record to the homes of a newer ring record.
func (o *putOp) again(from ring.NodeID) {
	r, err := o.c.newer(from, o.ring.Epoch, o.own)
	if err != nil {
		o.answer(unknownFor(err))
		return
	}
	err = o.follow()
	o.mu.Lock()
	if o.attempt++; err == nil {
		err = o.route(r)
	}
	attempt, homes := o.attempt, o.homes
	o.mu.Unlock()
	if err != nil {
		o.answer(unknownFor(err))
		return
	}
	// Older legs may still be on their way: these get memory of their own.
	legs := make([]putLeg, len(homes))
	m := &mergeRequest{Epoch: r.Since[o.p], Stamp: o.merge.Stamp, Record: o.encoded}
	for i, id := range homes {
		legs[i] = putLeg{op: o, attempt: attempt, home: i}
		if id != o.c.cfg.Self {
			o.send(&legs[i], id, m)
			continue
		}
		record, err := version.Parse(o.encoded)
		if err != nil {
			panic("kv: our own record does not parse: " + err.Error())
		}
		o.hold()
		o.c.cfg.Store.Merge(&store.Merge{Partition: o.p, Epoch: m.Epoch, Record: record, Encoded: o.encoded, Sink: &legs[i]})
	}
}

// startNewer begins anew once this node has the ring record whose fence refused
// the put.
func (o *putOp) startNewer() {
	_, err := o.c.newer(o.c.cfg.Self, o.ring.Epoch, o.own)
	if err == nil {
		err = o.follow()
	}
	if err != nil {
		o.answer(fmt.Errorf("%w: nothing was written: %w", api.ErrUnavailable, err))
		return
	}
	o.start()
}

// follow counts that the put follows a newer ring record, once more.
func (o *putOp) follow() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.reroutes++; o.reroutes > reroutesMax {
		return errReroutes
	}
	return nil
}
