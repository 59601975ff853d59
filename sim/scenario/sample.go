package scenario

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim/network"
	"github.com/kithdb/kith/sim/trace"
)

const (
	// sampleEvery is the distance of two samples, and a run that would have
	// more than samplesMax has a multiple of it.
	sampleEvery = 500 * time.Millisecond
	samplesMax  = 240
	// sampleShift keeps samples away from the round times of scripts: what
	// happens at one instant has no order.
	sampleShift = 51 * time.Millisecond
	// glance is how long a node has to answer a question of a sample.
	glance = 300 * time.Millisecond
	// tellEvery is how often the timeline says how loads fare.
	tellEvery = 5 * time.Second
)

// eye looks at one node, over a link that nothing befalls. Each node has its own,
// so that no time stamp of one node travels to another by way of the observer.
type eye struct {
	*client.Client
	host   *network.Host
	peer   atomic.Pointer[rpc.Peer]
	sees   []bool
	state  string
	offset time.Duration
	// copies of keys as they were when the node was last seen: while it is down
	// they are what its disk has.
	copies map[string]string
}

// newEye makes the eye of a node, closed.
func (r *runner) newEye(i int) *eye {
	e := &eye{copies: map[string]string{}, sees: make([]bool, len(r.Nodes))}
	e.host = r.cluster.Network.HostNamed("eye-"+r.cluster.Machines[i].Name, rpc.Peer{Addr: fmt.Sprintf("10.0.3.%d:1", i+1)}, nil)
	return e
}

// open opens the eye of a node.
func (r *runner) open(i int) error {
	m, e := r.cluster.Machines[i], r.eyes[i]
	cl, err := r.cluster.Direct(nil, i)
	if err != nil {
		return err
	}
	e.Client = cl.Client
	peer := m.Peer()
	e.peer.Store(&peer)
	clear := network.Link{Latency: time.Millisecond}
	for _, from := range []string{e.host.Name(), cl.Name} {
		r.cluster.Network.SetLink(from, m.Name, clear)
		r.cluster.Network.SetLink(m.Name, from, clear)
	}
	return nil
}

// meet learns the ID that a node has now.
func (r *runner) meet(i int) {
	m := r.cluster.Machines[i]
	if !m.Retired() && r.names.meet(m.ID(), m.Addr, i, r.Nodes[i]) {
		peer := m.Peer()
		r.eyes[i].peer.Store(&peer)
	}
}

func (e *eye) close() {
	if e.Client != nil {
		e.Client.Close()
	}
	e.host.Close()
}

