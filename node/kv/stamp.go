package kv

import (
	"time"

	"github.com/kithdb/kith/store/version"
)

// Stamp reads the clock by which this node says what has expired. It is for
// repair, which forgets such values; any goroutine may call it.
func (c *Coordinator) Stamp() version.Stamp {
	now := c.stamps().Now()
	return min(now, version.StampAt(time.UnixMilli(int64(c.readTimeOf(now)))))
}
