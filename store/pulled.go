package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/kithdb/kith/ring"
)

// A note says from whom a partition was pulled whole. It rests on what was pulled,
// as a clock does: it is kept beside the clock, under the same generation, and a
// loss that empties the one voids the other.

// pulledMax bounds the sources of a note: all members of a ring at most.
const pulledMax = ring.MembersMax

var errPulled = errors.New("bad note of a pull")

// NotePulled notes that note.By, this node, has pulled all of a partition from each
// member of note.From, under the fence note.Since. It returns when that is on disk,
// with the merges that were queued before it. Another Since or By replaces what was
// noted, the same unites the sources. A loss in the partition, or its drop, voids
// the note.
//
// It is ErrFenced if the partition's fence is newer, ErrDropping while the partition
// is being dropped. That nothing was lost since the pull began is the caller's to
// know: NotePulledIn asks.
func (s *Store) NotePulled(p ring.Partition, note ring.Pulled) error {
	return s.notePulled(p, note, nil)
}

// NotePulledIn is NotePulled for a pull that began when EraOf, or Era, was era: it is
// ErrEra if the partition's clock was emptied since then.
func (s *Store) NotePulledIn(p ring.Partition, note ring.Pulled, era uint64) error {
	return s.notePulled(p, note, &era)
}

func (s *Store) notePulled(p ring.Partition, note ring.Pulled, era *uint64) error {
	if err := checkPartition(p); err != nil {
		return err
	}
	if note.By.IsZero() || note.Since == 0 || len(note.From) == 0 || len(note.From) > pulledMax {
		return fmt.Errorf("%w: partition %d: by %s under epoch %d from %d members, want 1 to %d",
			errPulled, p, note.By.Short(), note.Since, len(note.From), pulledMax)
	}
	note.From = slices.Clone(note.From)
	return s.do(&control{pulled: &pulled{partition: p, note: note, era: era}})
}

// Pulled is what NotePulled has noted of a partition, from memory; the zero Pulled
// if that is nothing. Its From are sorted, and must not be changed.
func (s *Store) Pulled(p ring.Partition) ring.Pulled { return s.clocks.pulled(p) }

// PulledChanged returns a channel that is closed when something is noted next. That a
// note was voided closes it not.
func (s *Store) PulledChanged() <-chan struct{} {
	s.clocks.mu.Lock()
	defer s.clocks.mu.Unlock()
	return s.clocks.noted
}

// pulled is a note to be kept.
type pulled struct {
	partition ring.Partition
	note      ring.Pulled
	era       *uint64 // nil: whichever it is when the note is applied
	now       uint64  // the era in which it was applied
}

func (c *committer) applyPulled(ctl *control) error {
	n := ctl.pulled
	p := n.partition
	if fence := c.fences[p].Load(); n.note.Since < fence {
		return fmt.Errorf("%w: partition %d: %d < %d", ErrFenced, p, n.note.Since, fence)
	}
	if n.note.Since > c.fences[p].Load() {
		return fmt.Errorf("%w: partition %d: its fence is at epoch %d, the pull was under %d", errPulled, p, c.fences[p].Load(), n.note.Since)
	}
	if c.drops.busy(p) {
		return fmt.Errorf("%w: partition %d", ErrDropping, p)
	}
	c.vouch.moreLost(p)
	n.now = c.clocks.eraOf(p)
	if n.era != nil && *n.era < n.now {
		return fmt.Errorf("%w: partition %d: era %d, now %d", ErrEra, p, *n.era, n.now)
	}
	known := c.clocks.pulled(p)
	for _, under := range c.notes(p, n.now) {
		known = joinPulled(known, under.note)
	}
	n.note = joinPulled(known, n.note)
	c.building.notes = append(c.building.notes, ctl)
	c.building.put(pulledKey(p), encodePulled(c.clocks.generationNow(), n.note))
	return nil
}

// notes are those of a partition and an era that are not yet on disk, the oldest first.
func (c *committer) notes(p ring.Partition, era uint64) (out []*pulled) {
	for _, b := range []*batch{c.writing, c.building} {
		if b == nil {
			continue
		}
		for _, ctl := range b.notes {
			if n := ctl.pulled; n.partition == p && n.now == era {
				out = append(out, n)
			}
		}
	}
	return out
}

