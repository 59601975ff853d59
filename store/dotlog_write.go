package store

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/kithdb/kith/ring"
)

// logBlocks are the numbers of the blocks on disk, oldest first, of partitions
// that wrote one since the files were opened. They belong to the committer.
type logBlocks map[ring.Partition][]uint64

// writeLog puts the tails that are full into the batch that is built.
func (c *committer) writeLog() {
	for {
		p, entries, ok := c.dotLog.nextFull(c.building.number)
		if !ok {
			return
		}
		c.writeLogBlock(c.building, p, entries)
	}
}

// writeLogBlock puts entries into a batch as a block, with the tail that the
// last close left before them, and removes the oldest blocks above the bound.
func (c *committer) writeLogBlock(b *batch, p ring.Partition, entries []logged) {
	if _, known := c.logBlocks[p]; !known {
		c.logBlocks[p] = c.listLogBlocks(p)
		if old := c.leftTail(p); len(old) > 0 {
			entries = append(old, entries...)
			b.delete(logKey(p, logTailNumber))
		}
	}
	c.scratch = appendLogBlock(c.scratch[:0], entries)
	b.put(logKey(p, b.number), c.scratch)
	blocks := append(c.logBlocks[p], b.number)
	for len(blocks) > c.options.LogBlocksMax {
		b.delete(logKey(p, blocks[0]))
		blocks = blocks[1:]
	}
	c.logBlocks[p] = blocks
}

// listLogBlocks lists the full blocks of a partition on disk. What cannot be read
// is as good as not there: the log is an index.
func (c *committer) listLogBlocks(p ring.Partition) (numbers []uint64) {
	it := c.engine.db.NewIterator(logSpan(p), nil)
	defer it.Release()
	for it.Next() {
		if n, ok := logNumber(it.Key()); ok && n != logTailNumber {
			numbers = append(numbers, n)
		}
	}
	if err := it.Error(); err != nil {
		c.rotten(err)
		c.logger.Warn("dot log cannot be read", "partition", p, "error", err)
	}
	return numbers
}

// leftTail reads the tail that a close left, nil if there is none.
func (c *committer) leftTail(p ring.Partition) []logged {
	b, err := c.engine.db.Get(logKey(p, logTailNumber), nil)
	if errors.Is(err, leveldb.ErrNotFound) {
		return nil
	}
	var entries []logged
	if err == nil {
		entries, err = parseLogBlock(p, b)
	}
	if err != nil {
		c.rotten(err)
		c.logger.Warn("tail of the dot log cannot be read", "partition", p, "error", err)
	}
	return entries
}

func logSpan(p ring.Partition) *util.Range {
	return util.BytesPrefix(binary.BigEndian.AppendUint16([]byte(logPrefix), uint16(p)))
}

func logNumber(key []byte) (n uint64, ok bool) {
	const before = len(logPrefix) + 2
	if len(key) != before+8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[before:]), true
}

// closeLog writes the tails, each into the batch that next gives. A tail that a
// close before left is joined, so that stores that are often closed do not
// have many small blocks.
func (c *committer) closeLog(next func() (*batch, error)) error {
	for _, p := range c.dotLog.partitions() {
		entries := slices.Clone(c.dotLog.inMemory(p))
		b, err := next()
		if err != nil {
			return err
		}
		var old []logged
		if _, known := c.logBlocks[p]; !known {
			old = c.leftTail(p)
		}
		if len(old)+len(entries) > logTailMax {
			c.writeLogBlock(b, p, entries)
			continue
		}
		c.scratch = appendLogBlock(c.scratch[:0], append(old, entries...))
		b.put(logKey(p, logTailNumber), c.scratch)
	}
	return nil
}
