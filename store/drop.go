package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/kithdb/kith/ring"
)

// A partition that this node keeps no longer is dropped: its records, clock, dot log,
// tree and note go, its actor ends, and its fence stays. What nobody else has of the
// records is kept as stand-ins: see HandOver. That takes time, and a
// deletion that comes late must not meet what was acknowledged after it. So the
// batch that makes the ring record durable also names the partition as dropping, and
// from then on it takes and gives nothing, with ErrDropping, until nothing of it is
// left and its name is gone too, durably. No write can be both accepted and older
// than the drop, whatever crashes between: either the name is on disk, and everything
// of the partition is from before, or all of it is gone.
//
// The ends of actors stay: they are what this node has promised to refuse, and say
// nothing of what it holds. Stand-ins stay: they are other members'.

// ErrDropping: the partition is being dropped. Nothing of it is read or written until
// that is done, which takes moments.
var ErrDropping = errors.New("partition is being dropped")

// drops says which partitions are being dropped. The committer alone changes it.
type drops struct {
	// marks are odd while a partition is being dropped. Who reads finds the same
	// even mark before and after, or has read what may be half gone.
	marks [ring.SlotCount]atomic.Uint32

	mu      sync.Mutex // guards what follows
	pending map[ring.Partition]*dropping
	// done are the numbers of the latest drops of this process that came to
	// their end: a name on disk that is not newer is there again by mistake.
	done map[ring.Partition]uint64

	wake     chan struct{} // holds a token while there may be something to drop
	handOver bool          // what is dropped waits for HandOver
}

// dropping is the drop of one partition.
type dropping struct {
	number uint64 // of the batch that named it
	// named is set once its name is on disk, and ending once the batch that takes
	// it away is on its way there.
	named, ending bool
	// doubtful says that it may have been over before: what it deletes may have
	// been acknowledged later, and is named as a loss.
	doubtful bool
	// held says who else has what it holds; nil while that is not known. Nothing of
	// the partition changes meanwhile, so that it stays true when the drop begins anew.
	held *heldElsewhere
}

// newDrops makes drops that wait until they are told who else has what they hold, or
// that delete all.
func newDrops(handOver bool) *drops {
	return &drops{pending: make(map[ring.Partition]*dropping), done: make(map[ring.Partition]uint64),
		wake: make(chan struct{}, 1), handOver: handOver}
}

// mark is to be compared with by intact.
func (d *drops) mark(p ring.Partition) uint32 { return d.marks[p].Load() }

// intact says that the partition is not being dropped, and was not since mark.
func (d *drops) intact(p ring.Partition, mark uint32) error {
	if mark%2 != 0 || d.marks[p].Load() != mark {
		return fmt.Errorf("%w: partition %d", ErrDropping, p)
	}
	return nil
}

// busy says that the partition is being dropped.
func (d *drops) busy(p ring.Partition) bool { return d.marks[p].Load()%2 != 0 }

// begin notes a drop that the batch of a number names.
func (d *drops) begin(p ring.Partition, number uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if one := d.pending[p]; one != nil {
		// Nothing has been written to it since.
		one.number, one.ending = number, false
		return
	}
	d.pending[p] = &dropping{number: number}
	d.marks[p].Add(1)
}

// named says that the name of a partition is on disk.
func (d *drops) named(p ring.Partition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if one := d.pending[p]; one != nil {
		one.named = true
	}
	signal(d.wake)
}

// end begins the end of a drop: nothing is left. It is nil for one that was begun
// anew, or is over.
func (d *drops) end(p ring.Partition) *dropping {
	d.mu.Lock()
	defer d.mu.Unlock()
	one := d.pending[p]
	if one == nil || !one.named {
		return nil
	}
	one.ending = true
	return one
}

// ended lets the partition be used again.
func (d *drops) ended(p ring.Partition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if one := d.pending[p]; one != nil && one.ending {
		d.done[p] = one.number
		delete(d.pending, p)
		d.marks[p].Add(1)
	}
}

