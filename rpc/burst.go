package rpc

import "sync"

// burstInline is how many connections End writes to by itself. Writing costs
// less than waking another goroutine for it, but one after the other: so many
// take a fraction of a millisecond, during which whoever ends the burst does
// nothing else.
const burstInline = 64

// Burst gathers the connections that get frames while somebody makes many, for
// many connections: what is read from one connection at once, or what a write to
// the disk has brought about. At its end each connection is written to once,
// without waiting, on the goroutine that ends it. A nil Burst gathers nothing.
type Burst struct {
	mu     sync.Mutex // guards what follows
	active int        // begun and not ended
	ready  []*outlet
	spare  []*outlet
}

// Begin begins to gather. Frames of all goroutines wait for the next End, so it
// must follow soon, and be called without waiting for anything in between.
func (b *Burst) Begin() {
	if b == nil {
		return
	}
	b.mu.Lock()
	b.active++
	b.mu.Unlock()
}

// End sends what was gathered until now, also by others.
func (b *Burst) End() {
	if b == nil {
		return
	}
	b.mu.Lock()
	b.active--
	ready := b.ready
	b.ready, b.spare = b.spare, nil
	b.mu.Unlock()
	if len(ready) == 0 {
		b.keep(ready)
		return
	}
	for i := burstInline; i < len(ready); i++ {
		ready[i].flush(false)
	}
	for i := range min(burstInline, len(ready)) {
		ready[i].flush(true)
	}
	clear(ready)
	b.keep(ready)
}

// keep keeps an empty list for the next time.
func (b *Burst) keep(list []*outlet) {
	b.mu.Lock()
	if b.spare == nil {
		b.spare = list[:0]
	}
	b.mu.Unlock()
}

// gather takes a connection until the next End; false says that nobody gathers.
// The outlet's mu is held.
func (b *Burst) gather(o *outlet) bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.active == 0 {
		return false
	}
	b.ready = append(b.ready, o)
	return true
}
