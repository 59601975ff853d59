package version

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
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

// A number written with more bytes than it needs, an order that is not ours and
// a number that cannot be are refused, although every checksum is right.
func TestOneFormOnly(t *testing.T) {
	dots := func(c ...Dot) (b []byte) {
		for _, d := range c {
			b = appendDot(b, d)
		}
		return b
	}
	for name, c := range map[string]struct {
		contexts []byte // count and dots
		good     bool
	}{
		"good":         {append([]byte{2}, dots(Dot{1, 1}, Dot{2, 1})...), true},
		"long count":   {append([]byte{0x82, 0}, dots(Dot{1, 1}, Dot{2, 1})...), false},
		"long number":  {append([]byte{1}, 0, 0, 0, 0, 0, 0, 0, 1, 0x81, 0), false},
		"wrong order":  {append([]byte{2}, dots(Dot{2, 1}, Dot{1, 1})...), false},
		"actor twice":  {append([]byte{2}, dots(Dot{1, 1}, Dot{1, 2})...), false},
		"zero number":  {append([]byte{1}, dots(Dot{1, 0})...), false},
		"huge count":   {binary.AppendUvarint(nil, SeenMax+1), false},
		"false count":  {append([]byte{3}, dots(Dot{1, 1}, Dot{2, 1})...), false},
		"wide overrun": {[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, false},
	} {
		token := AppendToken(nil, here, []byte("k"), nil)
		token = append(token[:tokenFixed], c.contexts...)
		sum(token)
		if _, err := ParseToken(token, here, []byte("k")); (err == nil) != c.good {
			t.Errorf("%s: token: %v", name, err)
		}
		header := append([]byte{1, 'k'}, c.contexts...)
		header = append(header, 0) // no siblings
		record := append(make([]byte, fixedSize), byte(len(header)))
		record = append(record, header...)
		record[0] = format
		sum(record)
		if _, err := Parse(record); (err == nil) != c.good {
			t.Errorf("%s: record: %v", name, err)
		}
	}
}
