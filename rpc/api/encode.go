package api

import (
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/wire"
)

// AppendWire implements wire.Appender.
func (m *GetRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 4)
	b = wire.AppendBytes(b, m.Key)
	b = wire.AppendUint(b, uint64(m.R))
	b = wire.AppendUint(b, m.Stamp)
	return wire.AppendString(b, m.Zone)
}

// ParseWire implements wire.Parser.
func (m *GetRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Key = s.Bytes()
	m.R = Level(s.UintMax(255))
	m.Stamp = s.Uint()
	m.Zone = s.String()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *Value) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 4)
	b = wire.AppendBytes(b, m.Data)
	b = wire.AppendBool(b, m.Tombstone)
	b = wire.AppendUint(b, m.Stamp)
	return wire.AppendUint(b, m.Expiry)
}

// ParseWire implements wire.Parser.
func (m *Value) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Data = s.Bytes()
	m.Tombstone = s.Bool()
	m.Stamp = s.Uint()
	m.Expiry = s.Uint()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *GetResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 6)
	b = wire.AppendBool(b, m.Found)
	b = wire.AppendUint(b, uint64(m.Winner))
	b = wire.AppendArray(b, len(m.Values))
	for i := range m.Values {
		b = m.Values[i].AppendWire(b)
	}
	b = wire.AppendBytes(b, m.Context)
	b = m.Receipt.AppendWire(b)
	return wire.AppendUint(b, m.Stamp)
}

// ParseWire implements wire.Parser.
func (m *GetResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Found = s.Bool()
	m.Winner = int(s.UintMax(1 << 20))
	m.Values = parseList[Value](r, s.Array(), siblingsMax)
	m.Context = s.Bytes()
	if s.More() {
		m.Receipt.ParseWire(r)
	}
	m.Stamp = s.Uint()
	if err := s.End(); err != nil {
		return err
	}
	if m.Found && m.Winner >= len(m.Values) {
		return wire.ErrMalformed
	}
	return nil
}

// AppendWire implements wire.Appender.
func (m *PutRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 12)
	b = wire.AppendBytes(b, m.Key)
	b = wire.AppendBytes(b, m.Value)
	b = wire.AppendBool(b, m.Delete)
	b = wire.AppendUint(b, uint64(m.W))
	b = wire.AppendBytes(b, m.Context)
	b = wire.AppendUint(b, m.NotAfter)
	b = wire.AppendBool(b, m.Forwarded)
	b = wire.AppendUint(b, m.Stamp)
	b = wire.AppendUint(b, m.TTL)
	b = wire.AppendBool(b, m.Sloppy)
	b = wire.AppendUint(b, m.Expiry)
	return wire.AppendString(b, m.Zone)
}

// ParseWire implements wire.Parser.
func (m *PutRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Key = s.Bytes()
	m.Value = s.Bytes()
	m.Delete = s.Bool()
	m.W = Level(s.UintMax(255))
	m.Context = s.Bytes()
	m.NotAfter = s.Uint()
	m.Forwarded = s.Bool()
	m.Stamp = s.Uint()
	m.TTL = s.Uint()
	m.Sloppy = s.Bool()
	m.Expiry = s.Uint()
	m.Zone = s.String()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *PutResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 3)
	b = wire.AppendBytes(b, m.Context)
	b = m.Receipt.AppendWire(b)
	return wire.AppendUint(b, m.Stamp)
}

// ParseWire implements wire.Parser.
func (m *PutResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Context = s.Bytes()
	if s.More() {
		m.Receipt.ParseWire(r)
	}
	m.Stamp = s.Uint()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *Receipt) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 8)
	b = wire.AppendUint(b, m.Epoch)
	b = wire.AppendBytes(b, m.Coordinator[:])
	b = wire.AppendArray(b, len(m.Answered))
	for i := range m.Answered {
		b = wire.AppendBytes(b, m.Answered[i][:])
	}
	b = wire.AppendUint(b, uint64(m.Need))
	b = wire.AppendUint(b, uint64(m.Siblings))
	b = wire.AppendBool(b, m.Sloppy)
	b = wire.AppendBool(b, m.Repaired)
	b = wire.AppendArray(b, len(m.Zones))
	for i := range m.Zones {
		b = m.Zones[i].AppendWire(b)
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *Receipt) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Epoch = s.Uint()
	s.Fixed(m.Coordinator[:])
	if n := s.Array(); n > 0 {
		if n > 2*ring.ReplicasMax {
			return wire.ErrMalformed
		}
		m.Answered = make([]ring.NodeID, n)
		for i := range m.Answered {
			r.Fixed(m.Answered[i][:])
		}
	}
	m.Need = uint8(s.UintMax(255))
	m.Siblings = int(s.UintMax(1 << 20))
	m.Sloppy = s.Bool()
	m.Repaired = s.Bool()
	m.Zones = parseList[ZoneReceipt](r, s.Array(), ring.ReplicasMax+1)
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *ZoneReceipt) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 4)
	b = wire.AppendString(b, m.Zone)
	b = wire.AppendUint(b, uint64(m.Need))
	b = wire.AppendUint(b, uint64(m.Got))
	return wire.AppendUint(b, uint64(m.Homes))
}

