package antientropy

import (
	"context"
	"time"
)

// While requests are served, repair works in short bursts and rests longer than it
// has worked: a request that meets a burst is held up by that one, and not by all of
// them. Alone, it works in long bursts without rest.
const (
	// restPart is how much longer than a burst the rest after it is. Bursts of
	// several partners rest one after the other: together they work for no more
	// than a half of the time.
	restPart = 2
	// restMax bounds what one rest waits for, its own burst and those of others: a
	// burst may have waited for something else than work.
	restMax = time.Second
	// restBefore is how much time a call must have left for a rest.
	restBefore = 8 * time.Second
	// servedEvery is how often it is looked at least how much is served, and
	// servedLeast how many requests a second are worth resting for.
	servedEvery = 100 * time.Millisecond
	servedLeast = 20
	// burstYielding and burstAlone are how many merges wait for the disk at once.
	burstYielding = 8
	burstAlone    = 256
	// pageYielding is how many records one answer has while requests are served.
	pageYielding = 64
)

// yielding says whether this node serves requests beside its repair.
func (p *pacer) yielding() bool {
	if p.served == nil {
		return false
	}
	count, now := p.served(), time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	since := now.Sub(p.counted)
	if p.counted.IsZero() {
		p.counted, p.count = now, count
	} else if since >= servedEvery {
		p.busy = float64(count-p.count) >= servedLeast*since.Seconds()
		p.counted, p.count = now, count
	}
	return p.busy
}

// rest waits after a burst of work that took so long, if the node serves requests
// and the call that ctx belongs to has the time. It fails with ctx.
func (p *pacer) rest(ctx context.Context, took time.Duration) error {
	if took <= 0 || !p.yielding() {
		return ctx.Err()
	}
	if end, ok := ctx.Deadline(); ok && time.Until(end) < restBefore {
		return ctx.Err()
	}
	return sleep(ctx, p.reserve(took))
}

// atOnce is rest for what clients wait for: it does not.
func (p *pacer) atOnce(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// reserve says how long to rest from now on.
func (p *pacer) reserve(took time.Duration) time.Duration {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	rested := now.Add(max(0, p.rested.Sub(now)) + restPart*took)
	if last := now.Add(restMax); rested.After(last) {
		rested = last
	}
	p.rested = rested
	return rested.Sub(now)
}

// burst is how many merges may wait for the disk at once.
func (p *pacer) burst() int {
	if p.yielding() {
		return burstYielding
	}
	return burstAlone
}

// pageMax is how many records the answer to a pull may have.
func (p *pacer) pageMax() int {
	if p.yielding() {
		return pageYielding
	}
	return pullItemsMax
}
