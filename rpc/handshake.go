package rpc

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/wire"
)

// The handshake is one block from the dialer and one from the listener:
//
//	magic     8 bytes
//	length    uint16, of the message
//	checksum  uint32, CRC32C of the message
//	message   hello, or welcome
const (
	handshakeHeader = 14
	handshakeMax    = 4 << 10 // of a message
	addrMax         = 300     // of an address: a host name has at most 255
)

var magic = [8]byte{'K', 'I', 'T', 'H', 'R', 'P', 'C', '\n'}

// hello is what each side says of itself; zero is unknown.
type hello struct {
	protocols Protocols
	cluster   ring.ClusterID
	node      ring.NodeID // zero for a client
	expected  ring.NodeID // whom the dialer wants
	addr      string      // where others reach the node
	frameMax  uint64
	refusal   []byte // what AppendError wrote; from the listener only
}

// AppendWire implements wire.Appender.
func (h *hello) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 8)
	b = wire.AppendUint(b, uint64(h.protocols.Min))
	b = wire.AppendUint(b, uint64(h.protocols.Max))
	b = wire.AppendBytes(b, h.cluster[:])
	b = wire.AppendBytes(b, h.node[:])
	b = wire.AppendBytes(b, h.expected[:])
	b = wire.AppendString(b, h.addr)
	b = wire.AppendUint(b, h.frameMax)
	return wire.AppendBytes(b, h.refusal)
}

// ParseWire implements wire.Parser.
func (h *hello) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	h.protocols.Min = uint8(s.UintMax(255))
	h.protocols.Max = uint8(s.UintMax(255))
	s.Fixed(h.cluster[:])
	s.Fixed(h.node[:])
	s.Fixed(h.expected[:])
	h.addr = s.String()
	h.frameMax = s.UintMax(1 << 32)
	h.refusal = s.Bytes()
	if len(h.addr) > addrMax {
		return wire.ErrMalformed
	}
	return s.End()
}

// check says why one side, us, can't talk with the other. Both sides check, so
// that neither relies on the other's care.
func (us *hello) check(them *hello) error {
	_, ok := us.protocols.Common(them.protocols)
	switch {
	case !ok:
		return fmt.Errorf("%w: %s speaks %v, %s speaks %v: upgrade the older one", ErrVersion, us.who(), us.protocols, them.who(), them.protocols)
	case us.strange(them.cluster):
		return fmt.Errorf("%w: one side belongs to %v, the other to %v", ErrWrongCluster, us.cluster, them.cluster)
	case !us.expected.IsZero() && us.expected != them.node:
		return fmt.Errorf("%w: %v answers where %v was expected", ErrWrongNode, them.node, us.expected)
	case !them.expected.IsZero() && them.expected != us.node:
		return fmt.Errorf("%w: %v answers where %v was expected", ErrWrongNode, us.node, them.expected)
	}
	return nil
}

// who names one side.
func (h *hello) who() string {
	if h.node.IsZero() {
		return "the client"
	}
	return "node " + h.node.Short()
}

// strange says that both clusters are known and differ.
func (us *hello) strange(other ring.ClusterID) bool {
	return !us.cluster.IsZero() && !other.IsZero() && us.cluster != other
}

// appendHandshake appends h as a block.
func appendHandshake(b []byte, h *hello) []byte {
	start := len(b)
	b = append(b, magic[:]...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	b = h.AppendWire(b)
	msg := b[start+handshakeHeader:]
	binary.BigEndian.PutUint16(b[start+8:], uint16(len(msg)))
	binary.BigEndian.PutUint32(b[start+10:], crc32.Checksum(msg, castagnoli))
	return b
}

// readHandshake reads one block and not a byte more.
func readHandshake(r io.Reader) (*hello, error) {
	var head [handshakeHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	if [8]byte(head[:8]) != magic {
		return nil, fmt.Errorf("handshake: %w: it begins with %q", wire.ErrMalformed, head[:8])
	}
	n := int(binary.BigEndian.Uint16(head[8:]))
	if n > handshakeMax {
		return nil, fmt.Errorf("handshake: %w: %d bytes, at most %d", wire.ErrMalformed, n, handshakeMax)
	}
	msg := make([]byte, n)
	if _, err := io.ReadFull(r, msg); err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	if crc32.Checksum(msg, castagnoli) != binary.BigEndian.Uint32(head[10:]) {
		return nil, fmt.Errorf("handshake: %w: wrong checksum", wire.ErrMalformed)
	}
	h := &hello{}
	if err := decode(msg, h); err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	return h, nil
}

// dialHandshake introduces us to the listener, which has some time to answer.
func dialHandshake(conn net.Conn, us *hello, most time.Duration) (*hello, error) {
	if err := conn.SetDeadline(time.Now().Add(most)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(appendHandshake(nil, us)); err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	them, err := readHandshake(conn)
	if err != nil {
		return nil, err
	}
	if err := us.check(them); err != nil {
		return nil, err
	}
	if len(them.refusal) > 0 {
		return nil, ParseError(them.refusal)
	}
	return them, conn.SetDeadline(time.Time{})
}

// listenHandshake lets the dialer introduce itself, and tells it if it can't stay. admit
// is asked last, before the dialer is told that it may send. them is nil if it has not
// said who it is.
func listenHandshake(conn net.Conn, us *hello, admit func(them *hello) error) (them *hello, err error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return nil, err
	}
	if them, err = readHandshake(conn); err != nil {
		return nil, err
	}
	refused := us.check(them)
	if refused == nil {
		refused = admit(them)
	}
	if refused != nil {
		us.refusal = appendError(nil, refused, true)
	}
	if _, err := conn.Write(appendHandshake(nil, us)); err != nil {
		return them, fmt.Errorf("handshake: %w", err)
	}
	if refused != nil {
		return them, refused
	}
	return them, conn.SetDeadline(time.Time{})
}
