package kv

import (
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store/version"
)

// Routes between a coordinator and the homes of a key.
//
// The epoch of a request is the fence of its partition by the sender's ring record:
// since then nothing of the partition has changed by which it is asked or counts. A home
// that holds a record of that epoch, or one in which the fence is the same, so sees the
// partition as the sender does, and needs not wait for what the sender's record says of
// others; see docs/decisions/013.
const (
	mergeRoute rpc.Route[mergeRequest, mergeResponse] = "kv.merge"
	readRoute  rpc.Route[readRequest, readResponse]   = "kv.read"
	keysRoute  rpc.Route[keysRequest, keysResponse]   = "kv.keys"
	clockRoute rpc.Route[clockRequest, clockResponse] = "kv.clock"
)

// mergeRequest brings a record to a home.
type mergeRequest struct {
	// Epoch from which on the receiver is a home; 0 for a repair, which counts
	// for nothing.
	Epoch uint64
	// Stamp is the sender's clock.
	Stamp  uint64
	Record []byte
}

// mergeResponse says that the record, or one that has seen it, is on disk.
type mergeResponse struct {
	Stamp uint64
	// Batches that the home has on disk by now; 0 tells nothing.
	Batches uint64
}

// readRequest asks a home for its copy.
type readRequest struct {
	Epoch uint64
	Key   []byte
	// Full asks for the record, else for its digest alone.
	Full  bool
	Stamp uint64
	// Hold asks a home that is about to take a slot's reads over, and has not pulled
	// yet, to answer when it has, instead of refusing at once.
	Hold bool
}

// readResponse is a home's committed copy.
type readResponse struct {
	// Leaf is the copy's digest, zero if there is none.
	Leaf   version.Digest
	Record []byte
	Stamp  uint64
}

// keysRequest asks a home for a page of a partition's keys.
type keysRequest struct {
	Epoch     uint64
	Partition uint16
	After     []byte
	Prefix    []byte
	Limit     int
}

// keysResponse has the keys in order, deleted ones among them.
type keysResponse struct {
	Keys [][]byte
	// More says that there are keys behind the last one.
	More bool
}

// clockRequest asks for the time.
type clockRequest struct{}

// clockResponse is what a node says of itself every few seconds.
type clockResponse struct {
	// Now is its wall clock in milliseconds since 1970.
	Now int64
	// Batches that it has on disk; 0 tells nothing.
	Batches uint64
}

// AppendWire implements wire.Appender.
func (m *mergeRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 3)
	b = wire.AppendUint(b, m.Epoch)
	b = wire.AppendUint(b, m.Stamp)
	return wire.AppendBytes(b, m.Record)
}

// ParseWire implements wire.Parser.
func (m *mergeRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Epoch = s.Uint()
	m.Stamp = s.Uint()
	m.Record = s.Bytes()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *mergeResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 2)
	b = wire.AppendUint(b, m.Stamp)
	return wire.AppendUint(b, m.Batches)
}

// ParseWire implements wire.Parser.
func (m *mergeResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Stamp = s.Uint()
	m.Batches = s.Uint()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *readRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 5)
	b = wire.AppendUint(b, m.Epoch)
	b = wire.AppendBytes(b, m.Key)
	b = wire.AppendBool(b, m.Full)
	b = wire.AppendUint(b, m.Stamp)
	return wire.AppendBool(b, m.Hold)
}

// ParseWire implements wire.Parser.
func (m *readRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Epoch = s.Uint()
	m.Key = s.Bytes()
	m.Full = s.Bool()
	m.Stamp = s.Uint()
	m.Hold = s.Bool()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *readResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 3)
	b = wire.AppendBytes(b, m.Leaf[:])
	b = wire.AppendBytes(b, m.Record)
	return wire.AppendUint(b, m.Stamp)
}

// ParseWire implements wire.Parser.
func (m *readResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	s.Fixed(m.Leaf[:])
	m.Record = s.Bytes()
	m.Stamp = s.Uint()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *keysRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 5)
	b = wire.AppendUint(b, m.Epoch)
	b = wire.AppendUint(b, uint64(m.Partition))
	b = wire.AppendBytes(b, m.After)
	b = wire.AppendBytes(b, m.Prefix)
	return wire.AppendUint(b, uint64(m.Limit))
}

// ParseWire implements wire.Parser.
func (m *keysRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Epoch = s.Uint()
	m.Partition = uint16(s.UintMax(1<<16 - 1))
	m.After = s.Bytes()
	m.Prefix = s.Bytes()
	m.Limit = int(s.UintMax(scanLimitMax))
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *keysResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 2)
	b = wire.AppendArray(b, len(m.Keys))
	for _, k := range m.Keys {
		b = wire.AppendBytes(b, k)
	}
	return wire.AppendBool(b, m.More)
}

// ParseWire implements wire.Parser.
func (m *keysResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	n := s.Array()
	if n > scanLimitMax {
		return wire.ErrMalformed
	}
	if n > 0 {
		m.Keys = make([][]byte, n)
	}
	for i := range m.Keys {
		m.Keys[i] = r.Bytes()
	}
	m.More = s.Bool()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *clockRequest) AppendWire(b []byte) []byte { return wire.AppendArray(b, 0) }

// ParseWire implements wire.Parser.
func (m *clockRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *clockResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 2)
	b = wire.AppendInt(b, m.Now)
	return wire.AppendUint(b, m.Batches)
}

// ParseWire implements wire.Parser.
func (m *clockResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Now = s.Int()
	m.Batches = s.Uint()
	return s.End()
}
