package store

import "sync"

// MergeAll is Merge of many, which are handed in as one step: those of them that fit
// into one batch share it. Unlike Merge it waits for the disk, to read what the cache
// lacks. Sinks may be told before it returns.
func (s *Store) MergeAll(merges []*Merge) {
	items := make([]item, 0, len(merges))
	var cold []*Merge
	for _, m := range merges {
		if err := s.admit(&m.link, m.Partition, m.Record.Key, len(m.Encoded)); err != nil {
			m.Sink.Committed(err)
			continue
		}
		if !s.hasFor(m) {
			cold = append(cold, m)
		}
		items = append(items, item{merge: m})
	}
	if refused := s.warmAll(cold); len(refused) > 0 {
		left := items[:0]
		for _, i := range items {
			if err := refused[i.merge]; err != nil {
				s.refuse(i, err)
			} else {
				left = append(left, i)
			}
		}
		items = left
	}
	if !s.intake.push(items...) {
		for _, i := range items {
			s.refuse(i, ErrClosed)
		}
	}
}

// hasFor says that the cache has what a merge needs.
func (s *Store) hasFor(m *Merge) bool {
	e, gen := s.cache.peek(m.link.hash, m.link.key)
	m.link.warm, m.link.gen = e, gen
	return e != nil && (!survivorsLackValues(e, m.Record.Seen) || !m.Verdict && e.rec.Dominates(&m.Record))
}

// warmAll reads what merges need, and gives those for which it could not.
func (s *Store) warmAll(cold []*Merge) map[*Merge]error {
	errs := make([]error, len(cold))
	var reading sync.WaitGroup
	for w := range min(readersMax, len(cold)) {
		reading.Go(func() {
			for i := w; i < len(cold); i += readersMax {
				errs[i] = s.warmNow(cold[i])
			}
		})
	}
	reading.Wait()
	var refused map[*Merge]error
	for i, err := range errs {
		if err != nil {
			if refused == nil {
				refused = map[*Merge]error{}
			}
			refused[cold[i]] = err
		}
	}
	return refused
}

// warmNow reads what a merge needs. What cannot be read refuses it: damage is never
// "absent".
func (s *Store) warmNow(m *Merge) error {
	e, err := s.load(m.Partition, m.link.key)
	if err == nil && s.cache.add(m.link.hash, e, m.link.gen) {
		m.link.warm = e
	}
	return err
}
