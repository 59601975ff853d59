package antientropy

import (
	"context"
	"fmt"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store/version"
)

// doubtRoute tells a home that it has lost a value without noticing it. Nothing is
// called out while it is served.
const doubtRoute rpc.Route[doubtRequest, doubtResponse] = "ae.doubt"

// doubtRequest names a value that other homes hold.
type doubtRequest struct {
	Partition ring.Partition
	Key       []byte
	Dot       version.Dot
}

// doubtResponse says whether the home lacks it and claims it. If so, it has declared
// the loss.
type doubtResponse struct{ Lost bool }

// AppendWire implements wire.Appender.
func (m *doubtRequest) AppendWire(b []byte) []byte {
	b = wire.AppendUint(wire.AppendArray(b, 3), uint64(m.Partition))
	b = wire.AppendBytes(b, m.Key)
	return appendDots(b, []version.Dot{m.Dot})
}

// ParseWire implements wire.Parser.
func (m *doubtRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Partition = partitionOf(&s)
	if s.More() {
		m.Key = oneKey(r)
	}
	if s.More() {
		if d := dots(r, 1); len(d) == 1 {
			m.Dot = d[0]
		}
	}
	if r.Err() == nil && (len(m.Key) == 0 || m.Dot.Seq == 0) {
		return wire.ErrMalformed
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *doubtResponse) AppendWire(b []byte) []byte {
	return wire.AppendBool(wire.AppendArray(b, 1), m.Lost)
}

// ParseWire implements wire.Parser.
func (m *doubtResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Lost = s.Bool()
	return s.End()
}

func (r *Repair) serveDoubt(_ context.Context, from rpc.Peer, req *doubtRequest) (*doubtResponse, error) {
	if err := r.between(from, req.Partition); err != nil {
		return nil, err
	}
	if p := r.current().PartitionOf(req.Key); p != req.Partition {
		return nil, fmt.Errorf("%w: key %.64q is of partition %d, not %d", api.ErrBadRequest, req.Key, p, req.Partition)
	}
	lost, err := r.declareLost(req.Partition, req.Key, req.Dot, "as "+r.nameOf(from.ID)+" has found")
	return &doubtResponse{lost}, err
}

// declareLost declares the loss of a partition if this node claims a write and does
// not show it, nor what has replaced it. Nobody else's word is enough for that.
func (r *Repair) declareLost(p ring.Partition, key []byte, d version.Dot, how string) (bool, error) {
	shown := false
	g, err := r.look(p, [][]byte{key}, func(_ int, _ []byte, record *version.Record) bool {
		shown = record.Seen.Covers(d)
		return true
	})
	if err != nil || shown || !g.clock.Has(d) {
		return false, err
	}
	why := fmt.Sprintf("key %.64q: the write %016x/%d is gone, %s: other homes hold it, and this node's clock claims it",
		key, uint64(d.Actor), d.Seq, how)
	if err := r.cfg.Store.DeclareLossOf(p, why); err != nil {
		return false, fmt.Errorf("declare a loss in partition %d: %w", p, err)
	}
	return true, nil
}
