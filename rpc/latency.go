package rpc

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	latencySamples = 64 // that the percentile is taken from
	latencyEvery   = 16 // samples between two looks at them
	latencyWeight  = 8  // a new sample is an eighth of the mean
)

// latency keeps how long a peer took to answer.
type latency struct {
	mean, p95 atomic.Int64 // nanoseconds

	mu      sync.Mutex // guards the rest
	samples [latencySamples]time.Duration
	count   int
}

func (l *latency) add(d time.Duration) {
	l.mu.Lock()
	l.samples[l.count%latencySamples] = d
	l.count++
	if l.count == 1 {
		l.mean.Store(int64(d))
		l.p95.Store(int64(d))
	} else {
		mean := l.mean.Load()
		l.mean.Store(mean + (int64(d)-mean)/latencyWeight)
	}
	if l.count%latencyEvery != 0 && l.count > latencyEvery {
		l.mu.Unlock()
		return
	}
	n := min(l.count, latencySamples)
	sorted := l.samples
	l.mu.Unlock()
	slices.Sort(sorted[:n])
	l.p95.Store(int64(sorted[(n*95-1)/100]))
}

func (l *latency) read() (mean, p95 time.Duration) {
	return time.Duration(l.mean.Load()), time.Duration(l.p95.Load())
}
