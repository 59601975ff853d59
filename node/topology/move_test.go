package topology

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
)

// mover sees to a node's moves through Propose, by the node's agenda. What it has
// pulled, from a source that held the record by then, is noted durably: it outlives
// the node's process.
type mover struct {
	*node
	all   []*node
	notes map[ring.Partition]ring.Pulled
}

// turn does what there is to do by the record that the node holds.
func (m *mover) turn(ctx context.Context) {
	r := m.Current()
	noted := func(p ring.Partition) ring.Pulled { return m.notes[p] }
	absent := func(id ring.NodeID) bool {
		return slices.ContainsFunc(m.all, func(n *node) bool { return n.id == id && !n.isUp() })
	}
	for _, p := range r.Agenda(m.id, ring.Pace{}, noted, absent).Pulls {
		for _, id := range p.From {
			source := m.all[slices.IndexFunc(m.all, func(n *node) bool { return n.id == id })]
			if source.Adopt(ctx, r.Encode()) != nil || source.Current().Since[p.Partition] != p.Since {
				continue
			}
			note := m.notes[p.Partition]
			if note.Since != p.Since {
				note = ring.Pulled{By: m.id, Since: p.Since}
			}
			note.From = append(slices.Clone(note.From), id)
			m.notes[p.Partition] = note
		}
	}
	// Undecided, or refused because another change came first: the next turn.
	_, _ = m.Propose(ctx, func(r *ring.Record) (*ring.Record, error) {
		if a := r.Agenda(m.id, ring.Pace{}, noted, absent); len(a.Steps) > 0 {
			return r.WithSteps(a.Steps)
		}
		return r.WithQueue()
	})
}

func (n *node) isUp() bool {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	return n.up
}

// moved lets all nodes see to their moves, one of them killed and started again now
// and then, until no move is left.
func (w *world) moved(nodes []*node, kill bool) *ring.Record {
	w.t.Helper()
	var movers []*mover
	for _, n := range nodes {
		movers = append(movers, &mover{n, nodes, map[ring.Partition]ring.Pulled{}})
	}
	for turn := 0; ; turn++ {
		if turn > 400 {
			w.t.Fatalf("seed %d: the moves have no end: %v", w.seed, nodes[0].Current().Moves)
		}
		var turns sync.WaitGroup
		for _, m := range movers {
			turns.Go(func() {
				ctx, cancel := within(5 * time.Second)
				defer cancel()
				m.turn(ctx)
			})
		}
		turns.Wait()
		if n := nodes[w.dice.IntN(len(nodes))]; kill && turn < 20 && w.dice.IntN(3) == 0 {
			n.kill()
			n.start()
		}
		if r := nodes[0].Current(); len(r.Moves) == 0 && turn > 20 {
			if next, err := r.WithQueue(); err == nil && next == r {
				return w.agree(r.Epoch, nodes...)
			}
		}
	}
}

// Whatever several operators want at once comes one after the other, whole or not at
// all, and everybody ends with the same ring, in which all of it stands.
func TestFault46_JoinsAndLeavesAtOnceAreSerialised(t *testing.T) {
	for seed := range uint64(runs(4)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(5, 3)
			for range 2 {
				n := w.node(Config{})
				n.start()
				nodes = append(nodes, n)
			}
			w.agree(4, nodes...)
			w.storm(seed%2 == 1)
			leaver, newcomers := nodes[1].id, []ring.NodeID{nodes[5].id, nodes[6].id}
			var wishes sync.WaitGroup
			for i, wish := range []func(*ring.Record) (*ring.Record, error){
				func(r *ring.Record) (*ring.Record, error) { return r.WithJoin(ring.Member{ID: newcomers[0]}) },
				func(r *ring.Record) (*ring.Record, error) { return r.WithJoin(ring.Member{ID: newcomers[1]}) },
				func(r *ring.Record) (*ring.Record, error) { return r.WithLeave(leaver) },
				func(r *ring.Record) (*ring.Record, error) { return r.WithLeave(leaver) },
				func(r *ring.Record) (*ring.Record, error) { return r.WithWeight(nodes[2].id, 2) },
			} {
				wishes.Go(func() {
					ctx, cancel := within(2 * time.Minute)
					defer cancel()
					if _, err := nodes[(i+3)%len(nodes)].Propose(ctx, wish); err != nil {
						t.Errorf("seed %d: wish %d: %v", seed, i, err)
					}
				})
			}
			wishes.Wait()
			r := w.moved(nodes, false)
			if r.HomeCount(leaver) > 0 || r.Member(leaver).State != ring.Leaving || r.Member(nodes[2].id).Weight != 2 {
				t.Errorf("seed %d: the leaver, %v, has %d slots", seed, r.Member(leaver).State, r.HomeCount(leaver))
			}
			for _, b := range r.Balance() {
				if d := float64(b.Homes) - b.Share; d <= -1 || d >= 1 {
					t.Errorf("seed %d: %s has %d slots, its share is %v", seed, b.Member.ID.Short(), b.Homes, b.Share)
				}
			}
		})
	}
}

// Whoever is killed while slots move goes on where it was: by its record and its
// notes.
func TestFault19_KillsDuringMovesAreResumed(t *testing.T) {
	for seed := range uint64(runs(4)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(4, 3)
			nodes = append(nodes, w.bystander(nodes))
			ctx, cancel := within(time.Minute)
			defer cancel()
			if _, err := nodes[4].Propose(ctx, func(r *ring.Record) (*ring.Record, error) { return r.WithJoin(ring.Member{ID: nodes[4].id}) }); err != nil {
				t.Fatal(err)
			}
			r := w.moved(nodes, true)
			if share := r.Partitions * r.Replicas / 5; r.HomeCount(nodes[4].id) < share {
				t.Errorf("seed %d: the newcomer has %d slots, its share is %d", seed, r.HomeCount(nodes[4].id), share)
			}
		})
	}
}
