// Package membership simulates what gossip tells a node: who can be reached now.
//
// A World holds every member's own view. Views follow a truth that the caller
// gives (who reaches whom in the simulated network), late and by different
// delays for every pair; or a script sets them, also wrong on purpose. All
// chance comes from one seed, with a generator for each pair of members.
//
// It promises the shape of the real thing: View is a level, Changed a wake-up,
// Announce never blocks. It does not send a byte: in sim, real serf over a
// simulated network is another matter.
package membership

import (
	"cmp"
	"context"
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/ring"
)

// Config shapes how views follow the truth. The zero value works.
type Config struct {
	Seed uint64
	// Reaches is the truth: one member's packets arrive at another. Nil is
	// always. It is called often, without locks.
	Reaches func(from, to ring.NodeID) bool
	// Version changes whenever Reaches may have another answer. Nil is that it
	// may at any time.
	Version func() uint64
	// FailAfter is how long two members must be apart until one calls the
	// other failed, and JoinAfter how long together until it is alive again:
	// between half of it and all of it, drawn for each pair and each time.
	// 0 is 6 seconds, and 3.
	FailAfter, JoinAfter time.Duration
	// SpreadAfter is how long an announced state takes, drawn likewise. 0 is
	// 400 ms.
	SpreadAfter time.Duration
	// Tick is how often the truth is looked at. 0 is 100 ms.
	Tick time.Duration
}

func (c *Config) setDefaults() {
	c.FailAfter = cmp.Or(c.FailAfter, 6*time.Second)
	c.JoinAfter = cmp.Or(c.JoinAfter, 3*time.Second)
	c.SpreadAfter = cmp.Or(c.SpreadAfter, 400*time.Millisecond)
	c.Tick = cmp.Or(c.Tick, 100*time.Millisecond)
	if c.Reaches == nil {
		c.Reaches = func(ring.NodeID, ring.NodeID) bool { return true }
	}
}

// World is all members and their views. It is safe for concurrent use.
type World struct {
	cfg  Config
	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex // guards everything below
	members map[ring.NodeID]*Member
	pairs   map[[2]ring.NodeID]*pair
	// settled says that all views were equal to the truth of a version when it was
	// looked at, and that nothing was changed here since: nothing is left to do.
	settled bool
	version uint64
}

// pair is what one member, the first, thinks of another.
type pair struct {
	rng    *rand.Rand
	forced *bool // a script's word on Alive
	frozen bool  // a script keeps the state from arriving
	known  bool
	seen   gossip.Peer
	// differs is since when the truth has not been what is seen, and patience
	// how long it takes to notice; zero while they agree. The same for the
	// announced state.
	differs  time.Time
	patience time.Duration
	stale    time.Time
	spread   time.Duration
}

// New starts a world. The caller closes it.
func New(cfg Config) *World {
	cfg.setDefaults()
	ctx, stop := context.WithCancel(context.Background())
	w := &World{
		cfg: cfg, stop: stop, done: make(chan struct{}),
		members: map[ring.NodeID]*Member{}, pairs: map[[2]ring.NodeID]*pair{},
	}
	go w.run(ctx)
	return w
}

// Close ends the world's goroutine. Views stay as they are.
func (w *World) Close() {
	w.stop()
	<-w.done
}

// Join makes a member, or brings one back, perhaps at other addresses. Others
// see it as soon as they reach it; it sees the others likewise, but for those
// that it knew before it went away.
func (w *World) Join(self gossip.Peer) *Member {
	self.Alive = true
	m := &Member{world: w, self: self, changed: make(chan struct{}), failed: make(chan error, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settled = false
	for key, p := range w.pairs {
		if key[0] == self.ID {
			p.seen.Alive = false
			p.differs, p.stale = time.Time{}, time.Time{}
		}
	}
	w.members[self.ID] = m
	m.rebuild()
	return m
}

// Set makes an observer believe that a member is alive, or failed, whatever the
// truth is, until Follow.
func (w *World) Set(observer, subject ring.NodeID, alive bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settled = false
	p := w.pair(observer, subject)
	p.forced = &alive
	if m := w.members[observer]; m != nil {
		w.update(m, subject, time.Now(), nil)
	}
}

// Freeze keeps what a member announces from an observer, until Follow.
func (w *World) Freeze(observer, subject ring.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settled = false
	w.pair(observer, subject).frozen = true
}

// Fail tells a member that its membership is over, as when another process has
// its ID. Only the first word counts.
func (w *World) Fail(id ring.NodeID, err error) {
	w.mu.Lock()
	m := w.members[id]
	w.mu.Unlock()
	if m == nil {
		return
	}
	select {
	case m.failed <- err:
	default:
	}
}

// Follow ends Set and Freeze for all pairs.
func (w *World) Follow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settled = false
	for _, p := range w.pairs {
		p.forced, p.frozen = nil, false
	}
}

func (w *World) run(ctx context.Context) {
	defer close(w.done)
	ticker := time.NewTicker(w.cfg.Tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.look()
		}
	}
}

