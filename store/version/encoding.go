package version

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A record is encoded once, by the home that minted its newest dot, and stands
// byte for byte the same on every home's disk and in every merge:
//
//	format   1 byte
//	crc      4 bytes, CRC32C of the header from here on
//	leaf     16 bytes, Leaf of the record
//	headerLen uvarint: bytes from here to the first value
//	key      uvarint length, bytes
//	seen     uvarint count, then each: actor 8 bytes, seq uvarint
//	siblings uvarint count, then each: actor 8 bytes, seq uvarint, kind 1 byte,
//	         stamp 8 bytes, expiry uvarint, value length uvarint,
//	         value digest 16 bytes (values only)
//	values   in the order of the siblings
//
// The header's CRC covers the digests of the values, and these cover the
// values. All numbers are big-endian. The encoding is canonical: a record has
// one, and Parse accepts no other.
const (
	format    = 1
	fixedSize = 1 + 4 + 16
)

// Bounds of what a record may hold; Parse refuses more, before it allocates. Who
// makes a record grow checks them before it is encoded.
const (
	KeySizeMax  = 4096
	SeenMax     = 4096
	SiblingsMax = 1024
)

var (
	// ErrCorrupt says that the bytes are not a record: damaged on disk or
	// on the way, or never one.
	ErrCorrupt = errors.New("corrupt record")

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

const (
	kindValue     = 0
	kindTombstone = 1
)

// Size bounds the length of the record's encoding from above.
func (r *Record) Size() int {
	n := fixedSize + 4*binary.MaxVarintLen32 + len(r.Key) + len(r.Seen)*(8+binary.MaxVarintLen64)
	for i := range r.Siblings {
		n += 8 + binary.MaxVarintLen64 + 1 + 8 + binary.MaxVarintLen64 + binary.MaxVarintLen32 + 16 + len(r.Siblings[i].Value)
	}
	return n
}

// Append encodes the record behind b. The record must hold its values.
func (r *Record) Append(b []byte) []byte {
	start := len(b)
	b = append(b, format, 0, 0, 0, 0)
	leaf := r.Leaf()
	b = append(b, leaf[:]...)
	// The header's length is known only once it is written; leave two
	// bytes, enough for 16 KiB, and move the rare larger one.
	lengthAt := len(b)
	b = append(b, 0, 0)
	headerAt := len(b)
	b = r.appendHeader(b)
	n := len(b) - headerAt
	var length [binary.MaxVarintLen64]byte
	w := binary.PutUvarint(length[:], uint64(n))
	if w != 2 {
		b = append(b, length[:max(0, w-2)]...)
		copy(b[lengthAt+w:], b[headerAt:headerAt+n])
		b = b[:lengthAt+w+n]
	}
	copy(b[lengthAt:], length[:w])
	binary.BigEndian.PutUint32(b[start+1:], crc32.Checksum(b[start+5:], castagnoli))
	for i := range r.Siblings {
		b = append(b, r.Siblings[i].Value...)
	}
	return b
}

func (r *Record) appendHeader(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(r.Key)))
	b = append(b, r.Key...)
	b = binary.AppendUvarint(b, uint64(len(r.Seen)))
	for _, d := range r.Seen {
		b = appendDot(b, d)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Siblings)))
	for i := range r.Siblings {
		b = r.Siblings[i].appendHeader(b)
	}
	return b
}

func (s *Sibling) appendHeader(b []byte) []byte {
	b = appendDot(b, s.Dot)
	kind := byte(kindValue)
	if s.Tombstone {
		kind = kindTombstone
	}
	b = append(b, kind)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Stamp))
	b = binary.AppendUvarint(b, s.Expiry)
	b = binary.AppendUvarint(b, uint64(s.ValueSize))
	if !s.Tombstone {
		b = append(b, s.ValueDigest[:]...)
	}
	return b
}

func appendDot(b []byte, d Dot) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(d.Actor))
	return binary.AppendUvarint(b, d.Seq)
}

// Leaf hashes what two homes must agree on: the key and its siblings, but not
// what was seen beyond them. The leaf of a record without siblings is zero.
func (r *Record) Leaf() Digest {
	if len(r.Siblings) == 0 {
		return Digest{}
	}
	var stack [256]byte
	b := binary.AppendUvarint(stack[:0], uint64(len(r.Key)))
	b = append(b, r.Key...)
	for i := range r.Siblings {
		b = r.Siblings[i].appendHeader(b)
	}
	sum := sha256.Sum256(b)
	return Digest(sum[:16])
}

// Parse reads a record and checks it whole, its values' digests too. Key and
// values point into b.
func Parse(b []byte) (Record, error) {
	r, _, err := parse(b, true)
	return r, err
}

// ParseHeader reads a record whose values may be cut off, as Header leaves it,
// and checks all but the values. Its siblings have no Value.
func ParseHeader(b []byte) (Record, error) {
	r, _, err := parse(b, false)
	return r, err
}

