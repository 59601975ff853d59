package antientropy

import (
	"slices"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
)

// Fence implements Store.
func (s *memStore) Fence(p ring.Partition) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fences[p]
}

// EraOf implements Store.
func (s *memStore) EraOf(ring.Partition) uint64 { return s.Era() }

// adopt raises fences and drops partitions, all at once.
func (s *memStore) adopt(rec *ring.Record, drops []ring.Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, since := range rec.Since {
		s.fences[ring.Partition(p)] = max(s.fences[ring.Partition(p)], since)
	}
	for _, p := range drops {
		delete(s.parts, p)
		delete(s.ends, p)
		delete(s.notes, p)
	}
}

// NotePulledIn implements Store.
func (s *memStore) NotePulledIn(p ring.Partition, note ring.Pulled, era uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch known := s.notes[p]; {
	case s.dead != nil:
		return s.dead
	case era != s.era:
		return errMemEra
	case note.Since < s.fences[p]:
		return store.ErrFenced
	case known.By == note.By && known.Since == note.Since:
		note.From = slices.Concat(known.From, note.From)
	}
	note.From = slices.Clone(note.From)
	slices.SortFunc(note.From, ring.NodeID.Compare)
	note.From = slices.Compact(note.From)
	s.notes[p] = note
	return nil
}

// Pulled implements Store.
func (s *memStore) Pulled(p ring.Partition) ring.Pulled {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.notes[p]
}
