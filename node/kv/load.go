package kv

// Operations counts the gets and puts that this node coordinates and has not
// answered yet. Any goroutine may call it.
func (c *Coordinator) Operations() int { return c.sweep.count() }

// Served counts the gets, puts, merges and reads that this node was asked for since
// its start, by clients and by the nodes that coordinate for them. A scan counts as
// the pages that homes are asked for. Any goroutine may call it.
func (c *Coordinator) Served() uint64 { return c.served.Load() }

// count counts the operations in the list.
func (s *sweeper) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for e := s.first; e != nil; e = e.next {
		n++
	}
	return n
}
