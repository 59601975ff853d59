package api

import (
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/wire"
)

// Bounds of an inspection: every member may show a copy of its own and one for
// each home.
const (
	copiesMax = ring.MembersMax * (ring.ReplicasMax + 1)
	whyMax    = 1 << 12
	dotsMax   = 1 << 16
)

// AppendWire implements wire.Appender.
func (m *InspectRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 3)
	b = wire.AppendBytes(b, m.Key)
	b = wire.AppendBool(b, m.Local)
	return appendDots(b, m.Dots)
}

// ParseWire implements wire.Parser.
func (m *InspectRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Key = s.Bytes()
	m.Local = s.Bool()
	m.Dots = parseList[DotInfo](r, s.Array(), dotsMax)
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *InspectResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 7)
	b = wire.AppendBytes(b, m.Key)
	b = wire.AppendUint(b, uint64(m.Partition))
	b = wire.AppendUint(b, uint64(m.Slot))
	b = wire.AppendUint(b, m.Epoch)
	b = wire.AppendArray(b, len(m.Copies))
	for i := range m.Copies {
		b = m.Copies[i].AppendWire(b)
	}
	b = wire.AppendBool(b, m.Equal)
	b = wire.AppendArray(b, len(m.Why))
	for _, s := range m.Why {
		b = wire.AppendString(b, s)
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *InspectResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Key = s.Bytes()
	m.Partition = uint16(s.UintMax(1<<16 - 1))
	m.Slot = uint16(s.UintMax(1<<16 - 1))
	m.Epoch = s.Uint()
	m.Copies = parseList[CopyInfo](r, s.Array(), copiesMax)
	m.Equal = s.Bool()
	n := s.Array()
	if n > whyMax {
		return wire.ErrMalformed
	}
	for range n {
		m.Why = append(m.Why, r.String())
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *CopyInfo) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 10)
	b = wire.AppendString(b, m.Member)
	b = wire.AppendString(b, m.Name)
	b = wire.AppendString(b, m.StandsInFor)
	b = wire.AppendString(b, m.Error)
	b = wire.AppendBool(b, m.Found)
	b = wire.AppendString(b, m.Digest)
	b = appendDots(b, m.Seen)
	b = wire.AppendArray(b, len(m.Siblings))
	for i := range m.Siblings {
		b = m.Siblings[i].AppendWire(b)
	}
	b = appendDots(b, m.Incorporated)
	return wire.AppendBool(b, m.CountsForRead)
}

// ParseWire implements wire.Parser.
func (m *CopyInfo) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Member = s.String()
	m.Name = s.String()
	m.StandsInFor = s.String()
	m.Error = s.String()
	m.Found = s.Bool()
	m.Digest = s.String()
	m.Seen = parseList[DotInfo](r, s.Array(), dotsMax)
	m.Siblings = parseList[SiblingInfo](r, s.Array(), siblingsMax)
	m.Incorporated = parseList[DotInfo](r, s.Array(), dotsMax)
	m.CountsForRead = s.Bool()
	return s.End()
}

func appendDots(b []byte, dots []DotInfo) []byte {
	b = wire.AppendArray(b, len(dots))
	for i := range dots {
		b = dots[i].AppendWire(b)
	}
	return b
}

// AppendWire implements wire.Appender.
func (m *DotInfo) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 2)
	b = wire.AppendString(b, m.Actor)
	return wire.AppendUint(b, m.Seq)
}

// ParseWire implements wire.Parser.
func (m *DotInfo) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Actor = s.String()
	m.Seq = s.Uint()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *SiblingInfo) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 9)
	b = wire.AppendString(b, m.Actor)
	b = wire.AppendUint(b, m.Seq)
	b = wire.AppendBool(b, m.Tombstone)
	b = wire.AppendUint(b, m.Stamp)
	b = wire.AppendInt(b, m.Written)
	b = wire.AppendUint(b, m.Expiry)
	b = wire.AppendBool(b, m.Expired)
	b = wire.AppendUint(b, uint64(m.Size))
	return wire.AppendString(b, m.Digest)
}

// ParseWire implements wire.Parser.
func (m *SiblingInfo) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Actor = s.String()
	m.Seq = s.Uint()
	m.Tombstone = s.Bool()
	m.Stamp = s.Uint()
	m.Written = s.Int()
	m.Expiry = s.Uint()
	m.Expired = s.Bool()
	m.Size = uint32(s.UintMax(1<<32 - 1))
	m.Digest = s.String()
	return s.End()
}
