package store

import (
	"encoding/binary"
	"math"

	"github.com/kithdb/kith/ring"
)

// writeEnd writes what a clean close leaves behind: the tails of the dot log, the
// clocks and, if everything was counted, the counts and the hash trees. The last
// batch says that the others are there. The writer is idle.
func (c *committer) writeEnd(counted bool) error {
	c.building.engine = c.engine
	closing := c.building.number
	if err := c.closeLog(c.nextEnd); err != nil {
		return err
	}
	trees := uint32(0)
	whole := counted && c.trees.trusted()
	if whole {
		var err error
		trees, err = c.trees.encode(closing, func(key, value []byte) error {
			b, err := c.nextEnd()
			if err == nil {
				b.put(key, value)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	b, err := c.nextEnd()
	if err != nil {
		return err
	}
	c.clocks.drainDirty(math.MaxInt, func(p ring.Partition, enc []byte) { b.put(clockKey(p), enc) })
	if counted {
		b.put([]byte(metaKeys), binary.BigEndian.AppendUint64(nil, uint64(c.keys.Load())))
		b.put([]byte(metaStands), encodeStandInCounts(c.standIns.Load(), c.standInBytes.Load()))
	}
	if whole {
		b.put([]byte(metaTrees), encodeMetaTrees(closing, b.number, trees))
	}
	return c.writer.write(b)
}

// nextEnd returns a batch with room, having written one that was full.
func (c *committer) nextEnd() (*batch, error) {
	b := c.building
	if b.full() {
		if err := c.writer.write(b); err != nil {
			return nil, err
		}
		b.reset(b.number + 1)
	}
	return b, nil
}