// list are the partitions whose name is on disk, sorted. See ready for those that may go.
func (d *drops) list() (out []ring.Partition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for p, one := range d.pending {
		if one.named {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// certain is the number of a drop that does not come again by mistake, and is not about
// to be over.
func (d *drops) certain(p ring.Partition) (number uint64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	one := d.pending[p]
	if one == nil || one.doubtful || one.ending {
		return 0, false
	}
	return one.number, true
}

// Dropping lists, sorted, the partitions that are being dropped.
func (s *Store) Dropping() []ring.Partition {
	s.drops.mu.Lock()
	defer s.drops.mu.Unlock()
	return slices.Sorted(maps.Keys(s.drops.pending))
}

// beginDrops begins the drops of an adoption, with the batch that holds its record.
func (c *committer) beginDrops(partitions []ring.Partition) {
	b := c.building
	for _, p := range partitions {
		c.drops.begin(p, b.number)
		c.actors.retire(p)
		c.keepPromises(p)
		c.nameDrop(p, b.number)
		b.dropped = append(b.dropped, p)
	}
}

// nameDrop names a drop that begins, or goes on in another generation.
func (c *committer) nameDrop(p ring.Partition, number uint64) {
	c.building.put(droppingKey(p), encodeDropping(c.clocks.generationNow(), number))
}

// renameDrops names the drops again that are not over, when the generation has changed.
func (c *committer) renameDrops() {
	for _, p := range c.drops.list() {
		if number, known := c.drops.certain(p); known {
			c.nameDrop(p, number)
		}
	}
}

// keepPromises adds to the fences of actors what this node has held: it will hold it no
// longer, and must take it again.
func (c *committer) keepPromises(p ring.Partition) {
	clock := c.clocks.of(p)
	for _, e := range c.endings.of(p) {
		i, ok := clock.find(e.Actor)
		if e.Closed || !ok {
			continue
		}
		now, more := e.with(Ending{Actor: e.Actor, Dots: clock.Actors[i].ranges()})
		if more && now.check() == nil {
			c.endings.set(p, now)
			c.building.put(endingKey(p, now.Actor), now.Append(nil))
		}
	}
}

// void forgets what memory has of partitions that are being dropped.
func (c *committer) void(partitions []ring.Partition) {
	if len(partitions) == 0 {
		return
	}
	c.clocks.drop(partitions)
	for _, p := range partitions {
		c.trees.drop(p)
		c.dotLog.drop(p)
		c.rebuilds.waiting = slices.DeleteFunc(c.rebuilds.waiting, func(q ring.Partition) bool { return q == p })
	}
}

// publishDrops follows a batch that is on disk, before the dot log is written: none of
// its blocks comes behind the drop.
func (c *committer) publishDrops(b *batch) {
	c.void(b.dropped)
	for _, p := range b.dropped {
		c.drops.named(p)
	}
	c.void(b.ended)
	for _, p := range b.ended {
		c.logBlocks[p] = []uint64{}
		c.drops.ended(p)
	}
	if len(b.ended) > 0 {
		c.vouch.told()
	}
}

// dropPiece is something of dropped partitions to delete, or the end of drops.
type dropPiece struct {
	opening int64 // reopenings when it was read
	keys    [][]byte
	records int // of the keys
	// kept are those of the records that become stand-ins.
	kept  []keptRecord
	ended []ring.Partition
}

var errReopened = fmt.Errorf("%w: the files were opened anew", ErrFailed)

func (c *committer) applyDropPiece(d *dropPiece) error {
	if d.opening != c.reopenings.Load() {
		return errReopened
	}
	b := c.building
	if err := c.keepDropped(d.kept); err != nil {
		return err
	}
	for _, key := range d.keys {
		b.delete(key)
	}
	b.newKeys -= d.records
	for _, p := range d.ended {
		one := c.drops.end(p)
		if one == nil {
			continue
		}
		for _, key := range [][]byte{droppingKey(p), clockKey(p), treeKey(p), pulledKey(p)} {
			b.delete(key)
		}
		if !one.doubtful && c.vouch.dropped(p) {
			b.put([]byte(metaLosses), c.vouch.encoded())
		}
		b.ended = append(b.ended, p)
	}
	return nil
}

// dropped ends the loss of a partition: what was lost would be gone by now. It says
// whether there was one.
func (v *vouching) dropped(p ring.Partition) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.again, p)
	if !v.losses.has(p) {
		return false
	}
	v.losses.mend(p)
	v.losses.settle(v.count)
	v.mirror()
	v.wake()
	return true
}

// told wakes those who wait for a change of Health, or of CountsForRead.
func (v *vouching) told() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.wake()
}

