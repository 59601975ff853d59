package kv_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// TestRandomMovesAgainstTheOracle has clients write and read while members leave and
// come back, under cuts, pauses and lost messages. Each node sees to its moves by
// its agenda; sim.Check holds in the end what every key shows against what the
// clients were told.
func TestRandomMovesAgainstTheOracle(t *testing.T) {
	randomMoves(t, 12, course{zones: make([]string, 5), replicas: 3, leaving: 5, asks: lastingLevels})
}

// Kills, with and without the loss of unsynced bytes, in any phase of any move: what was
// held durably goes on, and the rest was promised to nobody.
func TestFault19_KillsDuringMovesLoseNothing(t *testing.T) {
	randomMoves(t, 12, course{zones: make([]string, 5), replicas: 3, leaving: 5, asks: lastingLevels, kills: true})
}

// With one home every request needs both ends of a move, and reads wait for pulls.
func TestRandomMovesOfTheOnlyHome(t *testing.T) {
	one := []asking{{level: api.Quorum, strict: true}}
	randomMoves(t, 6, course{zones: make([]string, 4), replicas: 1, leaving: 4, asks: asks{reads: one, writes: one}})
	randomMoves(t, 6, course{zones: make([]string, 4), replicas: 1, leaving: 4, asks: asks{reads: one, writes: one}, kills: true})
}

// With two homes a quorum is both of them.
func TestRandomMovesOfTwoHomes(t *testing.T) {
	two := []asking{{level: api.Quorum, strict: true}}
	reads := append(two, asking{level: api.One})
	randomMoves(t, 4, course{zones: make([]string, 4), replicas: 2, leaving: 4, asks: asks{reads: reads, writes: two}, kills: true})
}

// course is what a random run of moves is like.
type course struct {
	zones    []string // a node in each
	replicas int
	leaving  int // members at a time, at most
	kills    bool
	asks     asks
}

