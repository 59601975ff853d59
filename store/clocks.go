package store

import (
	"encoding/binary"
	"sync"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// clocks are the partition clocks in memory. They hold dots of synced records
// only, so what they say is durable; the copies on disk lag some seconds behind.
type clocks struct {
	mu    sync.Mutex // guards what follows
	byID  map[ring.Partition]*Clock
	dirty map[ring.Partition]struct{} // not yet on disk as they are
	// generation stands before every clock on disk: a loss raises it, and
	// voids them all without touching them.
	generation uint64
}

func newClocks() *clocks {
	return &clocks{byID: make(map[ring.Partition]*Clock), dirty: make(map[ring.Partition]struct{})}
}

// incorporated adds what a committed record has seen at least: the last dot of
// each actor in Seen and the dots of its siblings. mine is the actor that this
// store mints with in the partition.
func (c *clocks) incorporated(p ring.Partition, r *version.Record, mine version.Actor) {
	clock := c.byID[p]
	if clock == nil {
		clock = new(Clock)
		c.byID[p] = clock
	}
	changed := false
	for _, d := range r.Seen {
		changed = clock.Add(d, d.Actor == mine) || changed
	}
	for i := range r.Siblings {
		d := r.Siblings[i].Dot
		if r.Seen.Max(d.Actor) != d.Seq {
			changed = clock.Add(d, d.Actor == mine) || changed
		}
	}
	if changed {
		c.dirty[p] = struct{}{}
	}
}

// found is incorporated for one record that a scan read.
func (c *clocks) found(p ring.Partition, r *version.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.incorporated(p, r, 0)
}

// forget empties the clock of a partition.
func (c *clocks) forget(p ring.Partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byID, p)
	delete(c.dirty, p)
}

// reset puts loaded clocks in place of all.
func (c *clocks) reset(loaded map[ring.Partition]*Clock, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byID, c.generation = loaded, generation
	clear(c.dirty)
}

// knows says that the clock of p names the actor.
func (c *clocks) knows(p ring.Partition, a version.Actor) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	clock := c.byID[p]
	if clock == nil {
		return false
	}
	_, ok := clock.find(a)
	return ok
}

func (c *clocks) of(p ring.Partition) Clock {
	c.mu.Lock()
	defer c.mu.Unlock()
	if clock := c.byID[p]; clock != nil {
		return clock.Clone()
	}
	return Clock{}
}

// drainDirty gives the encodings of changed clocks to each, until they are
// bytesMax long together. It says whether some are left.
func (c *clocks) drainDirty(bytesMax int, each func(p ring.Partition, encoded []byte)) (left bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b []byte
	for p := range c.dirty {
		if bytesMax <= 0 {
			return true
		}
		b = c.byID[p].Append(binary.BigEndian.AppendUint64(b[:0], c.generation))
		each(p, b)
		bytesMax -= len(b)
		delete(c.dirty, p)
	}
	return false
}
