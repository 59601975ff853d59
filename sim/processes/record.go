package processes

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/trace"
)

const (
	sampleEvery = time.Second
	valueMax    = 40 // bytes of a value that a trace shows
)

func (p *play) event(e trace.Event) {
	e.At = time.Since(p.began)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run.Events = append(p.run.Events, e)
}

// check enters whether something held.
func (p *play) check(name string, ok bool, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run.Checks = append(p.run.Checks, trace.Check{Name: name, OK: ok, Detail: fmt.Sprintf(format, args...)})
}

// note keeps what the history does not of an operation, and on which side of a
// cut it was coordinated.
func (p *play) note(op *sim.Op, m meta) *sim.Op {
	short, known := strings.CutPrefix(op.Note, "by ")
	if m.via == "" && known {
		m.via = p.short[short]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m.side = p.side(slices.Index(p.names, m.via))
	p.metas[op] = m
	return op
}

// side is whom a node reaches, while something is cut. mu is held.
func (p *play) side(node int) string {
	if node < 0 || !slices.ContainsFunc(p.cut, func(row []bool) bool { return slices.Contains(row, true) }) {
		return ""
	}
	var names []string
	for i, with := range p.reaches(node) {
		if with {
			names = append(names, p.names[i])
		}
	}
	return strings.Join(names, " ")
}

// sample looks at every node once in a while, until stop is called.
func (p *play) sample() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var watchers []*sim.Client
	for i := range p.names {
		c, err := p.world.Dial(nil, []client.Option{client.Direct()}, i)
		if err != nil {
			p.check("nodes can be watched", false, "%s: %v", p.names[i], err)
			continue
		}
		watchers = append(watchers, c)
	}
	go func() {
		defer close(done)
		for ctx.Err() == nil && len(watchers) == len(p.names) {
			p.look(ctx, watchers)
			rest(ctx, sampleEvery)
		}
	}()
	return func() {
		cancel()
		<-done
		for _, c := range watchers {
			c.Close()
		}
	}
}

// look takes one sample: those that don't answer are as they were last seen.
func (p *play) look(ctx context.Context, watchers []*sim.Client) {
	s := trace.Sample{At: time.Since(p.began)}
	for i := range p.names {
		sees := make([]bool, len(p.names))
		if p.is(i, "up") {
			one, cancel := context.WithTimeout(ctx, sampleEvery)
			if status, err := watchers[i].Status(one); err == nil {
				sees = p.heardIn(status)
			}
			cancel()
		}
		p.mu.Lock()
		s.Nodes = append(s.Nodes, trace.NodeSample{State: p.state[i], Sees: sees})
		p.mu.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run.Samples = append(p.run.Samples, s)
}

// finish makes the trace whole.
func (p *play) finish(err error) {
	p.judged()
	p.check("the story was told to its end", err == nil, "%s", text(err))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run.Length = time.Since(p.began)
	slices.SortStableFunc(p.run.Samples, func(a, b trace.Sample) int { return cmp.Compare(a.At, b.At) })
	missed := sim.Missed(p.history)
	for _, op := range p.history.Ops() {
		m := p.metas[op]
		o := trace.Op{
			At: op.Began.Sub(p.began), Took: op.Ended.Sub(op.Began), Client: op.Client, Via: m.via, Side: m.side,
			Kind: "put", Key: op.Key, Value: op.Value, Level: m.level, Context: op.After != nil, Note: op.Note,
			Outcome: trace.Outcome(op.Outcome.String()),
		}
		if put := missed[op]; put != nil {
			o.Stale, o.Behind = true, op.Began.Sub(put.Ended)
		}
		switch {
		case op.Read:
			o.Kind, o.Value = "get", strings.Join(op.Saw, ", ")
		case op.Delete:
			o.Kind = "delete"
		}
		if len(o.Value) > valueMax {
			o.Value = o.Value[:valueMax] + "…"
		}
		p.run.Ops = append(p.run.Ops, o)
	}
	p.run.Story = trace.Story{Key: p.key, Lines: slices.Collect(strings.Lines(p.history.Story(p.key)))}
}
