package store

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// A partition that is dropped may hold what was acknowledged here and nowhere else: its
// slot may have moved while nobody reached this node. So with Options.HandOver its
// records stay where they are, as it is named as dropping, and nobody reads or writes
// them, until somebody says what the new homes have. What they have is deleted then.
// Any other record becomes a stand-in in the batch that deletes it here. It counts for
// no read, goes home as all stand-ins do, and the partition can be used again.
//
// What is claimed elsewhere is not kept in any form that outlives the process: after a
// crash what is left is asked for again.

// Drop is the drop of a partition that waits for HandOver. Two are equal if they are of
// one adoption.
type Drop struct {
	Partition ring.Partition
	number    uint64
}

// heldElsewhere says which records of a dropped partition others have.
type heldElsewhere struct {
	claims []Clock
	need   int
}

// has says that enough others hold a record's siblings, or what has replaced them.
func (h *heldElsewhere) has(r *version.Record) bool {
	n := 0
	for i := range h.claims {
		if h.claims[i].HasSiblings(r) {
			n++
		}
	}
	return n >= h.need
}

// ToHandOver lists, by partition, the drops that wait for HandOver. None do without
// Options.HandOver.
func (s *Store) ToHandOver() (out []Drop) {
	s.drops.mu.Lock()
	defer s.drops.mu.Unlock()
	if !s.drops.handOver {
		return nil
	}
	for p, one := range s.drops.pending {
		if one.held == nil {
			out = append(out, Drop{p, one.number})
		}
	}
	slices.SortFunc(out, func(x, y Drop) int { return int(x.Partition) - int(y.Partition) })
	return out
}

// HandOver lets a drop go on. A record whose siblings at least need of the clocks claim,
// each all of them, is deleted; any other becomes a stand-in for the zero Home, which
// nobody is. claims are the clocks of homes of the partition, other members', and must
// not be changed afterwards; with fewer than need of them, all records are kept. need is
// at least 1. It does not block, and does nothing for a drop that is over, that began
// anew, or that was told before.
func (s *Store) HandOver(d Drop, claims []Clock, need int) {
	s.drops.mu.Lock()
	defer s.drops.mu.Unlock()
	if one := s.drops.pending[d.Partition]; one != nil && one.number == d.number && one.held == nil {
		one.held = &heldElsewhere{claims, max(need, 1)}
		signal(s.drops.wake)
	}
}

// readyDrop is a drop that may go on. held is nil if all is to be deleted.
type readyDrop struct {
	partition ring.Partition
	held      *heldElsewhere
}

// ready are the drops that may go on, by partition.
func (d *drops) ready() (out []readyDrop) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for p, one := range d.pending {
		if one.named && (one.held != nil || !d.handOver) {
			out = append(out, readyDrop{p, one.held})
		}
	}
	slices.SortFunc(out, func(x, y readyDrop) int { return int(x.partition) - int(y.partition) })
	return out
}

// keptRecord is a record of a dropped partition that becomes a stand-in. With an error
// it is damaged, and nothing of it can be kept.
type keptRecord struct {
	partition ring.Partition
	key       []byte // without its prefix
	encoded   []byte
	record    version.Record
	err       error
}

// keeps says whether a record, under a database key, is to be kept.
func (r readyDrop) keeps(key, encoded []byte) (k keptRecord, is bool) {
	if r.held == nil {
		return k, false
	}
	k = keptRecord{partition: r.partition, key: key[dataKeySize:]}
	head, err := version.ParseHeader(encoded)
	if err == nil && r.held.has(&head) {
		return k, false
	}
	if err == nil {
		k.encoded = bytes.Clone(encoded)
		k.record, err = version.Parse(k.encoded)
	}
	if err == nil && !bytes.Equal(k.record.Key, k.key) {
		err = fmt.Errorf("found key %.64q", k.record.Key)
	}
	k.err = err
	return k, true
}

// keepDropped makes stand-ins of records that are deleted with the same batch: of all of
// them, or of none.
func (c *committer) keepDropped(records []keptRecord) error {
	type change struct {
		key        string
		next, kept []byte
	}
	var changes []change
	for i := range records {
		k := &records[i]
		if k.err != nil {
			c.vouch.note("partition %d, key %.64q, which was to be handed over: %v", k.partition, k.key, k.err)
			c.logger.Error("a record that was to be handed over was damaged and is lost", "partition", k.partition, "key", fmt.Sprintf("%.64q", k.key), "error", k.err)
			c.building.put([]byte(metaLosses), c.vouch.encoded())
			continue
		}
		key := appendStandInKey(nil, ring.NodeID{}, k.partition, k.key)
		kept, err := c.keptStandIn(key)
		if err != nil {
			return err
		}
		next, err := c.joinKept(k, kept)
		if err != nil {
			return err
		}
		if next != nil {
			changes = append(changes, change{string(key), next, kept})
		}
	}
	for _, ch := range changes {
		c.building.putStandIn(ch.key, ch.next, ch.kept)
	}
	return nil
}

// joinKept is what is kept of a dropped record beside what is kept of its key already,
// from an earlier drop; nil where that is all.
func (c *committer) joinKept(k *keptRecord, kept []byte) ([]byte, error) {
	if kept == nil {
		return k.encoded, nil
	}
	old, err := version.Parse(kept)
	switch {
	case err != nil:
		c.standInLost(ring.NodeID{}, k.partition, k.key, err)
		c.building.put([]byte(metaLosses), c.vouch.encoded())
		return k.encoded, nil
	case old.Dominates(&k.record):
		return nil, nil
	case k.record.Dominates(&old):
		return k.encoded, nil
	}
	rec := version.Merge(k.record, old)
	if err := checkBounds(&rec); err != nil {
		return nil, err // until what is kept has gone home
	}
	return rec.Append(make([]byte, 0, rec.Size())), nil
}
