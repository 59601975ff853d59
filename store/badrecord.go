package store

import (
	"errors"
	"fmt"
	"slices"

	"github.com/syndtr/goleveldb/leveldb"

	"github.com/kithdb/kith/ring"
)

// badRecord is damage to one record, in a block that is whole: what lies under a
// key is not what was written there. Besides making the partition lossy, it has
// the record removed, which would be in the way of writes and scans for ever. key
// is the one in the database.
func (s *Store) badRecord(p ring.Partition, key []byte, cause error) error {
	err := s.damage(p, cause)
	if errors.Is(err, ErrCorrupt) {
		s.intake.push(item{ctl: &control{lost: &p, bad: slices.Clone(key), done: make(chan error, 1)}})
	}
	return err
}

// removeBad removes a record that still cannot be read. What it was in the number
// of keys and in the tree, nobody knows.
func (c *committer) removeBad(key []byte) {
	p := partitionOf(key)
	c.counted.Store(false)
	defer c.rebuildTree(p)
	if c.building.newest[string(key)] != nil || c.writing != nil && c.writing.newest[string(key)] != nil {
		return
	}
	b, err := c.engine.db.Get(key, nil)
	if err != nil {
		if !errors.Is(err, leveldb.ErrNotFound) {
			c.rotten(err)
		}
		return
	}
	if checkRecord(key, b) == nil {
		return
	}
	absent := &entry{key: string(key), full: true}
	c.building.removeRecord(p, hashKey(key), absent, absent)
	c.rottenBlocks.Add(1)
}

// note adds a sentence to Health that is about no partition of this store.
func (v *vouching) note(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if sentence := fmt.Sprintf(format, args...); !slices.Contains(v.losses.Sentences, sentence) {
		v.losses.say("%s", sentence)
		v.wake()
	}
}
