package kv

import (
	"bytes"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// A home believed dead gets its record from a stand-in later: the next member of
// the partition's order that can be reached keeps it under the home's name. Its
// acknowledgement counts for W only if the call allows that. A stand-in's record
// is no copy: no read sees it.

// standInRoute brings a record to a member that keeps it for a home.
const standInRoute rpc.Route[standInRequest, mergeResponse] = "kv.standin"

// standInRequest is a mergeRequest for a home that cannot be reached.
type standInRequest struct {
	// Home is whom the record is for, from Epoch on.
	Home   ring.NodeID
	Epoch  uint64
	Stamp  uint64
	Record []byte
}

// AppendWire implements wire.Appender.
func (m *standInRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 4)
	b = wire.AppendBytes(b, m.Home[:])
	b = wire.AppendUint(b, m.Epoch)
	b = wire.AppendUint(b, m.Stamp)
	return wire.AppendBytes(b, m.Record)
}

// ParseWire implements wire.Parser.
func (m *standInRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	s.Fixed(m.Home[:])
	m.Epoch = s.Uint()
	m.Stamp = s.Uint()
	m.Record = s.Bytes()
	return s.End()
}

// standInsMax is how many members are tried in the place of homes, orderMax how
// many are looked at for that.
const (
	standInsMax = 2 * ring.ReplicasMax
	orderMax    = 4 * standInsMax
)

// standIns are, of the members that are no homes of a partition, the first ones
// in its order that are usable, at most standInsMax.
func (c *Coordinator) standIns(r *ring.Record, p ring.Partition, usable func(ring.NodeID) bool) []ring.NodeID {
	var out []ring.NodeID
	for _, id := range c.orders.of(r, p) {
		if len(out) == standInsMax {
			break
		}
		if usable(id) {
			out = append(out, id)
		}
	}
	return out
}

// orders keeps what the ring record says of who could stand in: while a home is
// away, every put of its partitions asks.
type orders struct{ latest atomic.Pointer[ordersOf] }

// ordersOf are those of one ring record, by partition, as far as they were asked
// for.
type ordersOf struct {
	ring  *ring.Record
	lists []atomic.Pointer[[]ring.NodeID]
}

// of gives the first members of the partition's order behind its homes. Nobody
// changes the list.
func (o *orders) of(r *ring.Record, p ring.Partition) []ring.NodeID {
	known := o.latest.Load()
	if known == nil || known.ring != r {
		known = &ordersOf{r, make([]atomic.Pointer[[]ring.NodeID], r.Partitions)}
		o.latest.Store(known)
	}
	if l := known.lists[p].Load(); l != nil {
		return *l
	}
	others := r.Order(p)[len(r.Homes(p)):]
	list := slices.Clone(others[:min(len(others), orderMax)])
	known.lists[p].Store(&list)
	return list
}

// handleStandIn keeps a record for a home. A node that is a home itself, by a ring
// record of the same fence, merges it instead.
func (c *Coordinator) handleStandIn(call *rpc.Call, req *standInRequest) {
	record, err := version.Parse(req.Record)
	if err != nil {
		call.Fail(fmt.Errorf("%w: %w", api.ErrBadRequest, err))
		return
	}
	c.observe(call.From(), req.Stamp)
	if c.behind(req.Epoch) {
		c.learn(call, req.Epoch, func() { c.handleStandIn(call, req) })
		return
	}
	r, err := c.record()
	if err == nil {
		err = c.checkKey(record.Key)
	}
	if err != nil {
		call.Fail(err)
		return
	}
	p := r.PartitionOf(record.Key)
	if err := fenced(r, p, req.Epoch); err != nil {
		call.Fail(err)
		return
	}
	switch {
	case r.Holds(p, c.cfg.Self):
		done := mergeSink(func(err error) { c.acknowledge(call, err) })
		c.cfg.Store.Merge(&store.Merge{Partition: p, Epoch: req.Epoch, Record: record, Encoded: req.Record, Sink: done})
	case r.HomeIndex(p, req.Home) < 0:
		call.Fail(fmt.Errorf("%w: %s is no home of partition %d at epoch %d", api.ErrBadRequest, req.Home.Short(), p, r.Epoch))
	default:
		c.keep(call, &store.StandIn{Home: req.Home, Partition: p, Record: record, Encoded: req.Record})
	}
}

// keep has a record kept for a home, unless this member goes for good: who leaves looks
// once whether it has something for others, and what came behind that would go with it.
// Senders whose ring record is older know nothing of the leave, and their fence holds.
func (c *Coordinator) keep(call *rpc.Call, in *store.StandIn) {
	c.keeping.Add(1) // before the record is looked at: see Keeping
	if r := c.cfg.Rings.Current(); !stays(r, c.cfg.Self) {
		c.keeping.Add(-1)
		call.Fail(fmt.Errorf("%w: this member leaves, and keeps nothing for others any more", api.ErrNotReady))
		return
	}
	in.Sink = mergeSink(func(err error) {
		c.keeping.Add(-1) // what was kept is on disk, and counted there
		c.acknowledge(call, err)
	})
	c.cfg.Store.StandIn(in)
}

// stays says that a node is a member that does not go for good.
func stays(r *ring.Record, id ring.NodeID) bool {
	m := r.Member(id)
	return m != nil && m.State != ring.Leaving && m.State != ring.Lost
}

// Keeping is how many records are on their way to this node's disk to be kept for others.
// Once it is 0 on a member that is leaving by its own record, no more come.
func (c *Coordinator) Keeping() int { return int(c.keeping.Load()) }

// acknowledge answers a record's call once it is known what became of it here.
func (c *Coordinator) acknowledge(call *rpc.Call, err error) {
	if err != nil {
		call.Fail(err)
		return
	}
	resp := mergeResponse{Stamp: uint64(c.stamps().Now())}
	if w := c.cfg.Witness; w != nil {
		resp.Batches = w.Tell(call.From().ID)
	}
	call.Reply(&resp)
}

// kept is a record that this node keeps for a home.
type kept struct {
	home    ring.NodeID
	encoded []byte
}

// standInsOf are the records of one key that this node keeps for homes.
func (c *Coordinator) standInsOf(p ring.Partition, key []byte) ([]kept, error) {
	homes, err := c.cfg.Store.StandInHomes()
	if err != nil {
		return nil, err
	}
	var out []kept
	for _, home := range homes {
		found, err := c.cfg.Store.StandIns(home, p, keyBefore(key), 1)
		if err != nil {
			return nil, err
		}
		if len(found) == 1 && found[0].Partition == p && bytes.Equal(found[0].Record.Key, key) {
			out = append(out, kept{home, found[0].Encoded})
		}
	}
	return out, nil
}

// keyBefore is the last key in order that comes before a key; nil for the first
// one.
func keyBefore(key []byte) []byte {
	last := key[len(key)-1]
	if last == 0 {
		return append([]byte(nil), key[:len(key)-1]...)
	}
	b := make([]byte, version.KeySizeMax)
	n := copy(b, key)
	b[n-1] = last - 1
	for i := n; i < len(b); i++ {
		b[i] = 0xff
	}
	return b
}
