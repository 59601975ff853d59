package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
	"github.com/kithdb/kith/sim/trace"
)

const (
	readyLimit = 2 * time.Minute // until a cluster serves, at first and when mended
	finalLimit = time.Minute     // until all homes of one key agree in the end
)

// Options are how a scenario is played, and what replaces what it says.
type Options struct {
	Seed uint64
	// Nodes and Replicas of the cluster; 0 is as the scenario has it. Nodes
	// are added at the end or left out there.
	Nodes, Replicas int
	// R and W are the levels of all loads; nil is as the scenario has them.
	R, W *Level
	// Key is the one whose story is told; empty is the one that broke a
	// promise, or else one to which something happened.
	Key string
	// Tell is called with every event as it happens, in order, from inside
	// the bubble. It must not wait for what the caller does in it.
	Tell func(trace.Event)
	// Tick is called after every second of virtual time, like Tell, from the
	// beginning on: while it is called the run is alive.
	Tick func()
}

// Run plays the scenario in a bubble of its own. What is expected and does not
// hold stands in the run's checks; an error says that there is no run, because the
// scenario does not fit the options or its cluster never began to serve.
func Run(s *Scenario, o Options) (*trace.Run, error) {
	s, err := s.with(o)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	var run *trace.Run
	sim.Bubble(new(testing.T), func(*testing.T) { run, err = play(s, o) })
	if run != nil {
		run.Wall = time.Since(began)
	}
	return run, err
}

// with gives the scenario with the options' cluster and levels.
func (s *Scenario) with(o Options) (*Scenario, error) {
	if o.Nodes < 0 || o.Nodes > NodesMax {
		return nil, fmt.Errorf("%d nodes: want 1 to %d", o.Nodes, NodesMax)
	}
	if o.Replicas < 0 || o.Replicas > ring.ReplicasMax {
		return nil, fmt.Errorf("%d replicas: want 1 to %d", o.Replicas, ring.ReplicasMax)
	}
	out := *s
	out.Nodes = slices.Clone(s.Nodes)
	if o.Nodes > 0 {
		nodes := slices.Clone(s.members())
		for c := 'a'; len(nodes) < o.Nodes; c++ {
			n := string(c)
			if c > 'z' {
				n = fmt.Sprintf("n%d", c-'z')
			}
			if !slices.Contains(nodes, n) && !slices.Contains(s.Spare, n) {
				nodes = append(nodes, n)
			}
		}
		out.Nodes = append(nodes[:o.Nodes], s.Spare...)
	}
	if o.Replicas > 0 {
		out.Replicas = o.Replicas
	}
	out.Loads = slices.Clone(s.Loads)
	for i := range out.Loads {
		if o.R != nil {
			out.Loads[i].R = *o.R
		}
		if o.W != nil {
			out.Loads[i].W = *o.W
		}
	}
	if errs := out.check(); len(errs) > 0 {
		return nil, fmt.Errorf("%s with these options: %w", s.Name, errors.Join(errs...))
	}
	return &out, nil
}

// runner is one run. Its methods are called from the goroutine that plays the
// script, unless they say otherwise.
type runner struct {
	*Scenario
	options Options
	cluster *sim.Cluster
	record  *ring.Record
	began   time.Time
	history *sim.History
	run     *trace.Run
	names   *directory
	ways    *ways
	through []*actor // one beside every node
	eyes    []*eye
	queue   []pending
	reads   map[string]*read  // of the script, by name
	keys    map[string]string // of those that are at home on certain nodes: their real names
	damaged map[int]bool      // disks whose bytes the script has changed
	wrong   string            // the key of the first operation that was not as expected
	stop    context.CancelFunc
	loads   sync.WaitGroup
	// changing are the changes of the ring that operators wait for.
	changing sync.WaitGroup

	mu   sync.Mutex // guards what follows
	ops  []*operation
	said map[string][]saying // of each node
}

