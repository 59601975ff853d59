package version

import (
	"math"
	"sync/atomic"
	"time"
)

// Clock is a hybrid logical clock: it follows a wall clock, never gives a stamp
// twice, never goes back, and stays behind no stamp that it has observed within
// its bound. It may be used from any goroutine.
type Clock struct {
	now     func() time.Time
	skewMax time.Duration
	last    atomic.Uint64 // the latest Stamp given or observed
}

// NewClock reads the wall clock with now, and lets no observed stamp carry it
// further than skewMax ahead of that.
func NewClock(now func() time.Time, skewMax time.Duration) *Clock {
	return &Clock{now: now, skewMax: skewMax}
}

// Now returns a stamp later than every one that the clock gave or took before,
// and no earlier than the wall clock.
func (c *Clock) Now() Stamp {
	wall := StampAt(c.now())
	for {
		last := Stamp(c.last.Load())
		next := max(wall, last.Next())
		if c.last.CompareAndSwap(uint64(last), uint64(next)) {
			return next
		}
	}
}

// Observe takes a stamp from elsewhere, so that what happens here next is later.
// ahead is how far the stamp is in front of the wall clock, negative behind it.
// A stamp more than skewMax ahead is not taken, and ok is false: its sender's
// clock, or this node's, is wrong.
func (c *Clock) Observe(s Stamp) (ahead time.Duration, ok bool) {
	wall := c.now()
	ahead = between(StampAt(wall), s)
	if ahead > c.skewMax {
		return ahead, false
	}
	for {
		last := c.last.Load()
		if uint64(s) <= last || c.last.CompareAndSwap(last, uint64(s)) {
			return ahead, true
		}
	}
}

// Last is the latest stamp that the clock gave or took; zero before the first.
func (c *Clock) Last() Stamp { return Stamp(c.last.Load()) }

// between is the physical distance from one stamp to another, to the
// millisecond, saturating.
func between(from, to Stamp) time.Duration {
	ms := int64(to>>counterBits) - int64(from>>counterBits)
	const most = math.MaxInt64 / int64(time.Millisecond)
	return time.Duration(max(-most, min(most, ms))) * time.Millisecond
}
