package processes

import (
	"context"
	"fmt"
	"time"

	"github.com/kithdb/kith/sim/trace"
)

// What can befall a world, entered in the trace.

func (p *play) partition(a, b []int) error {
	err := p.world.Partition(a, b)
	p.mu.Lock()
	for _, i := range a {
		for _, j := range b {
			p.cut[i][j], p.cut[j][i] = true, true
		}
	}
	p.mu.Unlock()
	p.event(trace.Event{Kind: "partition", From: p.namesOf(a), To: p.namesOf(b)})
	return err
}

func (p *play) oneWay(from, to int) error {
	err := p.world.Cut([]int{from}, []int{to})
	p.mu.Lock()
	p.cut[from][to] = true
	p.mu.Unlock()
	p.event(trace.Event{Kind: "cut", From: p.namesOf([]int{from}), To: p.namesOf([]int{to}), Note: "one way"})
	return err
}

func (p *play) heal() error {
	err := p.world.Heal()
	p.mu.Lock()
	for i := range p.cut {
		clear(p.cut[i])
	}
	p.mu.Unlock()
	p.event(trace.Event{Kind: "heal", Nodes: p.names})
	return err
}

func (p *play) kill(node int) error { return p.change(node, "crash", "down", p.world.Kill) }

func (p *play) start(node int) error { return p.change(node, "start", "up", p.world.Start) }

func (p *play) pause(node int) error { return p.change(node, "pause", "paused", p.world.Pause) }

func (p *play) resume(node int) error { return p.change(node, "resume", "up", p.world.Resume) }

// change does something to a process.
func (p *play) change(node int, kind, state string, do func(node int) error) error {
	err := do(node)
	p.mu.Lock()
	p.state[node] = state
	p.mu.Unlock()
	p.event(trace.Event{Kind: kind, Nodes: p.namesOf([]int{node})})
	if err != nil {
		return fmt.Errorf("%s of %s: %w", kind, p.names[node], err)
	}
	return nil
}

// rest lets time pass.
func (p *play) rest(d time.Duration) { rest(context.Background(), d) }

// is says that a node is in a state.
func (p *play) is(node int, state string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state[node] == state
}

// namesOf are the names of nodes.
func (p *play) namesOf(nodes []int) (names []string) {
	for _, i := range nodes {
		names = append(names, p.names[i])
	}
	return names
}