// play is Run inside a bubble.
func play(s *Scenario, o Options) (*trace.Run, error) {
	defer tick(o.Tick)()
	c, err := sim.NewCluster(s.clusterOptions(o.Seed))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.WaitReady(readyLimit); err != nil {
		return nil, fmt.Errorf("the cluster does not begin to serve: %w\n%s", err, c.Log())
	}
	for range s.Spare {
		c.Spare()
	}
	r := &runner{
		Scenario: s, options: o, cluster: c,
		names: newDirectory(), reads: map[string]*read{}, keys: map[string]string{}, damaged: map[int]bool{}, said: map[string][]saying{},
	}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	defer r.close()
	r.began, r.history = time.Now(), sim.NewHistory()
	if !slices.ContainsFunc(s.Steps, func(st Step) bool { _, ok := st.Do.(Clock); return ok }) {
		r.history.ClocksRight()
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	r.stop = stop
	r.event("ready", nil, fmt.Sprintf("%d nodes, %d homes a key, %d partitions", len(s.members()), s.homes(), r.run.Partitions))
	if err := r.startLoads(ctx); err != nil {
		return nil, err
	}
	watch := r.watch()
	r.script()
	stop()
	r.loads.Wait()
	r.sampled()
	r.changing.Wait()
	r.equal()
	r.settled()
	watch()
	final := r.settle()
	r.judge(final)
	r.run.Length = r.now()
	return r.run, nil
}

// tick calls f every second, until what it returns is called.
func tick(f func()) (stop func()) {
	if f == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			f()
			rest(ctx, time.Second)
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

func (s *Scenario) clusterOptions(seed uint64) sim.Options {
	o := sim.Options{Seed: seed, Nodes: len(s.members()), Replicas: s.homes(), Partitions: s.Partitions, Pace: s.Pace}
	if s.Link != nil {
		o.Network.Link = *s.Link
	}
	zone := s.zoneOf()
	o.Node = func(i int, cfg *node.Config) { cfg.Name, cfg.Zone = s.Nodes[i], zone[s.Nodes[i]] }
	return o
}

func (s *Scenario) zoneOf() map[string]string {
	out := map[string]string{}
	for _, z := range s.Zones {
		for _, n := range z.Nodes {
			out[n] = z.Name
		}
	}
	return out
}

// now is how long the run has lasted.
func (r *runner) now() time.Duration { return time.Since(r.began) }

// prepare learns the ring and makes the clients that the run needs anyway.
func (r *runner) prepare() error {
	var err error
	if r.record, err = r.cluster.Ring(); err != nil {
		return err
	}
	r.run = &trace.Run{
		Title: r.Title(), Text: r.Text, Seed: r.options.Seed, World: "scripted",
		Replicas: r.homes(), Partitions: r.record.Partitions,
	}
	zone := r.zoneOf()
	for i, m := range r.cluster.Machines {
		r.run.Nodes = append(r.run.Nodes, trace.Node{Name: r.Nodes[i], Zone: zone[r.Nodes[i]]})
		if !m.Retired() {
			r.names.meet(m.ID(), m.Addr, i, r.Nodes[i])
		}
	}
	base := network.Link{Latency: time.Millisecond, Jitter: time.Millisecond}
	if r.Link != nil {
		base = *r.Link
	}
	r.ways = newWays(r.cluster, base)
	if err := r.place(); err != nil {
		return err
	}
	r.through, r.eyes = make([]*actor, len(r.Nodes)), make([]*eye, len(r.Nodes))
	for i, m := range r.cluster.Machines {
		r.eyes[i] = r.newEye(i)
		if m.Retired() {
			continue // spare
		}
		if err := r.beside(i); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) close() {
	for _, a := range r.through {
		if a != nil {
			a.Close()
		}
	}
	for _, e := range r.eyes {
		e.close()
	}
}

// indexes are the numbers of nodes.
func (r *runner) indexes(nodes []string) []int {
	var out []int
	for _, n := range r.expand(nodes) {
		out = append(out, slices.Index(r.Nodes, n))
	}
	return out
}

// list are the names of nodes.
func (r *runner) list(nodes []int) []string {
	var out []string
	for _, i := range nodes {
		out = append(out, r.Nodes[i])
	}
	return out
}

// event enters something that happened, and tells it.
func (r *runner) event(kind string, nodes []int, note string) {
	r.enter(trace.Event{Kind: kind, Nodes: r.list(nodes), Note: note})
}

// enter may be called from any goroutine.
func (r *runner) enter(e trace.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.At = r.now()
	r.run.Events = append(r.run.Events, e)
	if r.options.Tell != nil {
		r.options.Tell(e)
	}
}

// check enters what held or did not.
func (r *runner) check(name string, line int, ok bool, format string, args ...any) {
	detail := ""
	if format != "" {
		detail = fmt.Sprintf(format, args...)
	}
	r.run.Checks = append(r.run.Checks, trace.Check{Name: name, OK: ok, Detail: detail, Line: line})
}

// Fits says whether the scenario can be played with the options.
func (s *Scenario) Fits(o Options) error {
	_, err := s.with(o)
	return err
}