// Header returns the part of an encoded record that ends before the values.
func Header(b []byte) ([]byte, error) {
	if len(b) < fixedSize {
		return nil, ErrCorrupt
	}
	n, w := binary.Uvarint(b[fixedSize:])
	if w <= 0 || n > uint64(len(b)-fixedSize-w) {
		return nil, ErrCorrupt
	}
	return b[:fixedSize+w+int(n)], nil
}

// LeafOf reads the leaf of an encoded record without checking it. It is zero
// for no record.
func LeafOf(b []byte) Digest {
	if len(b) < fixedSize {
		return Digest{}
	}
	return Digest(b[5:fixedSize])
}

// KeyOf reads the key of an encoded record without checking it; nil if there is
// none.
func KeyOf(b []byte) []byte {
	h, err := Header(b)
	if err != nil {
		return nil
	}
	_, w := binary.Uvarint(h[fixedSize:])
	p := parser{b: h[fixedSize+w:]}
	key := p.bytes(p.uvarint(KeySizeMax))
	if p.bad {
		return nil
	}
	return key
}

func parse(b []byte, values bool) (Record, []byte, error) {
	header, err := Header(b)
	if err != nil || b[0] != format {
		return Record{}, nil, fmt.Errorf("%w: no header", ErrCorrupt)
	}
	if binary.BigEndian.Uint32(b[1:]) != crc32.Checksum(header[5:], castagnoli) {
		return Record{}, nil, fmt.Errorf("%w: checksum", ErrCorrupt)
	}
	n, w := binary.Uvarint(header[fixedSize:])
	p := parser{b: header[fixedSize+w:]}
	if w != uvarintSize(n) {
		p.bad = true
	}
	var r Record
	r.Key = p.bytes(p.uvarint(KeySizeMax))
	r.Seen = p.context()
	if n := p.count(SiblingsMax, 20); n > 0 {
		r.Siblings = make([]Sibling, n)
		for i := range r.Siblings {
			p.sibling(&r.Siblings[i])
		}
	}
	if p.bad || len(p.b) > 0 || len(r.Key) == 0 || !r.valid() {
		return Record{}, nil, fmt.Errorf("%w: header", ErrCorrupt)
	}
	leaf := r.Leaf()
	if !bytes.Equal(leaf[:], b[5:fixedSize]) {
		return Record{}, nil, fmt.Errorf("%w: leaf", ErrCorrupt)
	}
	rest := b[len(header):]
	if !values {
		return r, rest, nil
	}
	for i := range r.Siblings {
		s := &r.Siblings[i]
		if uint64(s.ValueSize) > uint64(len(rest)) {
			return Record{}, nil, fmt.Errorf("%w: key %.64q: value cut off", ErrCorrupt, r.Key)
		}
		if s.Tombstone {
			continue
		}
		s.Value, rest = rest[:s.ValueSize:s.ValueSize], rest[s.ValueSize:]
		if DigestOf(s.Value) != s.ValueDigest {
			return Record{}, nil, fmt.Errorf("%w: key %.64q: value", ErrCorrupt, r.Key)
		}
	}
	if len(rest) > 0 {
		return Record{}, nil, fmt.Errorf("%w: key %.64q: %d bytes too many", ErrCorrupt, r.Key, len(rest))
	}
	return r, nil, nil
}

// parser reads a header. Once bad, it gives zeros.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) uvarint(most uint64) uint64 {
	v, w := binary.Uvarint(p.b)
	if p.bad || w <= 0 || v > most || w != uvarintSize(v) {
		p.bad = true
		return 0
	}
	p.b = p.b[w:]
	return v
}

// count reads how many items follow, each of at least size bytes.
func (p *parser) count(most, size int) int {
	n := int(p.uvarint(uint64(most)))
	if n*size > len(p.b) {
		p.bad = true
		return 0
	}
	return n
}

func (p *parser) bytes(n uint64) []byte {
	if p.bad || n > uint64(len(p.b)) {
		p.bad = true
		return nil
	}
	out := p.b[:n:n]
	p.b = p.b[n:]
	return out
}

func (p *parser) uint64() uint64 {
	b := p.bytes(8)
	if p.bad {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func (p *parser) dot() Dot {
	a := Actor(p.uint64())
	return Dot{a, p.uvarint(1<<64 - 1)}
}

func (p *parser) context() Context {
	n := p.count(SeenMax, 9)
	if n == 0 {
		return nil
	}
	c := make(Context, n)
	for i := range c {
		c[i] = p.dot()
	}
	return c
}

func (p *parser) sibling(s *Sibling) {
	s.Dot = p.dot()
	kind := p.bytes(1)
	s.Stamp = Stamp(p.uint64())
	s.Expiry = p.uvarint(1<<64 - 1)
	s.ValueSize = uint32(p.uvarint(1<<32 - 1))
	if p.bad || kind[0] > kindTombstone {
		p.bad = true
		return
	}
	if kind[0] == kindTombstone {
		s.Tombstone = true
		return
	}
	copy(s.ValueDigest[:], p.bytes(16))
}

func uvarintSize(v uint64) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}
