package antientropy

import (
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
)

// claimsRoute asks a home what it has incorporated of some partitions. Unlike ae.clocks it
// answers every member.
const claimsRoute rpc.Route[claimsRequest, claimsResponse] = "ae.claims"

// claimsMax is the most partitions of one question.
const claimsMax = 256

// claimsRequest asks for clocks.
type claimsRequest struct {
	// Epoch of the ring record by which the member that is asked is a home of them.
	Epoch      uint64
	Partitions []ring.Partition // sorted
}

// claimsResponse has clocks in the order of their partitions.
type claimsResponse struct {
	// Looked is how many of the partitions it answers, the first ones; at least one.
	Looked int
	// Clocks lack those of which the answerer is no home.
	Clocks []partitionClock
}

// AppendWire implements wire.Appender.
func (m *claimsRequest) AppendWire(b []byte) []byte {
	b = wire.AppendUint(wire.AppendArray(b, 2), m.Epoch)
	b = wire.AppendArray(b, len(m.Partitions))
	for _, p := range m.Partitions {
		b = wire.AppendUint(b, uint64(p))
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *claimsRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Epoch = s.Uint()
	n := s.Array()
	if n > claimsMax {
		return wire.ErrMalformed
	}
	for i := range n {
		p := ring.Partition(r.UintMax(ring.SlotCount - 1))
		if i > 0 && p <= m.Partitions[i-1] {
			r.Fail()
		}
		if r.Err() != nil {
			return r.Err()
		}
		m.Partitions = append(m.Partitions, p)
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *claimsResponse) AppendWire(b []byte) []byte {
	b = wire.AppendUint(wire.AppendArray(b, 2), uint64(m.Looked))
	return appendClocks(b, m.Clocks)
}

// ParseWire implements wire.Parser.
func (m *claimsResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	looked := s.Uint()
	if looked > claimsMax {
		return wire.ErrMalformed
	}
	m.Looked = int(looked)
	var err error
	if m.Clocks, err = clocksOf(r, s.Array()); err != nil {
		return err
	}
	if len(m.Clocks) > m.Looked {
		return wire.ErrMalformed
	}
	return s.End()
}
