// Package wire reads and writes the msgpack that kith's frames carry: structs as
// arrays, to which fields are only ever added. Writing appends to a buffer;
// reading copies nothing and allocates nothing for what a length merely claims.
//
// Hot messages implement Appender and Parser by hand with these primitives; the
// others go through github.com/vmihailenco/msgpack/v5 after Check.
package wire

import (
	"encoding/binary"
	"errors"
	"math"
)

// ErrMalformed says that bytes are not the message they should be.
var ErrMalformed = errors.New("malformed message")

// Appender is a message that writes itself.
type Appender interface {
	// AppendWire appends the message's encoding to b.
	AppendWire(b []byte) []byte
}

// Parser is a message that reads itself. Byte slices may point into what is
// read.
type Parser interface {
	// ParseWire reads the message from r, or fails with ErrMalformed.
	ParseWire(r *Reader) error
}

// AppendArray begins an array of n items: a message with n fields.
func AppendArray(b []byte, n int) []byte {
	switch {
	case n < 16:
		return append(b, 0x90|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xdc), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xdd), uint32(n))
}

// AppendUint appends a number.
func AppendUint(b []byte, v uint64) []byte {
	switch {
	case v < 0x80:
		return append(b, byte(v))
	case v <= math.MaxUint8:
		return append(b, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), v)
}

// AppendInt appends a signed number.
func AppendInt(b []byte, v int64) []byte {
	if v >= 0 {
		return AppendUint(b, uint64(v))
	}
	if v >= -32 {
		return append(b, byte(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(v))
}

// AppendBool appends a truth value.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xc3)
	}
	return append(b, 0xc2)
}

// AppendBytes appends bytes.
func AppendBytes(b, v []byte) []byte {
	switch {
	case len(v) <= math.MaxUint8:
		b = append(b, 0xc4, byte(len(v)))
	case len(v) <= math.MaxUint16:
		b = binary.BigEndian.AppendUint16(append(b, 0xc5), uint16(len(v)))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xc6), uint32(len(v)))
	}
	return append(b, v...)
}

// AppendString appends text.
func AppendString(b []byte, v string) []byte {
	switch {
	case len(v) < 32:
		b = append(b, 0xa0|byte(len(v)))
	case len(v) <= math.MaxUint8:
		b = append(b, 0xd9, byte(len(v)))
	case len(v) <= math.MaxUint16:
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(len(v)))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(len(v)))
	}
	return append(b, v...)
}

// Reader reads msgpack from a buffer. After the first mistake every call gives
// a zero value, and Err names it.
type Reader struct {
	b   []byte
	bad bool
}

// NewReader reads from b.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Reset reads from b anew.
func (r *Reader) Reset(b []byte) { *r = Reader{b: b} }

// Err is ErrMalformed once something could not be read.
func (r *Reader) Err() error {
	if r.bad {
		return ErrMalformed
	}
	return nil
}

// Rest is what was not read yet.
func (r *Reader) Rest() []byte { return r.b }

// Fail makes Err say that the message is malformed: for a parser that finds what
// may not be.
func (r *Reader) Fail() { r.fail() }

func (r *Reader) fail() { r.bad, r.b = true, nil }

