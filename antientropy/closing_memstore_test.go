package antientropy

import (
	"slices"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// memEnds are the ends of actors of a partition, and the change with which one was
// closed last.
type memEnds struct {
	all     []store.Ending
	changed uint64
}

// ended says why a record is refused; mu is held.
func (s *memStore) ended(p ring.Partition, r *version.Record) error {
	q := s.part(p)
	return store.Refused(s.ends[p].all, r, q.clock.Has)
}

// Endings implements Store.
func (s *memStore) Endings(p ring.Partition) ([]store.Ending, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ends[p].all, s.ends[p].changed
}

// End implements Store.
func (s *memStore) End(p ring.Partition, ends []store.Ending, _ uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.ends[p]
	known.all = slices.Clone(known.all)
	q := s.part(p)
	for _, e := range ends {
		at, ok := slices.BinarySearchFunc(known.all, e.Actor, compareEnding)
		switch {
		case !ok:
			known.all = slices.Insert(known.all, at, e)
		case known.all[at].Closed:
		case e.Closed:
			known.all[at] = e
		default:
			known.all[at].Dots = uniteRanges(known.all[at].Dots, e.Dots)
		}
		if q.actor == e.Actor {
			q.actor, q.last = 0, 0
		}
		if e.Closed {
			if holes := e.Holes(); len(holes) > 0 {
				q.clock.AddAll(store.DotSet{{Actor: e.Actor, Ranges: holes}})
			}
			s.now++
			q.changed, known.changed = s.now, s.now
		}
	}
	s.ends[p] = known
	return s.dead
}

// Minting implements Store.
func (s *memStore) Minting(p ring.Partition) (version.Actor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.part(p).actor, s.dead
}
