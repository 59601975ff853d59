package antientropy

import (
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
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
