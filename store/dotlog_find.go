package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/syndtr/goleveldb/leveldb/opt"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// KeysOf finds, in the dot log, the keys that dots of a partition were written
// to: each key once, with the newest of its dots, sorted by key; and the dots
// that the log does not know. It waits for the disk. A damaged part of the log is
// as good as none, and no error.
func (s *Store) KeysOf(p ring.Partition, dots DotSet) (keys []LoggedKey, unknown DotSet, err error) {
	if p >= ring.SlotCount {
		return nil, nil, fmt.Errorf("%w: partition %d, want less than %d", errKey, p, ring.SlotCount)
	}
	if err := s.readable(); err != nil {
		return nil, nil, err
	}
	mark := s.drops.mark(p)
	look := lookup{wanted: dots, left: dots.Count(),
		found: make(map[version.Dot]struct{}), keys: make(map[string][]version.Dot)}
	// Memory comes first: what leaves it meanwhile is on disk by then.
	look.in(s.dotLog.inMemory(p))
	if look.left > 0 {
		if err := s.findLogged(p, &look); err != nil {
			return nil, nil, err
		}
	}
	if err := s.drops.intact(p, mark); err != nil {
		return nil, nil, err
	}
	found := slices.SortedFunc(maps.Keys(look.found), version.Dot.Compare)
	return look.sorted(), dots.minus(found), nil
}

// findLogged looks through the blocks on disk, from the newest on.
func (s *Store) findLogged(p ring.Partition, look *lookup) error {
	db := s.database.Load()
	if db == nil || !db.enter() {
		return fmt.Errorf("%w: files are closed", ErrFailed)
	}
	defer db.leave()
	it := db.db.NewIterator(logSpan(p), &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	for ok := it.Last(); ok && look.left > 0; ok = it.Prev() {
		entries, err := parseLogBlock(p, it.Value())
		if err != nil {
			s.logger.Warn("block of the dot log is dropped", "partition", p, "error", err)
			s.remove(it.Key())
			continue
		}
		look.in(entries)
	}
	if err := it.Error(); err != nil {
		if starved(err) {
			return fmt.Errorf("%w: %w", ErrFailed, err)
		}
		s.rotten(err)
		s.logger.Warn("dot log cannot be read", "partition", p, "error", err)
	}
	return nil
}

// remove deletes a database key that holds nothing of use.
func (s *Store) remove(key []byte) {
	s.intake.push(item{ctl: &control{remove: slices.Clone(key), done: make(chan error, 1)}})
}

// lookup is a search for the keys of dots.
type lookup struct {
	wanted DotSet
	left   uint64 // dots not found yet
	found  map[version.Dot]struct{}
	keys   map[string][]version.Dot // in the database
}

// in looks through entries, the newest of which is the last one. A dot that was
// logged twice was logged with the same key.
func (l *lookup) in(entries []logged) {
	for i := len(entries) - 1; i >= 0 && l.left > 0; i-- {
		e := &entries[i]
		if !l.wanted.Has(e.dot) {
			continue
		}
		if _, twice := l.found[e.dot]; twice {
			continue
		}
		l.found[e.dot] = struct{}{}
		l.left--
		l.keys[e.key] = append(l.keys[e.key], e.dot)
	}
}

func (l *lookup) sorted() []LoggedKey {
	out := make([]LoggedKey, 0, len(l.keys))
	for key, dots := range l.keys {
		out = append(out, LoggedKey{Dot: dots[0], Key: []byte(key[dataKeySize:]), Dots: dots})
	}
	slices.SortFunc(out, func(a, b LoggedKey) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return out
}

// minus returns the dots of the set that are not among the given ones, which are
// sorted and all in the set.
func (s DotSet) minus(dots []version.Dot) DotSet {
	var out DotSet
	for i := range s {
		a := s[i].Actor
		n := 0
		var gone []Range
		for n < len(dots) && dots[n].Actor == a {
			if last := len(gone) - 1; last >= 0 && gone[last].Last+1 == dots[n].Seq {
				gone[last].Last++
			} else {
				gone = append(gone, Range{dots[n].Seq, dots[n].Seq})
			}
			n++
		}
		dots = dots[n:]
		if left := subtract(s[i].Ranges, gone); len(left) > 0 {
			out = append(out, ActorDots{a, left})
		}
	}
	return out
}
