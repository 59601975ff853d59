package mover

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
)

const (
	// lookMax is how long the loop sleeps at most while something is to be
	// done: who is absent changes without a word. idleMax is for when nothing
	// is.
	lookMax = time.Second
	idleMax = 5 * time.Second
	// stepEvery is the least time between two records for steps, unless nothing
	// else is to be waited for; recordEvery is that between any record and the
	// next one from here, and recordEveryBeside that while requests are served, both
	// and up to a half, by chance, so that not all propose at one time. A record
	// costs every member three fsyncs and the reading of it, however much it changes.
	stepEvery         = time.Second
	recordEvery       = 100 * time.Millisecond
	recordEveryBeside = 200 * time.Millisecond
	// proposeMax bounds one try to have a record decided.
	proposeMax = 10 * time.Second
	// awayMin is how long a member must be absent until others are asked in its
	// place. It may only be starting again, and may have what was written at
	// less than a majority.
	awayMin = 15 * time.Second
	// asideMin and asideMore are how long the loop, once woken, waits for what
	// else happens at that instant, and how much longer that may be.
	asideMin  = 100 * time.Microsecond
	asideMore = 300 * time.Microsecond
)

// Mover makes the moves that are this node's to make.
type Mover struct {
	cfg    Config
	chance *rand.Rand // of the loop alone
	woken  chan struct{}

	// Of the loop alone.
	pulls    map[ring.Partition]*pull
	failures map[ring.Partition]*failure
	latest   *ring.Record // that the loop has seen
	since    time.Time    // when it saw that first
	turn     float64      // how much later than others it proposes then
	stepped  time.Time    // when steps were proposed last
	denied   denials
	settled  [32]byte      // digest of the record whose queue is as it should be
	queued   time.Time     // when the queue was looked at last
	planning time.Duration // how long that took
	members  []ring.Member // for whom it was planned
	serving  serving
	absent   map[ring.NodeID]time.Time // since when

	running sync.WaitGroup // pulls

	mu  sync.Mutex
	how progress // guarded by mu
}

// New makes a Mover. It does nothing before Run.
func New(cfg Config) (*Mover, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	return &Mover{
		cfg: cfg, chance: rand.New(rand.NewPCG(cfg.Seed, 0x6d6f766572)), woken: make(chan struct{}, 1),
		pulls: map[ring.Partition]*pull{}, failures: map[ring.Partition]*failure{},
		absent: map[ring.NodeID]time.Time{},
	}, nil
}

// Run works until ctx ends, and then returns nil once all that it started has
// ended. To be called once.
func (m *Mover) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer m.running.Wait()
	defer cancel()
	m.pause(ctx, 0, nil) // much happens at the instant of the start
	for ctx.Err() == nil {
		changed := m.cfg.Rings.Changed()
		m.pause(ctx, m.round(ctx), changed)
	}
	return nil
}

// round does what is to be done now, and says how long to wait for more.
func (m *Mover) round(ctx context.Context) time.Duration {
	r := m.cfg.Rings.Current()
	if r == nil || !r.Founded() || r.Member(m.cfg.Self) == nil {
		return idleMax
	}
	if r != m.latest {
		m.latest, m.since, m.turn = r, time.Now(), m.chance.Float64()/2
	}
	m.observe(r)
	m.look(r)
	agenda := m.agenda(r)
	m.pull(ctx, r, agenda.Pulls)
	wait := m.duties(ctx, r)
	if len(agenda.Steps) > 0 {
		wait = min(wait, m.step(ctx, agenda))
	}
	if len(r.Moves) > 0 {
		wait = min(wait, lookMax)
	}
	return wait
}

// look takes note of who is absent, and since when.
func (m *Mover) look(r *ring.Record) {
	maps.DeleteFunc(m.absent, func(id ring.NodeID, _ time.Time) bool { return r.Member(id) == nil })
	for i := range r.Members {
		id := r.Members[i].ID
		if id == m.cfg.Self || !m.cfg.Absent(id) {
			delete(m.absent, id)
		} else if _, known := m.absent[id]; !known {
			m.absent[id] = time.Now()
		}
	}
}

// away says that a member has been absent for long.
func (m *Mover) away(id ring.NodeID) bool {
	since, absent := m.absent[id]
	return absent && time.Since(since) >= awayMin
}

