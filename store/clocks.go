package store

import (
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// clocks are the partition clocks in memory. They hold dots of synced records
// only, so what they say is durable; the copies on disk lag some seconds behind.
type clocks struct {
	// era is written with mu held. A clock is emptied and era raised in one
	// step, so that who reads the same era before and after a clock has read
	// what that era claims.
	era atomic.Uint64

	mu   sync.Mutex // guards what follows
	byID map[ring.Partition]*partitionClock
	log  *dotLog // of what is newly claimed; not guarded
	// endings of actors; not guarded.
	endings *endings
	dirty   map[ring.Partition]struct{} // not yet on disk as they are
	// changes counts the changes of clocks in this era, from 1 on.
	changes uint64
	// generation stands before every clock and note on disk: a loss raises it,
	// and voids them all without touching them.
	generation uint64
	// notes say from whom partitions were pulled; what empties a clock voids its
	// note.
	notes map[ring.Partition]ring.Pulled
	// noted is closed at the next change of notes.
	noted chan struct{}
	// emptied is the era in which all clocks were emptied last, emptiedAt those in
	// which single ones were since.
	emptied   uint64
	emptiedAt map[ring.Partition]uint64
	// dropped are partitions of which the scan of this opening tells nothing.
	dropped map[ring.Partition]struct{}
}

// partitionClock is a clock and the number of its last change.
type partitionClock struct {
	Clock
	changed uint64
}

// eraBits are the bits of an era that count; above them stands the boot, so that
// no era comes twice in a node's life.
const eraBits = 32

func newClocks(log *dotLog, endings *endings) *clocks {
	return &clocks{log: log, endings: endings, byID: make(map[ring.Partition]*partitionClock), dirty: make(map[ring.Partition]struct{}),
		notes: make(map[ring.Partition]ring.Pulled), noted: make(chan struct{}), emptiedAt: make(map[ring.Partition]uint64), dropped: make(map[ring.Partition]struct{})}
}

// nextEra voids what was read of clocks before. mu is held.
func (c *clocks) nextEra() {
	c.era.Add(1)
	c.changes = 1
	c.endings.newEra()
}

// at returns the clock of p, making one if there is none. mu is held.
func (c *clocks) at(p ring.Partition) *partitionClock {
	clock := c.byID[p]
	if clock == nil {
		clock = new(partitionClock)
		c.byID[p] = clock
	}
	clock.room = c.endings.closed(p)
	return clock
}

// touch notes a change of the clock of p. mu is held.
func (c *clocks) touch(p ring.Partition, clock *partitionClock) {
	c.changes++
	clock.changed = c.changes
	c.dirty[p] = struct{}{}
}

// incorporated adds what a committed record has seen at least: the last dot of
// each actor in Seen and the dots of its siblings. mine is the actor that this
// store mints with in the partition. key is for the dot log. mu is held.
func (c *clocks) incorporated(p ring.Partition, r *version.Record, mine version.Actor, key loggedAs) {
	clock := c.at(p)
	if clock.addRecord(r, mine, func(d version.Dot) {
		if key.known() {
			c.log.note(p, d, key.get())
		}
	}) || clock.room > 0 && c.beyond(p, clock, r.Seen) {
		c.touch(p, clock)
	}
}

// addRecord claims the last dot of each actor in Seen, and the siblings' dots. It
// gives those to claimed that are new.
func (c *Clock) addRecord(r *version.Record, mine version.Actor, claimed func(version.Dot)) (changed bool) {
	for _, d := range r.Seen {
		if c.Add(d, d.Actor == mine) {
			changed = true
			claimed(d)
		}
	}
	for i := range r.Siblings {
		d := r.Siblings[i].Dot
		if r.Seen.Max(d.Actor) != d.Seq && c.Add(d, d.Actor == mine) {
			changed = true
			claimed(d)
		}
	}
	return changed
}

// scanned is found for a record that was read by the scan of this opening.
func (c *clocks) scanned(p ring.Partition, r *version.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, dropped := c.dropped[p]; !dropped {
		c.incorporated(p, r, 0, loggedAs{})
	}
}

// found is incorporated for a record that is committed already.
func (c *clocks) found(p ring.Partition, r *version.Record, mine version.Actor, key loggedAs) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.incorporated(p, r, mine, key)
}