// randomMoves plays so many seeds, and many more with KITH_LONG.
func randomMoves(t *testing.T, seeds int, c course) {
	seeds = seedsOf(seeds, 2000)
	done, moved, killed := 0, 0, 0
	for seed := range uint64(seeds) {
		inZones(t, seed, c.zones, c.replicas, func(w *world) {
			m := &movers{
				randomRun: &randomRun{w: w, seed: seed, history: sim.NewHistory(), asks: c.asks},
				tip:       w.record, chance: rand.New(rand.NewPCG(seed, 77)), course: c,
			}
			m.run()
			killed += m.killed
			done += m.history.Count(sim.Done)
			moved += m.moved
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d requests done, %d moves, %d kills", done, moved, killed)
	if done < 20*seeds || moved < 10*seeds || c.kills && killed < seeds {
		t.Errorf("%d requests were done and %d moves, with %d kills, in %d runs", done, moved, killed, seeds)
	}
}

// movers are the nodes' moving parts: one goroutine for all of them, in turns.
type movers struct {
	*randomRun
	course
	tip    *ring.Record // the newest that was decided
	chance *rand.Rand
	moved  int
	killed int
	calm   bool // no new wishes, and nobody is away
}

func (m *movers) run() {
	m.w.net.SetDefault(network.Link{Latency: time.Millisecond, Jitter: 4 * time.Millisecond, Loss: 0.01, Duplicate: 0.02, Late: 0.01, LateBy: 20 * time.Second})
	var clients sync.WaitGroup
	for i := range randomClients {
		clients.Go(func() { m.client(i, rand.New(rand.NewPCG(m.seed, uint64(i+1)))) })
	}
	over := make(chan struct{})
	go func() { clients.Wait(); close(over) }()
	for busy := true; busy; {
		select {
		case <-over:
			busy = false
		case <-time.After(time.Duration(m.chance.IntN(60)) * time.Millisecond):
			m.turn()
		}
	}
	m.heal()
	m.calm = true
	m.w.net.SetDefault(network.Link{Latency: time.Millisecond})
	time.Sleep(time.Minute)
	for turns := 0; len(m.tip.Moves) > 0 || m.queue() != m.tip; turns++ {
		if turns > 2000 {
			m.w.t.Fatalf("%d moves have no end", len(m.tip.Moves))
		}
		m.turn()
	}
	for i := range m.w.nodes {
		m.w.adopt(m.tip, i)
	}
	m.w.record = m.tip
	m.check()
}

// turn lets something happen to the ring.
func (m *movers) turn() {
	i, j := m.chance.IntN(len(m.w.nodes)), m.chance.IntN(len(m.w.nodes))
	what := m.chance.IntN(24)
	switch {
	case what == 0 && !m.calm:
		m.wish(m.chance.IntN(len(m.w.nodes)))
	case what == 1 && !m.calm:
		m.trouble(i)
	case what < 5:
		if m.meets(i, j) { // gossip
			m.adopts(i, m.w.nodes[j].rings.Current())
		}
	case what < 8:
		m.decide(i, m.queue())
	default:
		m.work(i)
	}
}

// wish has somebody leave, or take its leave back.
func (m *movers) wish(i int) {
	next, err := m.tip.WithLeave(nodeID(i))
	leaving := 0
	for _, member := range m.tip.Members {
		if member.State == ring.Leaving {
			leaving++
		}
	}
	if leaving >= m.leaving {
		err = errors.New("too many")
	}
	if state := m.tip.Member(nodeID(i)).State; state == ring.Leaving {
		next, err = m.tip.WithJoin(m.w.members[i])
	}
	if err == nil {
		m.decide(i, next)
	}
}

// trouble cuts or stops somebody, or ends what was cut and stopped.
func (m *movers) trouble(i int) {
	kinds := 4
	if m.kills {
		kinds = 8
	}
	switch m.chance.IntN(kinds) {
	case 0:
		m.w.net.Cut(m.w.nodes[i].host.Name(), m.w.nodes[m.chance.IntN(len(m.w.nodes))].host.Name())
	case 1:
		if len(m.paused) == 0 && !m.gone(i) {
			m.paused = append(m.paused, i)
			m.w.nodes[i].host.Pause()
		}
	case 4, 5, 6, 7:
		if m.gone(i) {
			return
		}
		m.killed++
		m.w.nodes[i].host.Crash()
		if m.chance.IntN(2) == 0 {
			m.w.nodes[i].disk.PowerCut()
		}
		m.w.halt(i)
		if m.chance.IntN(2) == 0 && len(m.down) == 0 {
			m.down = append(m.down, i) // for a while
			return
		}
		m.w.revive(i)
	default:
		m.heal()
	}
}

func (m *movers) queue() *ring.Record {
	next, err := m.tip.WithQueue()
	if err != nil {
		m.w.t.Fatal(err)
	}
	return next
}

// decide makes a record the next one, and node i the first to hold it.
func (m *movers) decide(i int, next *ring.Record) {
	if next != m.tip && !m.gone(i) {
		m.tip = next
		m.adopts(i, next)
	}
}

func (m *movers) adopts(i int, r *ring.Record) {
	if err := m.w.nodes[i].rings.adopt(r); err != nil {
		m.w.t.Fatal(err)
	}
}

// gone says that a node does nothing now.
func (m *movers) gone(i int) bool { return slices.Contains(m.paused, i) || slices.Contains(m.down, i) }

// meets says that two nodes can talk to each other.
func (m *movers) meets(i, j int) bool {
	a, b := m.w.nodes[i].host.Name(), m.w.nodes[j].host.Name()
	return !m.gone(i) && !m.gone(j) && m.w.net.Reaches(a, b) && m.w.net.Reaches(b, a)
}

// work lets node i do one thing of its agenda, by the record that it holds.
func (m *movers) work(i int) {
	h := m.w.nodes[i]
	r := h.rings.Current()
	if m.gone(i) {
		return
	}
	a := r.Agenda(h.id, ring.Pace{In: 8}, h.store.Pulled, func(id ring.NodeID) bool { return !m.meets(i, m.node(id)) })
	for _, p := range a.Pulls {
		for _, from := range p.From {
			m.pull(i, m.node(from), r, p)
		}
	}
	if len(a.Steps) > 0 && r.Epoch == m.tip.Epoch { // perhaps another copy of it
		next, err := m.tip.WithSteps(a.Steps)
		if err != nil {
			m.w.t.Fatal(err)
		}
		for _, s := range a.Steps {
			if s.Step == ring.StepDone {
				m.moved++
			}
		}
		m.decide(i, next)
	}
}

func (m *movers) node(id ring.NodeID) int {
	return slices.IndexFunc(m.w.nodes, func(h *home) bool { return h.id == id })
}

// pull brings all that a source has of a partition to node i, after the source has
// adopted the record under which that counts.
func (m *movers) pull(i, from int, r *ring.Record, p ring.Pull) {
	h, source := m.w.nodes[i], m.w.nodes[from]
	m.adopts(from, r)
	if newer := source.rings.Current(); newer.Since[p.Partition] != p.Since {
		m.adopts(i, newer) // refused, with the newer record
		return
	}
	var merges []*store.Merge
	err := source.store.Scan(p.Partition, nil, 0, func(_, b []byte) bool {
		record, err := version.Parse(b)
		if err != nil {
			m.w.t.Fatal(err)
		}
		merges = append(merges, &store.Merge{Partition: p.Partition, Record: record, Encoded: b})
		return true
	})
	if err != nil {
		m.w.t.Fatal(err)
	}
	done := make(chan error, len(merges))
	for _, merge := range merges {
		merge.Sink = committed(func(err error) { done <- err })
		h.store.Merge(merge)
	}
	var failed error
	for range merges {
		failed = errors.Join(failed, <-done)
	}
	if failed == nil {
		failed = h.store.NotePulled(p.Partition, ring.Pulled{By: h.id, Since: p.Since, From: []ring.NodeID{source.id}})
	}
	switch {
	case errors.Is(failed, store.ErrDropping):
		time.Sleep(10 * time.Millisecond) // drops take moments
	case failed != nil && !errors.Is(failed, store.ErrFenced): // by a request, meanwhile
		m.w.t.Fatal(failed)
	}
}
