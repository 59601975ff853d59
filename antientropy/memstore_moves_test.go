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
func (s *memStore) EraOf(p ring.Partition) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.emptiedAt(p)
}

// emptiedAt is the era in which a partition's clock was emptied last; mu is held.
func (s *memStore) emptiedAt(p ring.Partition) uint64 {
	if q := s.parts[p]; q != nil {
		return max(s.emptied, q.emptied)
	}
	return s.emptied
}

// nextEra begins an era, and empties all clocks in it or the caller does one; mu is held.
func (s *memStore) nextEra(all bool) {
	s.era += 1 + s.draw()>>32
	if all {
		s.emptied = s.era
	}
}

// adopt raises fences and drops partitions, all at once.
func (s *memStore) adopt(rec *ring.Record, drops []ring.Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, since := range rec.Since {
		s.fences[ring.Partition(p)] = max(s.fences[ring.Partition(p)], since)
	}
	for _, p := range drops {
		s.nextEra(false)
		s.parts[p] = nil
		s.part(p).emptied = s.era
		delete(s.ends, p)
		delete(s.notes, p)
	}
}

// ToHandOver implements Store: what is dropped is gone at once.
func (s *memStore) ToHandOver() []store.Drop { return nil }

// HandOver implements Store.
func (s *memStore) HandOver(store.Drop, []store.Clock, int) {}

// NotePulledIn implements Store.
func (s *memStore) NotePulledIn(p ring.Partition, note ring.Pulled, era uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch known := s.notes[p]; {
	case s.dead != nil:
		return s.dead
	case s.emptiedAt(p) > era:
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
