package kv_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

// rings is a node's ring record. It is held durably, its fences in the node's
// store, before Current shows it, and it is pulled from peers over the network.
type rings struct {
	h       *home
	turn    chan struct{} // of capacity 1: held by who adopts
	held    atomic.Pointer[ring.Record]
	changed atomic.Pointer[chan struct{}]
}

func (r *rings) init(h *home, first *ring.Record) {
	r.h, r.turn = h, make(chan struct{}, 1)
	c := make(chan struct{})
	r.changed.Store(&c)
	r.held.Store(first)
}

// store makes the fences of the current record durable.
func (r *rings) store() error { return r.fence(r.held.Load(), nil) }

func (r *rings) fence(next *ring.Record, drops []ring.Partition) error {
	return r.h.store.Adopt(next.Encode(), func(p ring.Partition) uint64 { return next.Since[p] }, next.Partitions, drops)
}

// adopt takes a record if it is newer.
func (r *rings) adopt(next *ring.Record) error {
	r.turn <- struct{}{}
	defer func() { <-r.turn }()
	prev := r.held.Load()
	if prev.Epoch >= next.Epoch {
		return nil
	}
	var drops []ring.Partition
	for p := range ring.Partition(next.Partitions) {
		if next.Drops(prev, p, r.h.id) {
			drops = append(drops, p)
		}
	}
	if err := r.fence(next, drops); err != nil {
		return err
	}
	r.held.Store(next)
	c := make(chan struct{})
	close(*r.changed.Swap(&c))
	return nil
}

// Current implements kv.Rings.
func (r *rings) Current() *ring.Record { return r.held.Load() }

// Changed implements kv.Rings.
func (r *rings) Changed() <-chan struct{} { return *r.changed.Load() }

// Founding implements kv.Rings.
func (r *rings) Founding() (have, want int) { return 0, 0 }

type pullRequest struct{}

type pullResponse struct{ Record []byte }

const pullRoute rpc.Route[pullRequest, pullResponse] = "test.pull"

func (r *rings) serve(context.Context, rpc.Peer, *pullRequest) (*pullResponse, error) {
	return &pullResponse{r.held.Load().Encode()}, nil
}

// Learn implements kv.Rings.
func (r *rings) Learn(ctx context.Context, from rpc.Peer, epoch uint64) error {
	resp, err := pullRoute.Call(ctx, r.h.guard, from, &pullRequest{})
	if err != nil {
		return err
	}
	next, err := ring.Decode(resp.Record)
	if err != nil {
		return err
	}
	if next.Epoch < epoch {
		return fmt.Errorf("%s holds no newer record than epoch %d", from.ID.Short(), next.Epoch)
	}
	return r.adopt(next)
}

// ring makes the record of an epoch in which the given nodes are the members,
// every partition being fenced at it.
func (w *world) ring(epoch uint64, nodes ...int) *ring.Record {
	w.t.Helper()
	var members []ring.Member
	for _, i := range nodes {
		members = append(members, w.members[i])
	}
	first, err := ring.Found(w.record.Cluster, w.record.Name, members[0], w.record.Partitions, w.record.Replicas)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := first.WithTable(members)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Epoch = epoch
	for p := range r.Since {
		r.Since[p] = epoch
	}
	if r, err = ring.Decode(r.Encode()); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// adopt has the given nodes hold a record.
func (w *world) adopt(r *ring.Record, nodes ...int) {
	w.t.Helper()
	for _, i := range nodes {
		if err := w.nodes[i].rings.adopt(r); err != nil {
			w.t.Fatal(err)
		}
	}
}

// keyWhere finds a key whose partition is as asked.
func (w *world) keyWhere(ok func(key string) bool) string {
	w.t.Helper()
	for i := range 100000 {
		if key := fmt.Sprintf("key-%d", i); ok(key) {
			return key
		}
	}
	w.t.Fatal("no such key")
	return ""
}

// homesIn are the nodes that keep a key by a record, by slot.
func (w *world) homesIn(r *ring.Record, key string) []int {
	var nodes []int
	for _, id := range r.Homes(r.PartitionOf([]byte(key))) {
		nodes = append(nodes, slices.IndexFunc(w.nodes, func(h *home) bool { return h.id == id }))
	}
	return nodes
}

// everyone is all nodes.
func (w *world) everyone() (nodes []int) {
	for i := range w.nodes {
		nodes = append(nodes, i)
	}
	return nodes
}