// ParseWire implements wire.Parser.
func (m *ZoneReceipt) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Zone = s.String()
	m.Need = uint8(s.UintMax(255))
	m.Got = uint8(s.UintMax(255))
	m.Homes = uint8(s.UintMax(255))
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *GetAllRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 4)
	b = wire.AppendArray(b, len(m.Keys))
	for _, k := range m.Keys {
		b = wire.AppendBytes(b, k)
	}
	b = wire.AppendUint(b, uint64(m.R))
	b = wire.AppendUint(b, m.Stamp)
	return wire.AppendString(b, m.Zone)
}

// ParseWire implements wire.Parser.
func (m *GetAllRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	n := s.Array()
	if n > BatchMax {
		return wire.ErrMalformed
	}
	if n > 0 {
		m.Keys = make([][]byte, n)
	}
	for i := range m.Keys {
		m.Keys[i] = r.Bytes()
	}
	m.R = Level(s.UintMax(255))
	m.Stamp = s.Uint()
	m.Zone = s.String()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *GetResult) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 2)
	b = wire.AppendBytes(b, m.Error)
	if len(m.Error) > 0 {
		return wire.AppendArray(b, 0)
	}
	return m.Response.AppendWire(b)
}

// ParseWire implements wire.Parser.
func (m *GetResult) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Error = s.Bytes()
	if s.More() {
		m.Response.ParseWire(r)
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *GetAllResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 1)
	b = wire.AppendArray(b, len(m.Results))
	for i := range m.Results {
		b = m.Results[i].AppendWire(b)
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *GetAllResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Results = parseList[GetResult](r, s.Array(), BatchMax)
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *PutAllRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 1)
	b = wire.AppendArray(b, len(m.Puts))
	for i := range m.Puts {
		b = m.Puts[i].AppendWire(b)
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *PutAllRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	n := s.Array()
	if n > BatchMax {
		return wire.ErrMalformed
	}
	m.Puts = parseList[PutRequest](r, n, BatchMax)
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *PutResult) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 2)
	b = wire.AppendBytes(b, m.Error)
	if len(m.Error) > 0 {
		return wire.AppendArray(b, 0)
	}
	return m.Response.AppendWire(b)
}

// ParseWire implements wire.Parser.
func (m *PutResult) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Error = s.Bytes()
	if s.More() {
		m.Response.ParseWire(r)
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *PutAllResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 1)
	b = wire.AppendArray(b, len(m.Results))
	for i := range m.Results {
		b = m.Results[i].AppendWire(b)
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *PutAllResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Results = parseList[PutResult](r, s.Array(), BatchMax)
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *ScanRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 7)
	b = wire.AppendUint(b, uint64(m.Partition))
	b = wire.AppendBytes(b, m.After)
	b = wire.AppendBytes(b, m.Prefix)
	b = wire.AppendUint(b, uint64(m.Limit))
	b = wire.AppendUint(b, uint64(m.R))
	b = wire.AppendBool(b, m.KeysOnly)
	return wire.AppendString(b, m.Zone)
}

// ParseWire implements wire.Parser.
func (m *ScanRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Partition = uint16(s.UintMax(1<<16 - 1))
	m.After = s.Bytes()
	m.Prefix = s.Bytes()
	m.Limit = int(s.UintMax(1 << 16))
	m.R = Level(s.UintMax(255))
	m.KeysOnly = s.Bool()
	m.Zone = s.String()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *ScanItem) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 4)
	b = wire.AppendBytes(b, m.Key)
	b = wire.AppendBytes(b, m.Value)
	b = wire.AppendUint(b, uint64(m.Siblings))
	return wire.AppendUint(b, m.Expiry)
}

// ParseWire implements wire.Parser.
func (m *ScanItem) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Key = s.Bytes()
	m.Value = s.Bytes()
	m.Siblings = int(s.UintMax(1 << 20))
	m.Expiry = s.Uint()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *ScanResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 2)
	b = wire.AppendArray(b, len(m.Items))
	for i := range m.Items {
		b = m.Items[i].AppendWire(b)
	}
	return wire.AppendBytes(b, m.Next)
}

// ParseWire implements wire.Parser.
func (m *ScanResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Items = parseList[ScanItem](r, s.Array(), scanMax)
	m.Next = s.Bytes()
	return s.End()
}

// Bounds of lists, so that a list of empty messages, a byte each, doesn't become
// a hundred times its size in memory.
const (
	siblingsMax = 1 << 16
	scanMax     = 1 << 16
)

// parseList reads n messages, at most most. Growing by append keeps a false
// claim from allocating more than a small multiple of what was received.
func parseList[T any, P interface {
	*T
	wire.Parser
}](r *wire.Reader, n, most int) []T {
	if n > most {
		r.Fail()
		return nil
	}
	if n == 0 {
		return nil
	}
	out := make([]T, 0, min(n, 64))
	for range n {
		var item T
		if P(&item).ParseWire(r) != nil {
			return nil
		}
		out = append(out, item)
	}
	return out
}
