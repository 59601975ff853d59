package store

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// TreeLeaves is how many leaves the hash tree of a partition has.
const TreeLeaves = 256

// Sum adds up leaves of records modulo 2^128. A sum and not an XOR: two equal
// terms do not cancel.
type Sum struct{ High, Low uint64 }

// add adds the leaf of a record, sub takes it away.
func (s *Sum) add(d version.Digest) {
	var carry uint64
	s.Low, carry = bits.Add64(s.Low, binary.BigEndian.Uint64(d[8:]), 0)
	s.High, _ = bits.Add64(s.High, binary.BigEndian.Uint64(d[:8]), carry)
}

func (s *Sum) sub(d version.Digest) {
	var borrow uint64
	s.Low, borrow = bits.Sub64(s.Low, binary.BigEndian.Uint64(d[8:]), 0)
	s.High, _ = bits.Sub64(s.High, binary.BigEndian.Uint64(d[:8]), borrow)
}

// digest is the sum as a leaf.
func (s Sum) digest() (d version.Digest) {
	binary.BigEndian.PutUint64(d[:8], s.High)
	binary.BigEndian.PutUint64(d[8:], s.Low)
	return d
}

// Tree is the hash tree of a partition's records. Two homes with equal roots
// hold the same siblings under every key, however they came by them.
type Tree struct {
	Leaves [TreeLeaves]Sum

	// root is that of Leaves, if rooted: so in a copy that a store gives.
	root   version.Digest
	rooted bool
}

// TreeLeaf is the leaf that a key belongs to, the same on every home.
func TreeLeaf(p ring.Partition, key []byte) int {
	var buf [128]byte
	return leafOf(hashKey(appendDataKey(buf[:0], p, key)))
}

// leafOf is TreeLeaf for the hash of a database key.
func leafOf(hash uint32) int { return int(hash >> 24) }

// Root hashes all leaves. Whoever asks for it changes none of them any more.
func (t *Tree) Root() version.Digest {
	if t.rooted {
		return t.root
	}
	return t.Node(0, TreeLeaves)
}

// emptyRoot is the root of a tree without records.
var emptyRoot = new(Tree).Root()

// Node hashes the leaves from first on, count of them.
func (t *Tree) Node(first, count int) version.Digest {
	b := make([]byte, 0, TreeLeaves*16)
	for _, s := range t.Leaves[first : first+count] {
		b = binary.BigEndian.AppendUint64(b, s.High)
		b = binary.BigEndian.AppendUint64(b, s.Low)
	}
	sum := sha256.Sum256(b)
	return version.Digest(sum[:16])
}
