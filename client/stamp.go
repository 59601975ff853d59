package client

import (
	"sync/atomic"
	"time"
)

// stampBits are those of a stamp that count within one millisecond; the rest
// are milliseconds since 1970.
const stampBits = 16

func stampTime(s uint64) time.Time { return time.UnixMilli(int64(s >> stampBits)) }

// clock is what the client knows of the cluster's time: the latest stamp that
// any node has sent. Sent along with every request, it gives the writes of one
// client rising stamps. The client's own clock is never trusted.
type clock struct {
	stamp atomic.Uint64
	// seen is when a newer stamp came last, by this process's clock.
	seen atomic.Pointer[time.Time]
}

// observe takes a stamp that a node has sent.
func (k *clock) observe(s uint64) {
	for {
		old := k.stamp.Load()
		if s <= old {
			return
		}
		if k.stamp.CompareAndSwap(old, s) {
			break
		}
	}
	if last := k.seen.Load(); last == nil || time.Since(*last) > seenEvery {
		now := time.Now()
		k.seen.Store(&now)
	}
}

// seenEvery is how stale the time of the latest stamp may be: an older time
// only makes notAfter later, and renewing it for every answer would cost.
const seenEvery = 50 * time.Millisecond

// notAfter is the time limit of a write that has the patience left, in
// milliseconds since 1970 by the cluster's clocks: the latest stamp, and what
// has passed since. It is 0, for none, before the first stamp.
func (k *clock) notAfter(patience time.Duration) uint64 {
	seen := k.seen.Load()
	if seen == nil {
		return 0
	}
	now := time.Now()
	// A machine that was suspended has stopped its monotonic clock, one that
	// was set has moved its wall clock: the later limit is the safe one.
	passed := max(now.Sub(*seen), now.Round(0).Sub(seen.Round(0)))
	return k.stamp.Load()>>stampBits + uint64((passed + patience).Milliseconds()) + 1
}
