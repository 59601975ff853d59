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
// any node has sent, which gives the writes of one client rising stamps; and
// the nodes' wall clock, by which writes have their time limit. The client's
// own wall clock may be anything.
type clock struct {
	stamp atomic.Uint64
	wall  atomic.Pointer[reading]
}

// reading is a node's clock, and when it showed that by this process's clock.
type reading struct {
	ms int64 // since 1970
	at time.Time
}

// now is what the node's clock shows by now. A machine that was suspended has
// stopped its monotonic clock, one that was set has moved its wall clock: the
// later time is the safe one.
func (r *reading) now() int64 {
	now := time.Now()
	passed := max(now.Sub(r.at), now.Round(0).Sub(r.at.Round(0)))
	return r.ms + passed.Milliseconds()
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
	// The nodes' clocks may have been set forward since they were read.
	if r := k.wall.Load(); r == nil || int64(s>>stampBits) > r.now() {
		k.wall.Store(&reading{ms: int64(s >> stampBits), at: time.Now()})
	}
}

// read takes a node's clock, which it showed not before at.
func (k *clock) read(ms int64, at time.Time) {
	if ms > 0 {
		k.wall.Store(&reading{ms: ms, at: at})
	}
}

// notAfter is the time limit of a write that has the patience left, in
// milliseconds since 1970 by the nodes' clocks; 0, for none, before the first
// reading.
func (k *clock) notAfter(patience time.Duration) uint64 {
	r := k.wall.Load()
	if r == nil {
		return 0
	}
	return uint64(r.now() + patience.Milliseconds() + 1)
}
