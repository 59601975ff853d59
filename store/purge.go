package store

import (
	"encoding/binary"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// purge is a record to forget.
type purge struct {
	partition ring.Partition
	leaf      version.Digest
	now       uint64
	link      link
	done      bool // the record was what it had to be, and is gone
}

// Purge removes the record of a key if its leaf is still the given one, all its
// siblings are tombstones or had expired at the time given in milliseconds since
// 1970, and the bases of the partition's clock cover all that it has seen: then
// nothing that is older can come any more that the clock would not stop. It
// returns when that is on disk; false says that one of these does not hold, or
// that a write of the key is under way.
//
// Whether the other homes may need the record is the caller's to know.
func (s *Store) Purge(p ring.Partition, key []byte, leaf version.Digest, now uint64) (bool, error) {
	gone, err := s.PurgeAll(p, []Purged{{key, leaf}}, now)
	return gone[0], err
}

// Purged names a record to forget, by its key and the leaf that it must have.
type Purged struct {
	Key  []byte
	Leaf version.Digest
}

// PurgeAll is Purge of many records of a partition, which are handed in together
// and so share a batch. With an error, those that it does not call gone may be.
func (s *Store) PurgeAll(p ring.Partition, records []Purged, now uint64) ([]bool, error) {
	gone := make([]bool, len(records))
	var all []item
	var at []int // which record each is of
	var failed error
	for i := range records {
		u, err := s.preparePurge(p, &records[i], now)
		if err != nil {
			failed = err
			break
		}
		if u != nil {
			all, at = append(all, item{ctl: &control{purge: u, done: make(chan error, 1)}}), append(at, i)
		}
	}
	if !s.intake.push(all...) {
		return gone, ErrClosed
	}
	for n, i := range all {
		err := <-i.ctl.done
		if gone[at[n]] = i.ctl.purge.done && err == nil; err != nil && failed == nil {
			failed = err
		}
	}
	return gone, failed
}

// preparePurge looks at a record before the committer does, which should not wait
// for the disk; nil if the record must stay.
func (s *Store) preparePurge(p ring.Partition, r *Purged, now uint64) (*purge, error) {
	if err := checkKey(p, r.Key); err != nil {
		return nil, err
	}
	u := &purge{partition: p, leaf: r.Leaf, now: now}
	u.link.key = appendDataKey(nil, p, r.Key)
	u.link.hash, u.link.mark = hashKey(u.link.key), s.drops.mark(p)
	e, gen := s.cache.get(u.link.hash, u.link.key)
	if e == nil {
		var err error
		if e, err = s.load(p, u.link.key); err != nil {
			return nil, err
		}
		s.cache.add(u.link.hash, e, gen)
	}
	if !u.holds(e) {
		return nil, nil
	}
	return u, nil
}

// holds says that the record may go, as far as it tells by itself.
func (u *purge) holds(e *entry) bool {
	if e.absent() || version.LeafOf(e.encoded) != u.leaf {
		return false
	}
	for i := range e.rec.Siblings {
		if sib := &e.rec.Siblings[i]; !sib.Tombstone && !sib.Expired(u.now) {
			return false
		}
	}
	return true
}

func (c *committer) applyPurge(u *purge) error {
	if err := c.drops.intact(u.partition, u.link.mark); err != nil {
		return err
	}
	prev, in, err := c.lookup(u.partition, &u.link)
	if err != nil {
		return err
	}
	if in != nil || !u.holds(prev) || !c.clocks.covers(u.partition, prev.rec.Seen) {
		return nil
	}
	u.done = true
	c.remove(u.partition, &u.link, prev, prev.rec.Seen)
	return nil
}

// remove deletes the record of a key that has seen all of seen. Only the clock
// keeps from then on that its writes were here, so the clock goes to disk with
// the deletion.
func (c *committer) remove(p ring.Partition, l *link, prev *entry, seen version.Context) {
	e := &entry{key: string(l.key), full: true}
	e.rec = version.Record{Key: []byte(e.key[dataKeySize:]), Seen: seen}
	if !prev.absent() {
		c.building.newKeys--
	}
	c.building.removeRecord(p, l.hash, e, prev)
}

// putClocks adds to the batch the clocks that must be on disk with it. What it
// claims itself is not in memory yet; all that came before is, as no other batch
// is under way.
func (c *committer) putClocks() {
	b := c.building
	for _, p := range b.clocked {
		clock := c.clocks.of(p)
		own := c.actors.current(p).actor
		for i := range b.records {
			if w := &b.records[i]; w.partition == p {
				clock.addRecord(&w.rec, own, func(version.Dot) {})
			}
		}
		for _, claim := range b.claims {
			if claim.partition == p && c.checkEra(claim) == nil {
				clock.AddAll(claim.dots)
			}
		}
		b.put(clockKey(p), clock.Append(binary.BigEndian.AppendUint64(nil, c.clocks.generation)))
	}
}
