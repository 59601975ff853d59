package antientropy

import (
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
)

// standInsRoute brings home records that the sender has kept for a home.
const standInsRoute rpc.Route[standInsRequest, standInsResponse] = "ae.standins"

// standInsMax is the most records of one message.
const standInsMax = 256

// standInsRequest brings records of one partition.
type standInsRequest struct {
	Partition ring.Partition
	Records   [][]byte
}

// standInsResponse is sent when every record that was taken is on disk.
type standInsResponse struct {
	// Errors are by record what rpc.AppendError wrote, empty for none.
	Errors [][]byte
}

// AppendWire implements wire.Appender.
func (m *standInsRequest) AppendWire(b []byte) []byte {
	b = wire.AppendUint(wire.AppendArray(b, 2), uint64(m.Partition))
	return appendList(b, m.Records)
}

// ParseWire implements wire.Parser.
func (m *standInsRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Partition = partitionOf(&s)
	m.Records = listOf(r, s.Array())
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *standInsResponse) AppendWire(b []byte) []byte {
	return appendList(wire.AppendArray(b, 1), m.Errors)
}

// ParseWire implements wire.Parser.
func (m *standInsResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Errors = listOf(r, s.Array())
	return s.End()
}

func appendList(b []byte, list [][]byte) []byte {
	b = wire.AppendArray(b, len(list))
	for _, one := range list {
		b = wire.AppendBytes(b, one)
	}
	return b
}

// listOf reads n byte slices, at most standInsMax of them.
func listOf(r *wire.Reader, n int) [][]byte {
	if n > standInsMax {
		r.Fail()
		return nil
	}
	var out [][]byte
	for range n {
		out = append(out, r.Bytes())
	}
	return out
}