// look compares every view with the truth.
func (w *World) look() {
	version, known := uint64(0), w.cfg.Version != nil
	if known {
		version = w.cfg.Version()
	}
	w.mu.Lock()
	nothing := w.settled && known && version == w.version
	// Whatever is changed from here on finds its way into the next look.
	w.settled, w.version = true, version
	w.mu.Unlock()
	if nothing {
		return
	}
	ids := w.ids()
	reaches := make(map[[2]ring.NodeID]bool, len(ids)*len(ids))
	for _, a := range ids {
		for _, b := range ids {
			reaches[[2]ring.NodeID{a, b}] = w.cfg.Reaches(a, b)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for _, a := range ids {
		if m := w.members[a]; !m.closed {
			for _, b := range ids {
				w.update(m, b, now, reaches)
			}
		}
	}
}

func (w *World) ids() []ring.NodeID {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := make([]ring.NodeID, 0, len(w.members))
	for id := range w.members {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, ring.NodeID.Compare)
	return ids
}

// update brings one member's idea of another closer to the truth; without reaches
// only as far as a script says.
func (w *World) update(m *Member, subject ring.NodeID, now time.Time, reaches map[[2]ring.NodeID]bool) {
	other := w.members[subject]
	if other == nil || other == m || m.forgotten[subject] {
		return
	}
	p := w.pair(m.self.ID, subject)
	before := p.seen
	if reaches != nil {
		together := !other.closed && reaches[[2]ring.NodeID{m.self.ID, subject}] &&
			reaches[[2]ring.NodeID{subject, m.self.ID}]
		w.follow(p, other, together, now)
		if !p.differs.IsZero() || !p.stale.IsZero() || p.seen != before {
			w.settled = false // patience runs
		}
	}
	if p.forced != nil {
		if !p.known {
			p.seen, p.known = other.self, true
		}
		p.seen.Alive = *p.forced
	}
	if p.seen != before {
		m.rebuild()
	}
}

// follow waits for a pair's patience to run out, then takes the truth over.
func (w *World) follow(p *pair, other *Member, together bool, now time.Time) {
	switch {
	case together == p.seen.Alive && p.known, !together && !p.known:
		p.differs = time.Time{}
	case p.differs.IsZero():
		p.differs, p.patience = now, w.draw(p, w.cfg.JoinAfter)
		if !together {
			p.patience = w.draw(p, w.cfg.FailAfter)
		} else if !p.known {
			p.patience = w.draw(p, w.cfg.SpreadAfter) // a join is told at once
		}
	case now.Sub(p.differs) >= p.patience:
		if together {
			p.seen, p.known = other.self, true
		}
		p.seen.Alive = together
		p.differs = time.Time{}
	}
	alive := other.self
	alive.Alive = true
	switch {
	case !together || !p.known || !p.seen.Alive || p.seen == alive || p.frozen:
		p.stale = time.Time{}
	case p.stale.IsZero():
		p.stale, p.spread = now, w.draw(p, w.cfg.SpreadAfter)
	case now.Sub(p.stale) >= p.spread:
		p.seen, p.stale = alive, time.Time{}
	}
}

// draw picks a time between half of d and d.
func (w *World) draw(p *pair, d time.Duration) time.Duration {
	return d/2 + time.Duration(p.rng.Int64N(int64(d/2)+1))
}

func (w *World) pair(observer, subject ring.NodeID) *pair {
	key := [2]ring.NodeID{observer, subject}
	p := w.pairs[key]
	if p == nil {
		h := fnv.New64a()
		h.Write(binary.BigEndian.AppendUint64(nil, w.cfg.Seed))
		h.Write(observer[:])
		h.Write(subject[:])
		p = &pair{rng: rand.New(rand.NewPCG(w.cfg.Seed, h.Sum64()))}
		w.pairs[key] = p
	}
	return p
}