// watch takes samples at even distances, until what it returns is called.
func (r *runner) watch() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		told := time.Duration(0)
		every := (r.length()/samplesMax/sampleEvery + 1) * sampleEvery
		for at := sampleShift; ; at = ((r.now()-sampleShift)/every+1)*every + sampleShift {
			rest(ctx, time.Until(r.began.Add(at)))
			if ctx.Err() != nil {
				return
			}
			s := r.sample(at)
			r.mu.Lock()
			r.run.Samples = append(r.run.Samples, s)
			r.mu.Unlock()
			if at >= told+tellEvery && len(r.Loads) > 0 {
				r.fare(told, at, s)
				told = at
			}
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

// sample looks at all nodes at once.
func (r *runner) sample(at time.Duration) trace.Sample {
	keys := r.history.Keys()
	asksAll := slices.ContainsFunc(r.Expects, func(e Expect) bool { _, ok := e.What.(Named); return ok })
	var looks sync.WaitGroup
	for i, e := range r.eyes {
		e.state = r.ways.state(i)
		e.offset = r.cluster.Machines[i].Clock.Offset()
		if e.state == stateUp {
			looks.Go(func() { r.look(i, e, keys) })
			if asksAll {
				looks.Go(func() { r.listen(i, e) })
			}
		}
	}
	looks.Wait()
	s := trace.Sample{At: at, Keys: len(keys), Differ: len(r.differing(keys))}
	for _, e := range r.eyes {
		s.Nodes = append(s.Nodes, trace.NodeSample{State: e.state, Sees: slices.Clone(e.sees), Offset: e.offset})
	}
	return s
}

// look asks a node whom it reaches, how it is, and what copies it has.
func (r *runner) look(i int, e *eye, keys []string) {
	ctx, cancel := context.WithTimeout(context.Background(), glance)
	defer cancel()
	if resp, err := api.Ring.Call(ctx, e.host, *e.peer.Load(), &api.RingRequest{Epoch: r.newestRing().Epoch}); err == nil {
		for _, m := range resp.Members {
			if k, ok := r.names.of(m.ID); ok {
				e.sees[k] = m.Alive
			}
		}
	}
	status, err := api.Status.Call(ctx, e.host, *e.peer.Load(), &api.StatusRequest{Local: true})
	if err == nil && len(status.Members) == 1 {
		switch m := &status.Members[0]; {
		case m.State == "failed":
			e.state = "failed"
		case m.Repair.Lossy > 0:
			e.state = "lossy"
		}
	}
	var mine [][]byte
	for _, k := range keys {
		if slices.Contains(r.homesOf(k), i) {
			mine = append(mine, []byte(k))
		}
	}
	for batch := range slices.Chunk(mine, 500) {
		for k, got := range e.GetAll(ctx, batch, client.One) {
			if by := got.Receipt.Answered; len(by) == 1 && by[0] == e.peer.Load().ID {
				e.copies[string(batch[k])] = fingerprint(got.Result)
			}
		}
	}
}

// fingerprint tells copies of one key apart.
func fingerprint(result client.Result) string {
	var out []string
	for _, s := range result.Siblings {
		value, _, _ := strings.Cut(string(s.Value), padding)
		out = append(out, fmt.Sprint(s.Stamp, s.Deleted, value))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// differing are the keys of which not all homes have the same.
func (r *runner) differing(keys []string) []string {
	var out []string
	for _, k := range keys {
		homes := r.homesOf(k)
		if len(homes) == 0 {
			continue
		}
		first := r.eyes[homes[0]].copies[k]
		if slices.ContainsFunc(homes, func(h int) bool { return r.eyes[h].copies[k] != first }) {
			out = append(out, k)
		}
	}
	return out
}

// saying is what one node has said of another's problems.
type saying struct {
	by   int
	text string
}

// sayingsMax bounds what is kept of each node.
const sayingsMax = 1000

// listen asks a node what it says of all others.
func (r *runner) listen(by int, e *eye) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	status, err := api.Status.Call(ctx, e.host, *e.peer.Load(), &api.StatusRequest{})
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range status.Members {
		id, err := ring.ParseNodeID(m.ID)
		of, ok := r.names.of(id)
		if err != nil || !ok || of == by {
			continue
		}
		said := r.said[r.Nodes[of]]
		for _, p := range m.Problems {
			if word := (saying{by, r.names.in(p)}); len(said) < sayingsMax && !slices.Contains(said, word) {
				said = append(said, word)
			}
		}
		r.said[r.Nodes[of]] = said
	}
}

// fare tells how the loads did in the time between.
func (r *runner) fare(from, to time.Duration, s trace.Sample) {
	type counts struct{ done, refused, unknown int }
	by := map[string]*counts{}
	r.mu.Lock()
	for _, o := range slices.Backward(r.ops) {
		if o.trace.At < from-time.Minute {
			break
		}
		ended := o.trace.At + o.trace.Took
		if o.actor.load == "" || o.trace.Outcome == "" || ended < from || ended >= to {
			continue
		}
		c := by[o.actor.load]
		if c == nil {
			c = &counts{}
			by[o.actor.load] = c
		}
		switch o.trace.Outcome {
		case trace.Done:
			c.done++
		case trace.Refused:
			c.refused++
		default:
			c.unknown++
		}
	}
	r.mu.Unlock()
	var parts []string
	for _, l := range r.Loads {
		if c := by[l.Name]; c != nil {
			parts = append(parts, fmt.Sprintf("%s %d done %d refused %d unknown", l.Name, c.done, c.refused, c.unknown))
		}
	}
	parts = append(parts, fmt.Sprintf("%d of %d keys differ", s.Differ, s.Keys))
	r.enter(trace.Event{Kind: "load", Note: strings.Join(parts, "; ")})
}
