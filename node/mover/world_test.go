package mover

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/kithdb/kith/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is members with a mover each, in one bubble. Records are decided one after the
// other, and every member learns them a moment later, or a moment after it was started. What a pull leaves behind is the
// note of it: an instant later the source holds the record, as package antientropy has
// it.
type world struct {
	t    *testing.T
	seed uint64

	mu      sync.Mutex // guards the rest
	dice    *rand.Rand
	tip     *ring.Record
	records []*ring.Record // all that were decided
	times   []time.Time    // when
	members map[ring.NodeID]*member
	away    map[ring.NodeID]bool
	// refuses, if set, says why a source does not give a partition.
	refuses func(from ring.NodeID, p ring.Partition) error
	slow    time.Duration // of a pull
	offers  int           // calls of Propose
	denies  error         // of every Propose
	load    uint64        // requests a second that every member serves
}

// member is one node: its record and its notes outlive its processes.
type member struct {
	*world
	id      ring.NodeID
	held    *ring.Record
	changed chan struct{}
	notes   map[ring.Partition]ring.Pulled
	pulling int
	most    int // pulls at once
	owes    string

	mover *Mover
	stop  context.CancelFunc
	done  chan struct{}
}

func nodeID(i int) ring.NodeID { return ring.NodeID{byte(i), 15: byte(i)} }

func inWorld(t *testing.T, seed uint64, members, partitions, replicas int, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, seed: seed, dice: rand.New(rand.NewPCG(seed, 1)), members: map[ring.NodeID]*member{}, away: map[ring.NodeID]bool{}, slow: 20 * time.Millisecond}
		var founders []ring.Member
		for i := range members {
			founders = append(founders, ring.Member{ID: nodeID(i + 1), Name: fmt.Sprintf("n%d", i+1)})
		}
		r, err := ring.Found(ring.ClusterID{1}, "test", founders[0], partitions, replicas)
		if err == nil {
			r, err = r.WithTable(founders)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.tip, w.records = r, []*ring.Record{r}
		for _, m := range founders {
			w.start(m.ID)
		}
		defer func() {
			for _, m := range w.members {
				m.kill()
			}
		}()
		f(w)
	})
}

