package antientropy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/store"
)

// scrubbedStore is a memStore whose records can be read as they lie on disk.
type scrubbedStore struct {
	*memStore
	read   map[string]int // how often each record was read
	fails  int            // calls that fail from now on
	passes int
}

// ScrubPiece implements scrubber; places are a partition and a key.
func (s *scrubbedStore) ScrubPiece(after []byte, limitBytes int) (next []byte, records, size int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails > 0 {
		s.fails--
		return nil, 0, 0, store.ErrFailed
	}
	for _, p := range slices.Sorted(maps.Keys(s.parts)) {
		for _, k := range slices.Sorted(maps.Keys(s.parts[p].records)) {
			place := fmt.Appendf(nil, "%05d%s", p, k)
			if string(place) <= string(after) {
				continue
			}
			if size >= limitBytes {
				return next, records, size, nil
			}
			r := s.parts[p].records[k]
			s.read[k]++
			next, records, size = place, records+1, size+len(r.Append(nil))
		}
	}
	s.passes++
	return nil, records, size, nil
}

// Stats implements measured.
func (s *scrubbedStore) Stats() store.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int64(0)
	for _, q := range s.parts {
		for _, r := range q.records {
			n += int64(len(r.Append(nil)))
		}
	}
	return store.Stats{DiskBytes: n}
}

const scrubbedWithin = 10 * time.Minute

// inScrubbedWorld is a world of one node with records of 100 KiB.
func inScrubbedWorld(t *testing.T, records int, f func(w *world, s *scrubbedStore)) {
	var s *scrubbedStore
	inWorld(t, worldOptions{nodes: 1, replicas: 1, stopped: true, tune: func(c *Config) {
		s = &scrubbedStore{memStore: c.Store.(*memStore), read: map[string]int{}}
		c.Store, c.ScrubEvery = s, scrubbedWithin
	}}, func(w *world) {
		for i := range records {
			w.write(0, fmt.Sprint("k-", i), string(make([]byte, 100<<10)))
		}
		w.start(0)
		f(w, s)
	})
}

func TestScrubReadsEveryRecordOncePerPass(t *testing.T) {
	inScrubbedWorld(t, 60, func(w *world, s *scrubbedStore) {
		time.Sleep(scrubbedWithin/2 + time.Second)
		s.mu.Lock()
		half := len(s.read)
		s.mu.Unlock()
		if half < 20 || half > 50 {
			t.Errorf("%d of 60 records were read in half the time", half)
		}
		time.Sleep(9*scrubbedWithin + scrubbedWithin/2)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.passes < 9 || s.passes > 10 || len(s.read) != 60 {
			t.Errorf("%d passes in ten times the time, %d records", s.passes, len(s.read))
		}
		for k, n := range s.read {
			if n < s.passes || n > s.passes+1 {
				t.Errorf("record %s was read %d times in %d passes", k, n, s.passes)
			}
		}
		if n := w.nodes[0].repair.scrubbed.Load(); n < int64(60*s.passes) {
			t.Errorf("%d records counted", n)
		}
	})
}

func TestScrubGoesOnAfterTheStoreFailed(t *testing.T) {
	inScrubbedWorld(t, 10, func(w *world, s *scrubbedStore) {
		s.mu.Lock()
		s.fails = 5
		s.mu.Unlock()
		w.eventually(2*scrubbedWithin, "a whole pass", func() error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.passes == 0 {
				return errors.New("none yet")
			}
			return nil
		})
		if len(s.read) != 10 {
			t.Errorf("%d of 10 records were read", len(s.read))
		}
	})
}

func TestScrubOfNothingIsNoBusyLoop(t *testing.T) {
	inScrubbedWorld(t, 0, func(_ *world, s *scrubbedStore) {
		time.Sleep(10 * scrubbedWithin)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.passes > 11 {
			t.Errorf("%d passes over nothing in ten times the time", s.passes)
		}
	})
}