// claimAll adds dots, if the clock was not emptied since the given era. mu is held.
func (c *clocks) claimAll(p ring.Partition, dots DotSet, era uint64) bool {
	if c.eraIn(p) > era {
		return false
	}
	if clock := c.at(p); clock.AddAll(dots) {
		c.touch(p, clock)
	}
	return true
}

// forget empties the clock of a partition.
func (c *clocks) forget(p ring.Partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nextEra()
	c.empty(p)
}

// drop empties the clocks of partitions that are being dropped, whatever a scan finds
// of them.
func (c *clocks) drop(partitions []ring.Partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nextEra()
	for _, p := range partitions {
		c.empty(p)
		c.dropped[p] = struct{}{}
	}
}

// empty empties a clock in the era that has begun for it. mu is held.
func (c *clocks) empty(p ring.Partition) {
	delete(c.byID, p)
	delete(c.dirty, p)
	delete(c.notes, p)
	c.emptiedAt[p] = c.era.Load()
}

// forgetAll empties all clocks.
func (c *clocks) forgetAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nextEra()
	c.emptyAll()
}

// emptyAll empties all clocks in the era that has begun for it. mu is held.
func (c *clocks) emptyAll() {
	clear(c.byID)
	clear(c.dirty)
	clear(c.notes)
	clear(c.emptiedAt)
	c.emptied = c.era.Load()
}

// eraIn is the era in which the clock of p was emptied last. mu is held.
func (c *clocks) eraIn(p ring.Partition) uint64 { return max(c.emptied, c.emptiedAt[p]) }

func (c *clocks) eraOf(p ring.Partition) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.eraIn(p)
}

func (c *clocks) generationNow() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.generation
}

// void makes the clocks on disk worth nothing once generation is there too.
func (c *clocks) void(generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation = generation
}

// reset puts what was loaded in place of all.
func (c *clocks) reset(o *opened) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nextEra()
	c.era.Store(max(c.era.Load(), o.boot<<eraBits))
	c.emptyAll()
	clear(c.dropped)
	for p, clock := range o.clocks {
		c.byID[p] = &partitionClock{Clock: *clock}
	}
	maps.Copy(c.notes, o.notes)
	c.generation = o.generation
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

// covers says that the bases of the clock of p cover all of ctx.
func (c *clocks) covers(p ring.Partition, ctx version.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	clock := c.byID[p]
	return clock != nil && clock.Covers(ctx)
}

func (c *clocks) of(p ring.Partition) Clock {
	c.mu.Lock()
	defer c.mu.Unlock()
	if clock := c.byID[p]; clock != nil {
		return clock.Clone()
	}
	return Clock{}
}

// changedSince lists the partitions whose clock has changed since the count of
// changes was since, all of them for 0 or a count that this era has not reached.
func (c *clocks) changedSince(since uint64) (changed []ring.Partition, now uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := since == 0 || since > c.changes
	if !all && since == c.changes {
		return nil, c.changes
	}
	for p, clock := range c.byID {
		if all || clock.changed > since {
			changed = append(changed, p)
		}
	}
	slices.Sort(changed)
	return changed, c.changes
}

// drainDirty gives the encodings of changed clocks to each, until they are
// bytesMax long together. It says whether some are left.
func (c *clocks) drainDirty(bytesMax int, each func(p ring.Partition, encoded []byte)) (left bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dirty := make([]ring.Partition, 0, len(c.dirty))
	for p := range c.dirty {
		dirty = append(dirty, p)
	}
	slices.Sort(dirty)
	var b []byte
	for _, p := range dirty {
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

// Era changes whenever clocks were emptied or the files opened anew: what was
// read of clocks before is then void. No number comes twice in the life of the
// store's directory.
func (s *Store) Era() uint64 { return s.clocks.era.Load() }

// EraOf is the Era in which the clock of a partition was emptied last: what was read
// of it, or merged for it, since a reading of EraOf or Era that is not older still
// counts.
func (s *Store) EraOf(p ring.Partition) uint64 { return s.clocks.eraOf(p) }

// ClockOf returns the dots that are incorporated on this disk in a partition; none
// while it is being dropped.
func (s *Store) ClockOf(p ring.Partition) Clock {
	if s.drops.busy(p) {
		return Clock{}
	}
	return s.clocks.of(p)
}

// ClocksChanged lists, sorted, the partitions whose clock has changed since the
// reading now of an earlier call in the same Era; 0 lists all that have a clock.
func (s *Store) ClocksChanged(since uint64) (changed []ring.Partition, now uint64) {
	return s.clocks.changedSince(since)
}