// start begins a life of a member's mover.
func (w *world) start(id ring.NodeID) *member {
	w.t.Helper()
	w.mu.Lock()
	m := w.members[id]
	if m == nil {
		m = &member{world: w, id: id, held: w.tip, changed: make(chan struct{}), notes: map[ring.Partition]ring.Pulled{}}
		w.members[id] = m
	}
	seed := w.dice.Uint64()
	delete(w.away, id)
	m.hear()
	w.mu.Unlock()
	mover, err := New(Config{
		Self: id, Rings: m, Syncer: m, Noted: m.noted, Seed: seed, Pulls: 4, Pace: ring.Pace{In: 6, Out: 6},
		Absent: func(id ring.NodeID) bool { w.mu.Lock(); defer w.mu.Unlock(); return w.away[id] },
		Served: func() uint64 {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.load * uint64(time.Now().UnixMilli()) / 1000
		},
		Owes: func(context.Context) string { w.mu.Lock(); defer w.mu.Unlock(); return m.owes },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	m.mover, m.stop, m.done = mover, stop, make(chan struct{})
	go func() {
		defer close(m.done)
		if err := mover.Run(ctx); err != nil {
			w.t.Errorf("Run of %s: %v", id.Short(), err)
		}
	}()
	return m
}

// kill ends a life; the others find out at once.
func (m *member) kill() {
	if m.stop == nil {
		return
	}
	m.stop()
	<-m.done
	m.stop = nil
	m.mu.Lock()
	m.away[m.id] = true
	m.mu.Unlock()
}

func (m *member) noted(p ring.Partition) ring.Pulled {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.notes[p]
}

// Current implements Rings.
func (m *member) Current() *ring.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held
}

// Changed implements Rings.
func (m *member) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// Propose implements Rings: a register for each record.
func (m *member) Propose(ctx context.Context, change func(*ring.Record) (*ring.Record, error)) (*ring.Record, error) {
	for {
		m.mu.Lock()
		m.offers++
		base, denies := m.held, m.denies
		pause := time.Duration(1+m.dice.IntN(10)) * time.Millisecond
		m.mu.Unlock()
		if denies != nil {
			return nil, denies
		}
		next, err := change(base)
		if err != nil || next == base {
			return base, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		m.mu.Lock()
		if m.tip != base {
			m.adopt(m.tip)
			m.mu.Unlock()
			continue
		}
		if err := next.Follows(base); err != nil {
			m.t.Errorf("seed %d: %v", m.seed, err)
		}
		m.tip = next
		m.records, m.times = append(m.records, next), append(m.times, time.Now())
		m.adopt(next)
		m.mu.Unlock()
		m.spread(next)
		return next, nil
	}
}

// adopt has a member hold a newer record; w.mu is held.
func (m *member) adopt(r *ring.Record) {
	if m.held.Epoch >= r.Epoch {
		return
	}
	for p := range ring.Partition(r.Partitions) {
		if r.Drops(m.held, p, m.id) {
			delete(m.notes, p)
		}
	}
	m.held = r
	close(m.changed)
	m.changed = make(chan struct{})
}

// spread tells everybody who is there of a record, each a moment later.
func (w *world) spread(r *ring.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.members {
		m.hear()
	}
}

// hear has a member learn the newest record in a moment, if it is there then; w.mu is
// held.
func (m *member) hear() {
	time.AfterFunc(time.Duration(1+m.dice.IntN(30))*time.Millisecond, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !m.away[m.id] {
			m.adopt(m.tip)
		}
	})
}

var errGone = errors.New("nobody answers")

// Sync implements Syncer.
func (m *member) Sync(ctx context.Context, pull ring.Pull) error {
	m.mu.Lock()
	m.pulling++
	m.most = max(m.most, m.pulling)
	asked, slow := m.held, m.slow
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.pulling--
		m.mu.Unlock()
	}()
	for _, from := range pull.From {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := m.pull(asked, pull, from); err != nil {
			return err
		}
	}
	return nil
}

func (m *member) pull(asked *ring.Record, pull ring.Pull, from ring.NodeID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away[from] || m.away[m.id] {
		return errGone
	}
	if m.refuses != nil {
		if err := m.refuses(from, pull.Partition); err != nil {
			return err
		}
	}
	source := m.members[from]
	source.adopt(asked)
	if source.held.Since[pull.Partition] != pull.Since || m.held.Since[pull.Partition] != pull.Since {
		return errors.New("the fence is newer")
	}
	note := m.notes[pull.Partition]
	if note.Since != pull.Since {
		note = ring.Pulled{By: m.id, Since: pull.Since}
	}
	if !slices.Contains(note.From, from) {
		note.From = append(slices.Clone(note.From), from)
	}
	m.notes[pull.Partition] = note
	return nil
}

// wish has an operator's change decided.
func (w *world) wish(change func(*ring.Record) (*ring.Record, error)) {
	w.t.Helper()
	operator := &member{world: w, held: w.newest(), changed: make(chan struct{}), notes: map[ring.Partition]ring.Pulled{}}
	if _, err := operator.Propose(context.Background(), change); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) newest() *ring.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tip
}

// until waits for a condition.
func (w *world) until(what string, ok func(r *ring.Record) bool) *ring.Record {
	w.t.Helper()
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		r := w.newest()
		if ok(r) {
			return r
		}
		if time.Since(start) > 10*time.Minute {
			w.t.Fatalf("seed %d: never: %s; moves are %v", w.seed, what, r.Moves)
		}
	}
}

// atRest says that a record asks for nothing more.
func atRest(r *ring.Record) bool {
	next, err := r.WithQueue()
	return err == nil && next == r && len(r.Moves) == 0
}
