package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/kithdb/kith/ring"
)

// What a close leaves of the trees is good for one thing: to be read by the next
// opening, if nothing was written between. So each tree on disk names the close
// that wrote it, and metaTrees, which the first batch of every opening removes,
// names that close, the last batch and the number of trees.
//
//	crc    4 bytes, CRC32C of the rest
//	close  8 bytes
//	leaves 32 bytes, a bit for each leaf that is not zero
//	sums   16 bytes for each of these
const (
	treeHeadSize = 4 + 8 + TreeLeaves/8
	metaTreeSize = 8 + 8 + 4
)

func appendTree(b []byte, closing uint64, t *Tree) []byte {
	start := len(b)
	b = append(b, make([]byte, treeHeadSize)...)
	binary.BigEndian.PutUint64(b[start+4:], closing)
	for i, s := range t.Leaves {
		if s != (Sum{}) {
			b[start+12+i/8] |= 1 << (i % 8)
			b = binary.BigEndian.AppendUint64(b, s.High)
			b = binary.BigEndian.AppendUint64(b, s.Low)
		}
	}
	binary.BigEndian.PutUint32(b[start:], crc32.Checksum(b[start+4:], castagnoli))
	return b
}

var errTree = errors.New("corrupt hash tree")

// parseTree reads what appendTree wrote.
func parseTree(b []byte) (closing uint64, t *Tree, err error) {
	if len(b) < treeHeadSize || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return 0, nil, fmt.Errorf("%w: checksum of %d bytes", errTree, len(b))
	}
	closing, t = binary.BigEndian.Uint64(b[4:]), new(Tree)
	bits, sums := b[12:treeHeadSize], b[treeHeadSize:]
	for i := range t.Leaves {
		if bits[i/8]&(1<<(i%8)) == 0 {
			continue
		}
		if len(sums) < 16 {
			return 0, nil, fmt.Errorf("%w: %d bytes", errTree, len(b))
		}
		t.Leaves[i] = Sum{binary.BigEndian.Uint64(sums), binary.BigEndian.Uint64(sums[8:])}
		sums = sums[16:]
	}
	if len(sums) > 0 {
		return 0, nil, fmt.Errorf("%w: %d bytes", errTree, len(b))
	}
	return closing, t, nil
}

// encode gives the key and value of every tree that is not empty to each, and
// returns how many these are. Nothing is published meanwhile.
func (t *trees) encode(closing uint64, each func(key, value []byte) error) (n uint32, err error) {
	var b []byte
	for p := range t.byID {
		tree := t.copyIn(p)
		if tree == nil || tree.Leaves == (Tree{}).Leaves {
			continue
		}
		b = appendTree(b[:0], closing, tree)
		if err := each(treeKey(ring.Partition(p)), b); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// copyIn is nil for a partition that never had a record.
func (t *trees) copyIn(p int) *Tree {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[p] == nil {
		return nil
	}
	tree := t.byID[p].Tree
	return &tree
}

func encodeMetaTrees(closing, last uint64, n uint32) []byte {
	b := binary.BigEndian.AppendUint64(nil, closing)
	b = binary.BigEndian.AppendUint64(b, last)
	return binary.BigEndian.AppendUint32(b, n)
}

// loadTrees reads the trees of a close that wrote last as its last batch. They
// are nil if there are none, or not all of them: then they are built from the
// records.
func loadTrees(db *leveldb.DB, last uint64) (map[ring.Partition]*Tree, error) {
	meta, err := db.Get([]byte(metaTrees), nil)
	if errors.Is(err, leveldb.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", metaTrees, err)
	}
	if len(meta) != metaTreeSize || binary.BigEndian.Uint64(meta[8:]) != last {
		return nil, nil
	}
	closing, n := binary.BigEndian.Uint64(meta), binary.BigEndian.Uint32(meta[16:])
	out := make(map[ring.Partition]*Tree, min(n, ring.SlotCount))
	it := db.NewIterator(util.BytesPrefix([]byte(treePrefix)), nil)
	defer it.Release()
	for it.Next() {
		k := it.Key()
		if len(k) != len(treePrefix)+2 {
			continue
		}
		p := ring.Partition(binary.BigEndian.Uint16(k[len(treePrefix):]))
		of, tree, err := parseTree(it.Value())
		if err != nil {
			return nil, err
		}
		if of == closing && p < ring.SlotCount {
			out[p] = tree
		}
	}
	if err := it.Error(); err != nil {
		return nil, fmt.Errorf("read hash trees: %w", err)
	}
	if uint32(len(out)) != n {
		return nil, fmt.Errorf("%w: %d of %d are there", errTree, len(out), n)
	}
	return out, nil
}

// loadTrees takes the trees that the last close left.
func (o *opened) loadTrees() {
	trees, err := loadTrees(o.db, o.batch)
	if err != nil {
		o.unread = append(o.unread, err)
	}
	o.trees = trees
}