// joinPulled is what is noted when next comes after known.
func joinPulled(known, next ring.Pulled) ring.Pulled {
	from := slices.Clone(next.From)
	if known.By == next.By && known.Since == next.Since {
		from = append(from, known.From...)
	}
	slices.SortFunc(from, ring.NodeID.Compare)
	return ring.Pulled{By: next.By, Since: next.Since, From: slices.Compact(from)}
}

// publishNotes lets everybody see the notes of a batch that is on disk. One of whose
// partition something was lost meanwhile counts for nothing.
func (c *committer) publishNotes(b *batch) {
	if len(b.notes) == 0 {
		return
	}
	c.clocks.keep(b.notes)
	for _, ctl := range b.notes {
		// A loss that did not see the note does not take it away.
		n := ctl.pulled
		c.vouch.moreLost(n.partition)
		if now := c.clocks.eraOf(n.partition); now != n.now {
			if len(c.notes(n.partition, now)) == 0 {
				c.building.delete(pulledKey(n.partition))
			}
			ctl.err = fmt.Errorf("%w: partition %d: era %d, now %d", ErrEra, n.partition, n.now, now)
		}
	}
}

// keep takes notes, each if the clock was not emptied since it was applied.
func (c *clocks) keep(notes []*control) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ctl := range notes {
		if n := ctl.pulled; c.eraIn(n.partition) == n.now {
			c.notes[n.partition] = n.note
		}
	}
	close(c.noted)
	c.noted = make(chan struct{})
}

// pulled is the note of a partition.
func (c *clocks) pulled(p ring.Partition) ring.Pulled {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.notes[p]
}

func pulledKey(p ring.Partition) []byte {
	return binary.BigEndian.AppendUint16([]byte(metaPulled), uint16(p))
}

// encodePulled writes a note.
//
//	crc        4 bytes, CRC32C of the rest
//	generation 8 bytes, that of the clocks
//	by         16 bytes
//	since      8 bytes
//	from       16 bytes each, sorted
func encodePulled(generation uint64, n ring.Pulled) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 4), generation)
	b = append(b, n.By[:]...)
	b = binary.BigEndian.AppendUint64(b, n.Since)
	for _, id := range n.From {
		b = append(b, id[:]...)
	}
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

// parsePulled reads what encodePulled wrote.
func parsePulled(b []byte) (generation uint64, n ring.Pulled, err error) {
	const head, id = 4 + 8 + 16 + 8, len(ring.NodeID{})
	if len(b) < head+id || (len(b)-head)%id != 0 || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return 0, n, fmt.Errorf("%w: %d bytes", errPulled, len(b))
	}
	generation, n.By, n.Since = binary.BigEndian.Uint64(b[4:]), ring.NodeID(b[12:]), binary.BigEndian.Uint64(b[28:])
	for b = b[head:]; len(b) > 0; b = b[id:] {
		n.From = append(n.From, ring.NodeID(b))
	}
	return generation, n, nil
}

// loadPulled reads the notes. A damaged one, or one from before a loss, is as good
// as none: what it says is pulled once more.
func (o *opened) loadPulled() error {
	o.notes = make(map[ring.Partition]ring.Pulled)
	it := o.db.NewIterator(util.BytesPrefix([]byte(metaPulled)), nil)
	defer it.Release()
	for it.Next() {
		if len(it.Key()) != len(metaPulled)+2 {
			continue
		}
		p := ring.Partition(binary.BigEndian.Uint16(it.Key()[len(metaPulled):]))
		if generation, n, err := parsePulled(it.Value()); err == nil && generation == o.generation {
			o.notes[p] = n
		}
	}
	if err := it.Error(); err != nil {
		if !corrupted(err) {
			return fmt.Errorf("read notes of pulls: %w", err)
		}
		o.unread = append(o.unread, err)
		o.lose("notes of pulls cannot be read: %v", err)
	}
	return nil
}
