package kv

// Operations counts the gets and puts that this node coordinates and has not
// answered yet. Any goroutine may call it.
func (c *Coordinator) Operations() int { return c.sweep.count() }

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
