package kv

import (
	"fmt"
	"sync/atomic"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// Batches are many single operations with one request and one response: each
// item has an outcome of its own.

const (
	// batchBytesMax bounds one response. What comes when it is full is refused, to
	// be asked for again.
	batchBytesMax = 16 << 20
	// batchRoom is what a response may have beside as many of the largest values as
	// a message holds.
	batchRoom = 1 << 20
	// itemRoom and partRoom are more than an item, and each value or zone in it, have
	// beside the bytes that are counted.
	itemRoom = 512
	partRoom = 32
)

// putBatch answers once every item has its outcome.
type putBatch struct {
	call    *rpc.Call
	resp    api.PutAllResponse
	pending atomic.Int64
}

type putItem struct {
	batch *putBatch
	i     int
}

func (c *Coordinator) putAll(call *rpc.Call, req *api.PutAllRequest) {
	b := &putBatch{call: call, resp: api.PutAllResponse{Results: make([]api.PutResult, len(req.Puts))}}
	b.pending.Store(int64(len(req.Puts)) + 1)
	for i := range req.Puts {
		req.Puts[i].Forwarded = false
		c.Put(&req.Puts[i], call.Deadline(), &putItem{b, i})
	}
	b.done()
}

// PutDone implements PutSink.
func (p *putItem) PutDone(resp *api.PutResponse, err error) {
	result := &p.batch.resp.Results[p.i]
	if err != nil {
		result.Error = rpc.AppendError(nil, err)
	} else {
		result.Response = *resp
	}
	p.batch.done()
}

func (b *putBatch) done() {
	if b.pending.Add(-1) == 0 {
		b.call.Reply(&b.resp)
	}
}

// getBatch answers once every item has its outcome.
type getBatch struct {
	call    *rpc.Call
	resp    api.GetAllResponse
	pending atomic.Int64
	bytes   atomic.Int64 // of items
	most    int64        // of bytes
}

type getItem struct {
	batch *getBatch
	i     int
}

func (c *Coordinator) getAll(call *rpc.Call, req *api.GetAllRequest) {
	b := &getBatch{call: call, resp: api.GetAllResponse{Results: make([]api.GetResult, len(req.Keys))}}
	b.most = int64(min(batchBytesMax, (ring.ReplicasMax+1)*c.cfg.ValueMax+batchRoom))
	b.pending.Store(int64(len(req.Keys)) + 1)
	for i, key := range req.Keys {
		c.Get(&api.GetRequest{Key: key, R: req.R, Stamp: req.Stamp, Zone: req.Zone}, call.Deadline(), &getItem{b, i})
	}
	b.done()
}

// GetDone implements GetSink.
func (g *getItem) GetDone(resp *api.GetResponse, err error) {
	result := &g.batch.resp.Results[g.i]
	if err == nil && !g.batch.take(resp) {
		err = fmt.Errorf("%w: the response is full with %d bytes: ask for the other keys again", rpc.ErrOverloaded, g.batch.most)
	}
	if err != nil {
		result.Error = rpc.AppendError(nil, err)
	} else {
		result.Response = *resp
	}
	g.batch.done()
}

// take makes room for a response. One that is alone always fits.
func (b *getBatch) take(resp *api.GetResponse) bool {
	size := int64(itemBytes(resp))
	if now := b.bytes.Add(size); now > b.most && now != size {
		b.bytes.Add(-size)
		return false
	}
	return true
}

func (b *getBatch) done() {
	if b.pending.Add(-1) == 0 {
		b.call.Reply(&b.resp)
	}
}

// itemBytes is about what a response takes on the wire, and no less.
func itemBytes(resp *api.GetResponse) int {
	n := itemRoom + len(resp.Context) + valueBytes(resp) + partRoom*(len(resp.Values)+len(resp.Receipt.Zones))
	for i := range resp.Receipt.Zones {
		n += len(resp.Receipt.Zones[i].Zone)
	}
	return n
}
