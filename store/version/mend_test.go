package version

import (
	"encoding/binary"
	"hash/crc32"
)

// sum writes the checksum of a header.
func sum(header []byte) {
	binary.BigEndian.PutUint32(header[1:], crc32.Checksum(header[5:], castagnoli))
}

// leafInHeader computes the leaf that a header should carry, if it can be read.
func leafInHeader(header []byte) (Digest, bool) {
	_, w := binary.Uvarint(header[fixedSize:])
	p := parser{b: header[fixedSize+w:]}
	var r Record
	r.Key = p.bytes(p.uvarint(KeySizeMax))
	r.Seen = p.context()
	n := p.count(SiblingsMax, 20)
	for range n {
		var s Sibling
		p.sibling(&s)
		r.Siblings = append(r.Siblings, s)
	}
	return r.Leaf(), !p.bad
}
