package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// A block of the dot log holds entries in the order in which they were logged.
//
//	crc   4 bytes, CRC32C of the rest
//	count uvarint
//	entry: actor 8 bytes, number uvarint, length of the key uvarint, key
//
// Keys are without what stands before them in the database.
const (
	logEntryMin = 8 + 1 + 1 + 1

	// logTail is the number of the block in which a close leaves a tail; it
	// is behind every block that is full.
	logTailNumber = 1<<64 - 1
)

var errLogBlock = errors.New("corrupt block of the dot log")

func appendLogBlock(b []byte, entries []logged) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for _, e := range entries {
		key := e.key[dataKeySize:]
		b = binary.BigEndian.AppendUint64(b, uint64(e.dot.Actor))
		b = binary.AppendUvarint(b, e.dot.Seq)
		b = binary.AppendUvarint(b, uint64(len(key)))
		b = append(b, key...)
	}
	binary.BigEndian.PutUint32(b[start:], crc32.Checksum(b[start+4:], castagnoli))
	return b
}

// parseLogBlock reads what appendLogBlock wrote, for a partition.
func parseLogBlock(p ring.Partition, b []byte) ([]logged, error) {
	if len(b) < 5 || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return nil, fmt.Errorf("%w: checksum of %d bytes", errLogBlock, len(b))
	}
	f := fields{b: b[4:]}
	n := f.uvarint()
	if n > uint64(len(f.b))/logEntryMin {
		return nil, fmt.Errorf("%w: %d entries in %d bytes", errLogBlock, n, len(b))
	}
	out := make([]logged, 0, n)
	var key []byte
	for range n {
		if len(f.b) < logEntryMin {
			f.bad = true
			break
		}
		d := version.Dot{Actor: version.Actor(binary.BigEndian.Uint64(f.b))}
		f.b = f.b[8:]
		d.Seq = f.uvarint()
		size := f.uvarint()
		if f.bad || d.Seq == 0 || size == 0 || size > version.KeySizeMax || size > uint64(len(f.b)) {
			f.bad = true
			break
		}
		key = appendDataKey(key[:0], p, f.b[:size])
		f.b = f.b[size:]
		out = append(out, logged{d, string(key)})
	}
	if f.bad || len(f.b) > 0 {
		return nil, fmt.Errorf("%w: content", errLogBlock)
	}
	return out, nil
}
