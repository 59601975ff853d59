package antientropy

import (
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store/version"
)

// Routes of forgetting. Nothing is called out while one of them is served.
const (
	confirmRoute rpc.Route[confirmRequest, confirmResponse] = "ae.confirm"
	purgeRoute   rpc.Route[purgeRequest, purgeResponse]     = "ae.purge"
)

// confirmRequest asks a home whether it holds the same dead records, and has
// everything that they have seen.
type confirmRequest struct {
	Partition ring.Partition
	// Epoch of the ring record by which the asker knows all homes; one that
	// knows of newer ones refuses.
	Epoch uint64
	Items []deadKey
}

// deadKey is a key of which nothing can be read any more.
type deadKey struct {
	Key  []byte
	Leaf version.Digest
	// Seen is what the record has seen on any home that was asked so far.
	Seen version.Context
}

// confirmResponse has an answer for each item, in their order.
type confirmResponse struct{ Answers []deadAnswer }

// deadAnswer is what a home says of one dead key.
type deadAnswer struct {
	Word deadWord
	// Seen is what this home's record has seen beyond what was asked about.
	Seen version.Context
}

// deadWord is a home's answer in one word.
type deadWord uint8

// The words. Their numbers are on the wire.
const (
	deadConfirmed deadWord = 0
	deadDiffers   deadWord = 1 // another record, or none
	deadAlive     deadWord = 2 // by this home's clock something can still be read
	deadUnstable  deadWord = 3 // this home has not everything that was seen
	deadLossy     deadWord = 4 // this home has lost something
	deadWords              = 5
)

// purgeRequest has dead records removed that every home has confirmed.
type purgeRequest struct {
	Partition ring.Partition
	// Now is the time by which they are dead, in milliseconds since 1970.
	Now   uint64
	Items []purgedKey
	// Epoch of the ring record by which all who hold the partition have confirmed; 0 of
	// a member that does not say.
	Epoch uint64
}

// purgedKey is a key and the leaf of the record that goes.
type purgedKey struct {
	Key  []byte
	Leaf version.Digest
}

// purgeResponse says for each item whether it is gone from the disk.
type purgeResponse struct{ Gone []bool }

// AppendWire implements wire.Appender.
func (m *confirmRequest) AppendWire(b []byte) []byte {
	b = wire.AppendUint(wire.AppendArray(b, 3), uint64(m.Partition))
	b = wire.AppendUint(b, m.Epoch)
	b = wire.AppendArray(b, 3*len(m.Items))
	for i := range m.Items {
		b = wire.AppendBytes(b, m.Items[i].Key)
		b = wire.AppendBytes(b, m.Items[i].Leaf[:])
		b = appendDots(b, m.Items[i].Seen)
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *confirmRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Partition = partitionOf(&s)
	m.Epoch = s.Uint()
	n := s.Array()
	if n > 3*keysMax || n%3 != 0 {
		return wire.ErrMalformed
	}
	for range n / 3 {
		item := deadKey{Key: oneKey(r)}
		r.Fixed(item.Leaf[:])
		item.Seen = contextOf(r)
		m.Items = append(m.Items, item)
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *confirmResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(wire.AppendArray(b, 1), 2*len(m.Answers))
	for i := range m.Answers {
		b = wire.AppendUint(b, uint64(m.Answers[i].Word))
		b = appendDots(b, m.Answers[i].Seen)
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *confirmResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	n := s.Array()
	if n > 2*keysMax || n%2 != 0 {
		return wire.ErrMalformed
	}
	for range n / 2 {
		m.Answers = append(m.Answers, deadAnswer{deadWord(r.UintMax(deadWords - 1)), contextOf(r)})
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *purgeRequest) AppendWire(b []byte) []byte {
	b = wire.AppendUint(wire.AppendArray(b, 4), uint64(m.Partition))
	b = wire.AppendUint(b, m.Now)
	b = wire.AppendArray(b, 2*len(m.Items))
	for i := range m.Items {
		b = wire.AppendBytes(b, m.Items[i].Key)
		b = wire.AppendBytes(b, m.Items[i].Leaf[:])
	}
	return wire.AppendUint(b, m.Epoch)
}

// ParseWire implements wire.Parser.
func (m *purgeRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Partition = partitionOf(&s)
	m.Now = s.Uint()
	n := s.Array()
	if n > 2*keysMax || n%2 != 0 {
		return wire.ErrMalformed
	}
	for range n / 2 {
		item := purgedKey{Key: oneKey(r)}
		r.Fixed(item.Leaf[:])
		m.Items = append(m.Items, item)
	}
	m.Epoch = s.Uint()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *purgeResponse) AppendWire(b []byte) []byte {
	return wire.AppendBytes(wire.AppendArray(b, 1), packBools(m.Gone))
}

// ParseWire implements wire.Parser.
func (m *purgeResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	if s.More() {
		m.Gone = unpackBools(r, keysMax)
	}
	return s.End()
}
