package antientropy

import (
	"encoding/binary"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// Routes by which an audit looks again at keys that differ, and mends them both
// ways. Nothing is called out while one of them is served.
const (
	digestsRoute rpc.Route[digestsRequest, digestsResponse] = "ae.digests"
	fetchRoute   rpc.Route[fetchRequest, fetchResponse]     = "ae.fetch"
	offerRoute   rpc.Route[offerRequest, offerResponse]     = "ae.offer"
)

// Bounds of the messages.
const (
	keysMax    = 256 // keys of one question or offer
	basesMax   = store.ClockActorsMax
	dotsMax    = version.SiblingsMax
	outcomeMax = 2048 // bytes of one error
)

// digestsRequest asks for the leaves of some keys.
type digestsRequest struct {
	Partition ring.Partition
	Keys      [][]byte
}

// digestsResponse has them in the order of the keys; zero for no record.
type digestsResponse struct{ Leaves []version.Digest }

// fetchRequest asks for records.
type fetchRequest struct {
	Partition ring.Partition
	Items     []wantedKey
}

// wantedKey is a key, and the dots of the siblings that the asker holds.
type wantedKey struct {
	Key  []byte
	Dots []version.Dot
}

// fetchResponse has the records of the first keys asked for, as many as fit.
type fetchResponse struct {
	// Verdict says that the answering home knows what Base covers: it was read
	// before the records.
	Verdict bool
	Base    version.Context
	Items   []fetchedKey
}

// fetchedKey is what a home holds of a key.
type fetchedKey struct {
	Record []byte // empty for none
	// Claims says, for each dot asked for and then for each sibling of Record,
	// whether the home's clock claims it.
	Claims []bool
}

// offerRequest brings records, or the news that there is none of a key.
type offerRequest struct {
	Partition ring.Partition
	Verdict   bool
	Base      version.Context
	Items     []offeredKey
}

// offeredKey is a key with the sender's record, empty for none.
type offeredKey struct {
	Key, Record []byte
	// Judged are the siblings that the asked home showed and the sender lacked when it
	// weighed its verdict: it ends no other.
	Judged []version.Dot
}

// offerResponse is sent when every item that was taken is on disk.
type offerResponse struct {
	// Errors are by item what rpc.AppendError wrote, empty for none.
	Errors [][]byte
}

// AppendWire implements wire.Appender.
func (m *digestsRequest) AppendWire(b []byte) []byte {
	b = wire.AppendUint(wire.AppendArray(b, 2), uint64(m.Partition))
	b = wire.AppendArray(b, len(m.Keys))
	for _, k := range m.Keys {
		b = wire.AppendBytes(b, k)
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *digestsRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Partition = partitionOf(&s)
	n := s.Array()
	if n > keysMax {
		return wire.ErrMalformed
	}
	for range n {
		m.Keys = append(m.Keys, oneKey(r))
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *digestsResponse) AppendWire(b []byte) []byte {
	packed := make([]byte, 0, 16*len(m.Leaves))
	for i := range m.Leaves {
		packed = append(packed, m.Leaves[i][:]...)
	}
	return wire.AppendBytes(wire.AppendArray(b, 1), packed)
}

// ParseWire implements wire.Parser.
func (m *digestsResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	packed := s.Bytes()
	if len(packed)%16 != 0 || len(packed) > 16*keysMax {
		return wire.ErrMalformed
	}
	for ; len(packed) > 0; packed = packed[16:] {
		m.Leaves = append(m.Leaves, version.Digest(packed[:16]))
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *fetchRequest) AppendWire(b []byte) []byte {
	b = wire.AppendUint(wire.AppendArray(b, 2), uint64(m.Partition))
	b = wire.AppendArray(b, 2*len(m.Items))
	for i := range m.Items {
		b = wire.AppendBytes(b, m.Items[i].Key)
		b = appendDots(b, m.Items[i].Dots)
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *fetchRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Partition = partitionOf(&s)
	n := s.Array()
	if n > 2*keysMax || n%2 != 0 {
		return wire.ErrMalformed
	}
	for range n / 2 {
		m.Items = append(m.Items, wantedKey{oneKey(r), dots(r, dotsMax)})
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *fetchResponse) AppendWire(b []byte) []byte {
	b = wire.AppendBool(wire.AppendArray(b, 3), m.Verdict)
	b = appendDots(b, m.Base)
	b = wire.AppendArray(b, 2*len(m.Items))
	for i := range m.Items {
		b = wire.AppendBytes(b, m.Items[i].Record)
		b = wire.AppendBytes(b, packBools(m.Items[i].Claims))
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *fetchResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Verdict = s.Bool()
	if s.More() {
		m.Base = contextOf(r)
	}
	n := s.Array()
	if n > 2*keysMax || n%2 != 0 {
		return wire.ErrMalformed
	}
	for range n / 2 {
		item := fetchedKey{Record: r.Bytes()}
		item.Claims = unpackBools(r, 2*dotsMax)
		m.Items = append(m.Items, item)
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *offerRequest) AppendWire(b []byte) []byte {
	b = wire.AppendUint(wire.AppendArray(b, 4), uint64(m.Partition))
	b = wire.AppendBool(b, m.Verdict)
	b = appendDots(b, m.Base)
	b = wire.AppendArray(b, 3*len(m.Items))
	for i := range m.Items {
		b = wire.AppendBytes(b, m.Items[i].Key)
		b = wire.AppendBytes(b, m.Items[i].Record)
		b = appendDots(b, m.Items[i].Judged)
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *offerRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Partition = partitionOf(&s)
	m.Verdict = s.Bool()
	if s.More() {
		m.Base = contextOf(r)
	}
	n := s.Array()
	if n > 3*keysMax || n%3 != 0 {
		return wire.ErrMalformed
	}
	for range n / 3 {
		m.Items = append(m.Items, offeredKey{oneKey(r), r.Bytes(), dots(r, dotsMax)})
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *offerResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(wire.AppendArray(b, 1), len(m.Errors))
	for _, e := range m.Errors {
		b = wire.AppendBytes(b, e)
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *offerResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	n := s.Array()
	if n > keysMax {
		return wire.ErrMalformed
	}
	for range n {
		e := r.Bytes()
		if len(e) > outcomeMax {
			return wire.ErrMalformed
		}
		m.Errors = append(m.Errors, e)
	}
	return s.End()
}

// partitionOf reads a partition as a field.
func partitionOf(s *wire.Struct) ring.Partition {
	return ring.Partition(s.UintMax(ring.SlotCount - 1))
}

// oneKey reads a key as an item.
func oneKey(r *wire.Reader) []byte {
	k := r.Bytes()
	if len(k) == 0 || len(k) > version.KeySizeMax {
		r.Fail()
		return nil
	}
	return k
}

// appendDots writes dots as one item of 16 bytes each.
func appendDots(b []byte, dots []version.Dot) []byte {
	packed := make([]byte, 0, 16*len(dots))
	for _, d := range dots {
		packed = binary.BigEndian.AppendUint64(packed, uint64(d.Actor))
		packed = binary.BigEndian.AppendUint64(packed, d.Seq)
	}
	return wire.AppendBytes(b, packed)
}

// dots reads what appendDots wrote, at most a number of them. They are sorted, and
// none is zero.
func dots(r *wire.Reader, most int) []version.Dot {
	packed := r.Bytes()
	if len(packed)%16 != 0 || len(packed) > 16*most {
		r.Fail()
		return nil
	}
	var out []version.Dot
	for ; len(packed) > 0; packed = packed[16:] {
		d := version.Dot{Actor: version.Actor(binary.BigEndian.Uint64(packed)), Seq: binary.BigEndian.Uint64(packed[8:])}
		if d.Seq == 0 || len(out) > 0 && d.Compare(out[len(out)-1]) <= 0 {
			r.Fail()
			return nil
		}
		out = append(out, d)
	}
	return out
}

// contextOf reads dots of which each is of another actor.
func contextOf(r *wire.Reader) version.Context {
	c := version.Context(dots(r, basesMax))
	for i := 1; i < len(c); i++ {
		if c[i].Actor == c[i-1].Actor {
			r.Fail()
			return nil
		}
	}
	return c
}

// packBools writes a byte for each truth value, unpackBools reads them.
func packBools(v []bool) []byte {
	out := make([]byte, len(v))
	for i := range v {
		if v[i] {
			out[i] = 1
		}
	}
	return out
}

func unpackBools(r *wire.Reader, most int) []bool {
	packed := r.Bytes()
	if len(packed) > most {
		r.Fail()
		return nil
	}
	var out []bool
	for _, x := range packed {
		if x > 1 {
			r.Fail()
			return nil
		}
		out = append(out, x == 1)
	}
	return out
}