// agenda is what this node has to do for the moves of a record. Where a source does
// not give, others are asked if they are enough.
func (m *Mover) agenda(r *ring.Record) ring.Agenda {
	a := r.Agenda(m.cfg.Self, m.cfg.Pace, m.cfg.Noted, m.away)
	for i, p := range a.Pulls {
		f := m.failures[p.Partition]
		if f == nil || f.since != p.Since || len(f.avoid) == 0 {
			continue
		}
		without := func(id ring.NodeID) bool { return f.avoids(id) || m.away(id) }
		for _, other := range r.Agenda(m.cfg.Self, m.cfg.Pace, m.cfg.Noted, without).Pulls {
			if other.Partition == p.Partition {
				a.Pulls[i] = other
			}
		}
	}
	return a
}

// step proposes what may be proposed, unless more is about to be added. It says when
// to come back.
func (m *Mover) step(ctx context.Context, agenda ring.Agenda) time.Duration {
	if since := time.Since(m.stepped); len(agenda.Pulls) > 0 && since < stepEvery {
		return stepEvery - since
	}
	if wait := m.holdOff(); wait > 0 {
		return wait
	}
	now := time.Now()
	done := m.propose(ctx, "moving slots", func(r *ring.Record) (*ring.Record, error) {
		if m.serving.busy && r.Epoch > m.latest.Epoch {
			return nil, errNothing // another one was first: its record comes, and then ours
		}
		// What is noted on disk decides again, on the record that is built on.
		steps := r.Agenda(m.cfg.Self, m.cfg.Pace, m.cfg.Noted, m.away).Steps
		if len(steps) == 0 {
			return nil, errNothing
		}
		return r.WithSteps(steps)
	})
	if done {
		m.stepped = now
	}
	return lookMax
}

// errNothing says that a change is not needed any more.
var errNothing = errors.New("nothing is to be changed")

// propose has a change decided, or counts the failure.
func (m *Mover) propose(ctx context.Context, what string, change func(*ring.Record) (*ring.Record, error)) bool {
	ctx, cancel := context.WithTimeout(ctx, proposeMax)
	defer cancel()
	r, err := m.cfg.Rings.Propose(ctx, change)
	switch {
	case err == nil:
		m.denied = denials{}
		m.cfg.Logger.Debug(what, "epoch", r.Epoch)
		return true
	case errors.Is(err, errNothing):
		m.denied = denials{}
		return false
	case ctx.Err() == context.Canceled:
		return false
	}
	m.denied.add(m.chance)
	m.cfg.Logger.Warn("cannot change the ring yet, trying on", "for", what, "failures", m.denied.count, "error", err)
	return false
}

// denials are proposals that failed in a row.
type denials struct {
	count int
	until time.Time
}

// denyMax is the longest pause after a proposal that failed.
const denyMax = 8 * time.Second

func (d *denials) add(chance *rand.Rand) {
	d.count++
	pause := min(lookMax<<min(d.count-1, 8), denyMax)
	d.until = time.Now().Add(pause/2 + time.Duration(chance.Int64N(int64(pause/2))))
}

// holdOff is how long nothing should be proposed: the newest record is too young, or
// proposals fail.
func (m *Mover) holdOff() time.Duration {
	every := recordEvery
	if m.serving.look(m.cfg.Served(), time.Now()) {
		every = recordEveryBeside
	}
	every += time.Duration(m.turn * float64(every))
	return max(time.Until(m.denied.until), time.Until(m.since.Add(every)))
}

const (
	// servedEvery is how often it is looked at least how much is served, and
	// servedLeast how many requests a second are worth fewer records.
	servedEvery = 500 * time.Millisecond
	servedLeast = 20
)

// serving is whether a node serves requests.
type serving struct {
	count uint64
	at    time.Time
	busy  bool
}

// look says whether many were served lately, by how many were in all.
func (s *serving) look(count uint64, now time.Time) bool {
	since := now.Sub(s.at)
	if s.at.IsZero() {
		s.count, s.at = count, now
	} else if since >= servedEvery {
		s.busy = float64(count-s.count) >= servedLeast*since.Seconds()
		s.count, s.at = count, now
	}
	return s.busy
}

// wake has the loop look again.
func (m *Mover) wake() {
	select {
	case m.woken <- struct{}{}:
	default:
	}
}

// pause waits for a wake-up, at most for most, and steps aside for what else happens
// at that instant. What has woken it by then is not told again.
func (m *Mover) pause(ctx context.Context, most time.Duration, changed <-chan struct{}) {
	most = max(most, asideMin)
	timer := time.NewTimer(most/2 + time.Duration(m.chance.Int64N(int64(most/2)+1)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
	case <-changed:
	case <-m.woken:
	}
	timer.Reset(m.moment())
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	select {
	case <-m.woken:
	default:
	}
}

// moment is a short pause that nobody else draws.
func (m *Mover) moment() time.Duration {
	return asideMin + time.Duration(m.chance.Int64N(int64(asideMore)))
}