func droppingKey(p ring.Partition) []byte {
	return binary.BigEndian.AppendUint16([]byte(metaDropping), uint16(p))
}

// encodeDropping writes what is kept of a drop: a CRC32C, the generation of the clocks,
// and the number of the batch.
func encodeDropping(generation, number uint64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 4, 20), generation)
	b = binary.BigEndian.AppendUint64(b, number)
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

// loadDrops reads which partitions are being dropped. A name from before a loss may be
// an old one, whose end was lost: that is for the committer to say, which may remember
// it. A damaged one is taken for such.
func (o *opened) loadDrops() error {
	o.drops = make(map[ring.Partition]*dropping)
	it := o.db.NewIterator(util.BytesPrefix([]byte(metaDropping)), nil)
	defer it.Release()
	for it.Next() {
		if len(it.Key()) != len(metaDropping)+2 {
			continue
		}
		p := ring.Partition(binary.BigEndian.Uint16(it.Key()[len(metaDropping):]))
		b := it.Value()
		one := &dropping{named: true, doubtful: true}
		if len(b) == 20 && binary.BigEndian.Uint32(b) == crc32.Checksum(b[4:], castagnoli) {
			one.doubtful = binary.BigEndian.Uint64(b[4:]) != o.generation
			one.number = binary.BigEndian.Uint64(b[12:])
		}
		if p < ring.SlotCount {
			o.drops[p] = one
		}
	}
	if err := it.Error(); err != nil {
		if !corrupted(err) {
			return fmt.Errorf("read what is being dropped: %w", err)
		}
		o.unread = append(o.unread, err)
		o.lose("what is being dropped cannot be read: %v", err)
	}
	return nil
}

// installDrops takes what the disk says of drops, where this process does not know
// better: a drop that was over stays over, and one that was named goes on.
func (c *committer) installDrops(loaded map[ring.Partition]*dropping) {
	d := c.drops
	d.mu.Lock()
	for p, one := range d.pending {
		on := loaded[p]
		switch {
		case on != nil && (on.number == one.number || one.named):
			on.doubtful, on.held = one.doubtful, one.held
			if !on.doubtful {
				c.nameDrop(p, on.number)
			}
		case on == nil && one.named && !one.ending:
			// The disk has lost it.
			one := *one
			one.ending = false
			loaded[p] = &one
			c.nameDrop(p, one.number)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(loaded)) {
		if number, over := d.done[p]; over && loaded[p].number <= number {
			delete(loaded, p)
			c.building.delete(droppingKey(p))
		}
	}
	var changed []ring.Partition
	for p := range ring.Partition(ring.SlotCount) {
		if odd := d.marks[p].Load()%2 != 0; odd != (loaded[p] != nil) {
			d.marks[p].Add(1)
			changed = append(changed, p)
		}
	}
	d.pending = loaded
	d.mu.Unlock()
	dropping := slices.Sorted(maps.Keys(loaded))
	c.void(dropping)
	for _, p := range dropping {
		if loaded[p].doubtful {
			c.loseDoubtful(p)
		}
	}
	if len(changed) > 0 {
		c.vouch.told()
	}
}

// loseDoubtful names the loss of a partition that is dropped perhaps once too often.
func (c *committer) loseDoubtful(p ring.Partition) {
	c.vouch.lose(p, "partition %d: it was to be dropped, and what told when that was over may be lost", p)
	c.building.put([]byte(metaLosses), c.vouch.encoded())
}
