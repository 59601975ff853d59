package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// tags are what a node tells about itself, as they travel. One string holds
// them all: a map of words would cost a third of the 512 bytes.
type tags struct {
	state    State
	min, max uint8
	run      run
	settled  bool
	rpcAddr  string
	name     string
	zone     string
}

// run tells one life of a process from another one with the same node ID.
type run struct {
	// start is when the process started, in whole milliseconds.
	start time.Time
	nonce uint64
}

// before gives the two runs of one ID an order in which the older one wins.
func (r run) before(other run) bool {
	if !r.start.Equal(other.start) {
		return r.start.Before(other.start)
	}
	return r.nonce < other.nonce
}

const (
	// tagKey is the one key of serf's tag map.
	tagKey = "k"
	// tagVersion counts layouts of which an older reader understands nothing.
	// New fields go to the end and need no new version.
	tagVersion = 1
	// serfTags is the byte with which serf marks an encoded map.
	serfTags = 255

	flagSettled = 1
)

var errTags = errors.New("not the tags of a kith node")

// encode writes: version, flags, cluster, epoch, digest, protocol range,
// start in ms, nonce, then RPC address, name, zone and readiness, each with
// its length in front.
func (t *tags) encode() string {
	b := make([]byte, 0, 256)
	var flags byte
	if t.settled {
		flags |= flagSettled
	}
	b = append(b, tagVersion, flags)
	b = append(b, t.state.Cluster[:]...)
	b = binary.AppendUvarint(b, t.state.Epoch)
	b = append(b, t.state.Digest[:]...)
	b = append(b, t.min, t.max)
	b = binary.AppendUvarint(b, uint64(max(t.run.start.UnixMilli(), 0)))
	b = binary.BigEndian.AppendUint64(b, t.run.nonce)
	for _, s := range []string{t.rpcAddr, t.name, t.zone, t.state.Ready} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return string(b)
}

// tagReader walks over tags; after the first fault it stays failed.
type tagReader struct {
	rest []byte
	bad  bool
}

func (r *tagReader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	part := r.rest[:n]
	r.rest = r.rest[n:]
	return part
}

func (r *tagReader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *tagReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.take(uint64(n))
	return v
}

func (r *tagReader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *tagReader) text(most int) string {
	n := r.uvarint()
	if n > uint64(most) {
		r.bad = true
		return ""
	}
	return string(r.take(n))
}

// startMax keeps a hostile start inside what time.Time can compare.
const startMax = 1 << 53

// decodeTags reads what encode wrote, from a stranger. Bytes after the known
// fields belong to a newer version and are left alone.
func decodeTags(s string) (tags, error) {
	r := &tagReader{rest: []byte(s)}
	if v := r.byte(); v != tagVersion {
		return tags{}, fmt.Errorf("%w: layout %d, want %d", errTags, v, tagVersion)
	}
	var t tags
	t.settled = r.byte()&flagSettled != 0
	copy(t.state.Cluster[:], r.take(uint64(len(t.state.Cluster))))
	t.state.Epoch = r.uvarint()
	copy(t.state.Digest[:], r.take(uint64(len(t.state.Digest))))
	t.min, t.max = r.byte(), r.byte()
	start := r.uvarint()
	t.run.nonce = r.uint64()
	t.rpcAddr = r.text(AddrMax)
	t.name = r.text(NameMax)
	t.zone = r.text(ZoneMax)
	t.state.Ready = r.text(ReadyMax)
	if r.bad || start > startMax {
		return tags{}, fmt.Errorf("%w: cut short or out of bounds", errTags)
	}
	t.run.start = time.UnixMilli(int64(start))
	return t, nil
}

// decodeMeta reads tags from the bytes in which serf wraps them for
// memberlist: a mark and a msgpack map, here with one entry. The guard needs
// them before serf has seen the node.
func decodeMeta(meta []byte) (tags, error) {
	r := &tagReader{rest: meta}
	if r.byte() != serfTags || r.byte() != 0x81 || r.byte() != 0xa0|byte(len(tagKey)) {
		return tags{}, errTags
	}
	if string(r.take(uint64(len(tagKey)))) != tagKey {
		return tags{}, errTags
	}
	// The string heads of msgpack, old (raw) and new (str): both are written
	// by the codec that serf uses, by its version.
	var n uint64
	switch head := r.byte(); {
	case head&0xe0 == 0xa0:
		n = uint64(head & 0x1f)
	case head == 0xd9 || head == 0xc4:
		n = uint64(r.byte())
	case head == 0xda || head == 0xc5:
		if b := r.take(2); b != nil {
			n = uint64(binary.BigEndian.Uint16(b))
		}
	default:
		return tags{}, errTags
	}
	body := r.take(n)
	if r.bad || len(r.rest) != 0 {
		return tags{}, errTags
	}
	return decodeTags(string(body))
}
