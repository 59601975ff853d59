package sim

import (
	"sync"
	"time"
)

// Clock is one machine's wall clock. It may be wrong; waiting is not its affair.
type Clock struct {
	mu     sync.Mutex // guards offset
	offset time.Duration
}

// Now is what the machine believes.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

// Set makes the clock wrong by an offset from now on; it may jump either way.
func (c *Clock) Set(offset time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset = offset
}

// Offset is how wrong the clock is.
func (c *Clock) Offset() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset
}
