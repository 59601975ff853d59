package antientropy

import (
	"context"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
)

// How the pacer yields to requests.
const (
	paceSlowest = 1.0 / 16 // of the rate; repair always goes on
	paceBurst   = 4        // a quarter of a second's bytes at once
	judgeEvery  = time.Second
	// busyFactor and busyBy say how far answers are behind those of an idle
	// time when a peer is busy.
	busyFactor = 2
	busyBy     = time.Millisecond
	// floorDrift is how fast the idle minimum follows a way that has become
	// longer, at each look.
	floorDrift = 1.01
	ownSamples = 8
	ownLarge   = 64 << 10
)

// pacer bounds the bytes that repair moves, and slows down while the peers'
// answers take longer than in idle times. It may be used from any goroutine.
type pacer struct {
	circuits Circuits
	rate     float64       // bytes a second, when nobody else is there
	served   func() uint64 // requests served so far; nil for none, ever

	mu     sync.Mutex // guards what follows
	tokens float64    // negative is owed
	filled time.Time  // when tokens was right
	part   float64    // of the rate, 1 to paceSlowest
	judged time.Time
	peers  map[ring.NodeID]*peerPace
	// count was served at the time counted, and busy says that it was many.
	counted time.Time
	count   uint64
	busy    bool
	rested  time.Time // when all bursts are rested for
}

// peerPace is what the pacer knows of the answers of one peer.
type peerPace struct {
	floor time.Duration             // the 95th percentile of an idle time
	own   [ownSamples]time.Duration // of repair's own latest calls, 0 for none
	next  int
}

func newPacer(bytesPerSecond int, c Circuits, served func() uint64) *pacer {
	return &pacer{circuits: c, served: served, rate: float64(bytesPerSecond), part: 1, peers: map[ring.NodeID]*peerPace{}}
}

// take takes n bytes from the bucket, and waits until they are paid for. Bytes
// that have come already are taken too: then what comes next is late.
func (p *pacer) take(ctx context.Context, n int) error {
	wait := p.owe(n, time.Now())
	if wait <= 0 {
		return ctx.Err()
	}
	return sleep(ctx, wait)
}

// later takes n bytes and does not wait: what comes next is late. It fails with ctx.
func (p *pacer) later(ctx context.Context, n int) error {
	p.owe(n, time.Now())
	return ctx.Err()
}

// owe takes n bytes and says how long it takes until nothing is owed.
func (p *pacer) owe(n int, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.judged) >= judgeEvery {
		p.judged = now
		p.judge()
	}
	if p.filled.IsZero() {
		p.tokens = p.rate / paceBurst
	} else {
		p.tokens = min(p.rate/paceBurst, p.tokens+p.rate*p.part*now.Sub(p.filled).Seconds())
	}
	p.filled = now
	p.tokens -= float64(n)
	if p.tokens >= 0 {
		return 0
	}
	return time.Duration(-p.tokens / (p.rate * p.part) * float64(time.Second))
}

// note learns how long a call of repair's own took whose answer may be large: that
// takes long, and is not to be taken for the answer of a busy peer.
func (p *pacer) note(id ring.NodeID, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.watched(id)
	s.own[s.next] = took
	s.next = (s.next + 1) % ownSamples
}

// noteSized is note for a call of which the size is known: a small answer takes as
// long as those to requests, and explains nothing.
func (p *pacer) noteSized(id ring.NodeID, took time.Duration, size int) {
	if size >= ownLarge {
		p.note(id, took)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watched(id)
}

// watched is what is known of a peer from now on; mu is held.
func (p *pacer) watched(id ring.NodeID) *peerPace {
	s := p.peers[id]
	if s == nil {
		s = new(peerPace)
		p.peers[id] = s
	}
	return s
}

// forget drops what is known of a member that shares nothing any more.
func (p *pacer) forget(id ring.NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.peers, id)
}

// judge sets the part of the rate by the busiest peer; mu is held.
func (p *pacer) judge() {
	busy := false
	for id, s := range p.peers {
		_, p95 := p.circuits.Latency(id)
		busy = s.judge(p95) || busy
	}
	if busy {
		p.part = max(paceSlowest, p.part/2)
	} else {
		p.part = min(1, p.part*2)
	}
}

// judge says whether a 95th percentile is that of a busy peer. If it is as long as
// our own calls, these are so many among the answers that requests are few.
func (s *peerPace) judge(p95 time.Duration) bool {
	if p95 <= 0 {
		return false
	}
	if s.floor == 0 || p95 < s.floor {
		s.floor = p95
		return false
	}
	s.floor = min(p95, time.Duration(float64(s.floor)*floorDrift)+1)
	if p95 <= busyFactor*s.floor+busyBy {
		return false
	}
	for _, own := range s.own {
		if own > 0 && own <= p95 {
			return false
		}
	}
	return true
}