func (r *Reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

// number reads a big-endian number of 1, 2, 4 or 8 bytes.
func (r *Reader) number(size uint64) uint64 {
	b := r.take(size)
	if b == nil {
		return 0
	}
	var v uint64
	for _, x := range b {
		v = v<<8 | uint64(x)
	}
	return v
}

func (r *Reader) kind() byte {
	b := r.take(1)
	if b == nil {
		return 0xc1 // never used by msgpack
	}
	return b[0]
}

// Array reads the beginning of an array. The claimed length is never more than
// the bytes that are left.
func (r *Reader) Array() int {
	var n uint64
	switch k := r.kind(); {
	case k&0xf0 == 0x90:
		n = uint64(k & 0x0f)
	case k == 0xdc:
		n = r.number(2)
	case k == 0xdd:
		n = r.number(4)
	default:
		r.fail()
	}
	if n > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return int(n)
}

// Uint reads a number.
func (r *Reader) Uint() uint64 {
	switch k := r.kind(); {
	case k < 0x80:
		return uint64(k)
	case k == 0xcc:
		return r.number(1)
	case k == 0xcd:
		return r.number(2)
	case k == 0xce:
		return r.number(4)
	case k == 0xcf:
		return r.number(8)
	}
	r.fail()
	return 0
}

// UintMax reads a number and refuses one above most.
func (r *Reader) UintMax(most uint64) uint64 {
	v := r.Uint()
	if v > most {
		r.fail()
		return 0
	}
	return v
}

// Int reads a signed number.
func (r *Reader) Int() int64 {
	if len(r.b) > 0 {
		switch k := r.b[0]; {
		case k >= 0xe0:
			r.take(1)
			return int64(int8(k))
		case k == 0xd0:
			r.take(1)
			return int64(int8(r.number(1)))
		case k == 0xd1:
			r.take(1)
			return int64(int16(r.number(2)))
		case k == 0xd2:
			r.take(1)
			return int64(int32(r.number(4)))
		case k == 0xd3:
			r.take(1)
			return int64(r.number(8))
		}
	}
	return int64(r.UintMax(math.MaxInt64))
}

// Bool reads a truth value.
func (r *Reader) Bool() bool {
	switch r.kind() {
	case 0xc3:
		return true
	case 0xc2:
	default:
		r.fail()
	}
	return false
}

// Bytes reads bytes; they point into the buffer. Empty bytes are nil.
func (r *Reader) Bytes() []byte {
	var n uint64
	switch r.kind() {
	case 0xc4:
		n = r.number(1)
	case 0xc5:
		n = r.number(2)
	case 0xc6:
		n = r.number(4)
	default:
		r.fail()
	}
	if n == 0 {
		return nil
	}
	return r.take(n)
}

// Fixed reads exactly len(to) bytes.
func (r *Reader) Fixed(to []byte) {
	b := r.Bytes()
	if len(b) != len(to) {
		r.fail()
		return
	}
	copy(to, b)
}

// String reads text.
func (r *Reader) String() string {
	var n uint64
	switch k := r.kind(); {
	case k&0xe0 == 0xa0:
		n = uint64(k & 0x1f)
	case k == 0xd9:
		n = r.number(1)
	case k == 0xda:
		n = r.number(2)
	case k == 0xdb:
		n = r.number(4)
	default:
		r.fail()
	}
	return string(r.take(n))
}

// Struct begins a message. Its fields are then read from what it returns, in
// order, and End skips those that a newer sender added.
func (r *Reader) Struct() Struct { return Struct{r: r, left: r.Array()} }

// Struct reads the fields of one message. A field that an older sender did not
// know reads as zero.
type Struct struct {
	r    *Reader
	left int
}

// More says that there is another field, and counts it as read.
func (s *Struct) More() bool {
	if s.left == 0 || s.r.bad {
		return false
	}
	s.left--
	return true
}

// Uint reads a field.
func (s *Struct) Uint() uint64 {
	if !s.More() {
		return 0
	}
	return s.r.Uint()
}

// UintMax reads a field and refuses a number above most.
func (s *Struct) UintMax(most uint64) uint64 {
	if !s.More() {
		return 0
	}
	return s.r.UintMax(most)
}

// Int reads a field.
func (s *Struct) Int() int64 {
	if !s.More() {
		return 0
	}
	return s.r.Int()
}

// Bool reads a field.
func (s *Struct) Bool() bool { return s.More() && s.r.Bool() }

// Bytes reads a field, pointing into the buffer.
func (s *Struct) Bytes() []byte {
	if !s.More() {
		return nil
	}
	return s.r.Bytes()
}

// Fixed reads a field of exactly len(to) bytes.
func (s *Struct) Fixed(to []byte) {
	if s.More() {
		s.r.Fixed(to)
	}
}

// String reads a field.
func (s *Struct) String() string {
	if !s.More() {
		return ""
	}
	return s.r.String()
}

// Array reads the beginning of a field that is an array; its items are read
// from the Reader.
func (s *Struct) Array() int {
	if !s.More() {
		return 0
	}
	return s.r.Array()
}

// End skips the fields that are left and returns the reader's error.
func (s *Struct) End() error {
	for s.More() {
		s.r.Skip()
	}
	return s.r.Err()
}

// Skip passes over one item of any kind, however nested, without recursion.
func (r *Reader) Skip() {
	for items := uint64(1); items > 0 && !r.bad; items-- {
		children, _ := r.item()
		items += children
		if items > uint64(len(r.b))+1 {
			r.fail() // every item takes at least a byte
		}
	}
}
