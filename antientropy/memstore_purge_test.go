package antientropy

import (
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// PurgeAll implements Store.
func (s *memStore) PurgeAll(p ring.Partition, records []store.Purged, now uint64) ([]bool, error) {
	gone := make([]bool, len(records))
	for i, r := range records {
		var err error
		if gone[i], err = s.Purge(p, r.Key, r.Leaf, now); err != nil {
			return gone, err
		}
	}
	return gone, nil
}

// MergeAll implements Store.
func (s *memStore) MergeAll(merges []*store.Merge) {
	for _, m := range merges {
		s.Merge(m)
	}
}

// Purge implements Store.
func (s *memStore) Purge(p ring.Partition, key []byte, leaf version.Digest, now uint64) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.part(p)
	r, ok := q.records[string(key)]
	if !ok || r.Leaf() != leaf || !q.clock.Bases().Includes(r.Seen) || s.dead != nil {
		return false, s.dead
	}
	for i := range r.Siblings {
		if x := &r.Siblings[i]; !x.Tombstone && !x.Expired(now) {
			return false, nil
		}
	}
	delete(q.records, string(key))
	q.disk = q.clock.Clone()
	s.now++
	q.changed = s.now
	return true, nil
}
