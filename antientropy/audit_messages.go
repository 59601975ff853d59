package antientropy

import (
	"encoding/binary"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// Routes by which an audit finds the keys that differ. Nothing is called out while
// one of them is served.
const (
	rootsRoute rpc.Route[rootsRequest, rootsResponse] = "ae.roots"
	nodesRoute rpc.Route[nodesRequest, nodesResponse] = "ae.nodes"
	listRoute  rpc.Route[listRequest, listResponse]   = "ae.list"
)

// Bounds of the messages. What is over one is malformed, and nothing is allocated
// for it.
const (
	rootsMax = 1024
	listMax  = 4096 // keys of one answer
)

// rootState is what a home says of its tree.
type rootState uint8

// The states. Their numbers are on the wire.
const (
	rootEqual     rootState = 0
	rootDiffers   rootState = 1
	rootUntrusted rootState = 2 // being built, or the partition is damaged
	rootLossy     rootState = 3 // has lost something; it fills itself
	rootNotHome   rootState = 4
	rootStates              = 5
)

// rootsRequest asks which partitions' trees have another root.
type rootsRequest struct {
	Roots []partitionRoot
}

// partitionRoot is the root of the asker's tree.
type partitionRoot struct {
	Partition ring.Partition
	Root      version.Digest
}

// rootsResponse has a state for each root, in their order.
type rootsResponse struct{ States []rootState }

// arity is how many inner nodes a tree has below its root, and how many leaves
// each of them: a leaf of 256 is found in two round trips.
const arity = 16

// nodesRequest asks which leaves of one partition differ.
type nodesRequest struct {
	Partition ring.Partition
	Nodes     [arity]version.Digest
}

// nodesResponse has the leaves below the nodes that differ.
type nodesResponse struct {
	State rootState
	// Differ has bit i set for node i; Leaves are those of the set bits.
	Differ uint16
	Leaves [][arity]store.Sum
}

// leafSet is a set of leaves of a tree.
type leafSet [store.TreeLeaves / 8]byte

func (s *leafSet) add(leaf int)      { s[leaf/8] |= 1 << (leaf % 8) }
func (s *leafSet) has(leaf int) bool { return s[leaf/8]>>(leaf%8)&1 == 1 }

// allLeaves is every leaf.
func allLeaves() (s leafSet) {
	for i := range s {
		s[i] = 0xff
	}
	return s
}

// listRequest asks for a page of a partition's keys with their digests.
type listRequest struct {
	Partition ring.Partition
	// Epoch of the asker's ring record; a home that has an older one refuses.
	Epoch  uint64
	Leaves leafSet
	// After is the Next of the page before; empty to begin.
	After []byte
}

// listResponse has the keys in order.
type listResponse struct {
	Items []listedKey
	// Next is the last key that was looked at, in Items or not.
	Next []byte
	Done bool
}

// listedKey is a key with the leaf of its record.
type listedKey struct {
	Key  []byte
	Leaf version.Digest
}

// AppendWire implements wire.Appender.
func (m *rootsRequest) AppendWire(b []byte) []byte {
	packed := make([]byte, 0, 18*len(m.Roots))
	for _, r := range m.Roots {
		packed = binary.BigEndian.AppendUint16(packed, uint16(r.Partition))
		packed = append(packed, r.Root[:]...)
	}
	return wire.AppendBytes(wire.AppendArray(b, 1), packed)
}

// ParseWire implements wire.Parser.
func (m *rootsRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	packed := s.Bytes()
	if len(packed)%18 != 0 || len(packed) > 18*rootsMax {
		return wire.ErrMalformed
	}
	for ; len(packed) > 0; packed = packed[18:] {
		p := ring.Partition(binary.BigEndian.Uint16(packed))
		if p >= ring.SlotCount {
			return wire.ErrMalformed
		}
		m.Roots = append(m.Roots, partitionRoot{p, version.Digest(packed[2:18])})
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *rootsResponse) AppendWire(b []byte) []byte {
	packed := make([]byte, len(m.States))
	for i, s := range m.States {
		packed[i] = byte(s)
	}
	return wire.AppendBytes(wire.AppendArray(b, 1), packed)
}

// ParseWire implements wire.Parser.
func (m *rootsResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	packed := s.Bytes()
	if len(packed) > rootsMax {
		return wire.ErrMalformed
	}
	for _, x := range packed {
		if x >= rootStates {
			return wire.ErrMalformed
		}
		m.States = append(m.States, rootState(x))
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *nodesRequest) AppendWire(b []byte) []byte {
	packed := make([]byte, 0, 16*arity)
	for i := range m.Nodes {
		packed = append(packed, m.Nodes[i][:]...)
	}
	b = wire.AppendUint(wire.AppendArray(b, 2), uint64(m.Partition))
	return wire.AppendBytes(b, packed)
}

// ParseWire implements wire.Parser.
func (m *nodesRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Partition = partitionOf(&s)
	var packed [16 * arity]byte
	s.Fixed(packed[:])
	for i := range m.Nodes {
		m.Nodes[i] = version.Digest(packed[16*i : 16*i+16])
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *nodesResponse) AppendWire(b []byte) []byte {
	var packed []byte
	for i := range m.Leaves {
		for _, leaf := range m.Leaves[i] {
			packed = binary.BigEndian.AppendUint64(packed, leaf.High)
			packed = binary.BigEndian.AppendUint64(packed, leaf.Low)
		}
	}
	b = wire.AppendUint(wire.AppendArray(b, 3), uint64(m.State))
	b = wire.AppendUint(b, uint64(m.Differ))
	return wire.AppendBytes(b, packed)
}

// ParseWire implements wire.Parser.
func (m *nodesResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.State = rootState(s.UintMax(rootStates - 1))
	m.Differ = uint16(s.UintMax(1<<16 - 1))
	packed := s.Bytes()
	if len(packed)%(16*arity) != 0 || len(packed) > 16*store.TreeLeaves {
		return wire.ErrMalformed
	}
	for len(packed) > 0 {
		var leaves [arity]store.Sum
		for i := range leaves {
			leaves[i] = store.Sum{High: binary.BigEndian.Uint64(packed), Low: binary.BigEndian.Uint64(packed[8:])}
			packed = packed[16:]
		}
		m.Leaves = append(m.Leaves, leaves)
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *listRequest) AppendWire(b []byte) []byte {
	b = wire.AppendUint(wire.AppendArray(b, 4), uint64(m.Partition))
	b = wire.AppendUint(b, m.Epoch)
	b = wire.AppendBytes(b, m.Leaves[:])
	return wire.AppendBytes(b, m.After)
}

// ParseWire implements wire.Parser.
func (m *listRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Partition = partitionOf(&s)
	m.Epoch = s.Uint()
	s.Fixed(m.Leaves[:])
	m.After = placeOf(r, &s)
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *listResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(wire.AppendArray(b, 3), 2*len(m.Items))
	for i := range m.Items {
		b = wire.AppendBytes(b, m.Items[i].Key)
		b = wire.AppendBytes(b, m.Items[i].Leaf[:])
	}
	b = wire.AppendBytes(b, m.Next)
	return wire.AppendBool(b, m.Done)
}

// ParseWire implements wire.Parser.
func (m *listResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	n := s.Array()
	if n > 2*listMax || n%2 != 0 {
		return wire.ErrMalformed
	}
	for range n / 2 {
		var item listedKey
		item.Key = r.Bytes()
		r.Fixed(item.Leaf[:])
		if r.Err() != nil || len(item.Key) == 0 || len(item.Key) > version.KeySizeMax {
			return wire.ErrMalformed
		}
		m.Items = append(m.Items, item)
	}
	m.Next = placeOf(r, &s)
	m.Done = s.Bool()
	return s.End()
}

// placeOf reads a key, or none, as a field.
func placeOf(r *wire.Reader, s *wire.Struct) []byte {
	k := s.Bytes()
	if len(k) > version.KeySizeMax {
		r.Fail()
		return nil
	}
	return k
}
