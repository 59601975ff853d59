package paxos

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Cell is what one acceptor must never forget of one register. The zero Cell has
// promised and accepted nothing. Accepted is never behind Promised, and Value is
// there exactly if Accepted is.
type Cell struct {
	Promised Ballot
	Accepted Ballot
	Value    []byte
}

// Reply is an acceptor's answer to a prepare or an accept.
type Reply struct {
	// OK says that the acceptor promised, or accepted.
	OK bool
	// Promised is the acceptor's highest promise, which refuses all
	// ballots before it.
	Promised Ballot
	// Accepted and Value are what the acceptor had accepted when it
	// promised; zero for nothing.
	Accepted Ballot
	Value    []byte
	// Decided is given instead of a vote by an acceptor that knows the
	// outcome; otherwise empty.
	Decided []byte
}

// Prepare asks for the promise to refuse every earlier ballot. If the reply is
// OK, the returned Cell must be durable before the reply leaves; otherwise it is
// the old one. One ballot is promised once only: a proposer that died and forgot
// its ballots cannot lead one of them a second time.
func (c Cell) Prepare(b Ballot) (Cell, Reply) {
	if !b.usable() || b.Compare(c.Promised) <= 0 {
		return c, Reply{Promised: c.Promised}
	}
	c.Promised = b
	return c, Reply{OK: true, Promised: b, Accepted: c.Accepted, Value: c.Value}
}

// Accept asks to accept a value. If the reply is OK, the returned Cell must be
// durable before the reply leaves; otherwise it is the old one. Empty values are
// refused.
func (c Cell) Accept(b Ballot, value []byte) (Cell, Reply) {
	if !b.usable() || len(value) == 0 || b.Compare(c.Promised) < 0 {
		return c, Reply{Promised: c.Promised}
	}
	if b == c.Accepted && !bytes.Equal(value, c.Value) {
		// Two values under one ballot: no proposer of ours does that.
		return c, Reply{Promised: c.Promised}
	}
	return Cell{Promised: b, Accepted: b, Value: value}, Reply{OK: true, Promised: b}
}

// A cell is encoded as: format 1 byte, CRC32C of the rest 4 bytes, two ballots of
// 8 + 16 bytes each, the value.
const (
	cellFormat = 1
	cellFixed  = 1 + 4 + 2*(8+16)
)

// ErrCorrupt says that bytes are no Cell. An acceptor that reads it has lost its
// state and must not vote.
var ErrCorrupt = errors.New("corrupt acceptor cell")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Append encodes the cell behind b.
func (c Cell) Append(b []byte) []byte {
	start := len(b)
	b = append(b, cellFormat, 0, 0, 0, 0)
	for _, x := range [...]Ballot{c.Promised, c.Accepted} {
		b = binary.BigEndian.AppendUint64(b, x.Round)
		b = append(b, x.Node[:]...)
	}
	b = append(b, c.Value...)
	binary.BigEndian.PutUint32(b[start+1:], crc32.Checksum(b[start+5:], castagnoli))
	return b
}

// ParseCell reads what Append wrote, with a value of at most valueMax bytes. The
// value points into b.
func ParseCell(b []byte, valueMax int) (Cell, error) {
	if len(b) < cellFixed || b[0] != cellFormat {
		return Cell{}, fmt.Errorf("%w: no cell", ErrCorrupt)
	}
	if binary.BigEndian.Uint32(b[1:]) != crc32.Checksum(b[5:], castagnoli) {
		return Cell{}, fmt.Errorf("%w: checksum", ErrCorrupt)
	}
	var c Cell
	rest := b[5:]
	for _, x := range [...]*Ballot{&c.Promised, &c.Accepted} {
		x.Round = binary.BigEndian.Uint64(rest)
		copy(x.Node[:], rest[8:])
		rest = rest[24:]
	}
	if len(rest) > valueMax {
		return Cell{}, fmt.Errorf("%w: value of %d bytes, at most %d", ErrCorrupt, len(rest), valueMax)
	}
	if len(rest) > 0 {
		c.Value = rest[:len(rest):len(rest)]
	}
	if !c.valid() {
		return Cell{}, fmt.Errorf("%w: promised %v, accepted %v, value of %d bytes", ErrCorrupt, c.Promised, c.Accepted, len(rest))
	}
	return c, nil
}

func (c Cell) valid() bool {
	for _, b := range [...]Ballot{c.Promised, c.Accepted} {
		if !b.IsZero() && !b.usable() {
			return false
		}
	}
	return c.Accepted.Compare(c.Promised) <= 0 && c.Accepted.IsZero() == (len(c.Value) == 0)
}
