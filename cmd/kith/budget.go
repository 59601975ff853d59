package main

import "sync"

// budget bounds bytes in memory. One request is always granted when nothing
// else is out, however large.
type budget struct {
	mu    sync.Mutex
	freed sync.Cond // on mu
	used  int       // guarded by mu
	most  int
}

func newBudget(most int) *budget {
	b := &budget{most: most}
	b.freed.L = &b.mu
	return b
}

// take waits until n bytes fit.
func (b *budget) take(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.used > 0 && b.used+n > b.most {
		b.freed.Wait()
	}
	b.used += n
}

// give returns n bytes.
func (b *budget) give(n int) {
	b.mu.Lock()
	b.used -= n
	b.mu.Unlock()
	b.freed.Broadcast()
}
