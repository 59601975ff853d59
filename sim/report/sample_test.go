package report

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/sim/trace"
)

// shape is what a made-up run is like: five nodes are halved, one crashes, one
// is paused, one has a wrong clock.
type shape struct {
	seed   uint64
	nodes  int
	ops    int
	length time.Duration
	broken bool
}

const script = `# Split brain: the network halves a cluster of five.
#
# Whoever has a quorum of a key's homes goes on; the others refuse at once, and
# say why. Reads at one go on everywhere, and may be stale.
cluster a b c d e replicas=3
zone rack1 a b
zone rack2 c d e

clients 6 keys=40 rate=80/s reads=60% r=quorum w=quorum

at 10s cut a b c | d e
at 30s heal
at 36s crash d
at 41s start d
at 45s pause b
at 50s resume b
at 52s clock c +1h

expect reads at quorum on side a,b,c succeed from 12s to 30s
expect writes at quorum on side d,e are refused from 12s to 30s
expect no write is lost
expect equal within 20s
`

// made makes up a run, always the same for a shape.
func made(s shape) *trace.Run {
	m := maker{shape: s, rng: rand.New(rand.NewPCG(s.seed, 1)), unit: s.length / 60}
	run := &trace.Run{
		Title: "split-brain", Text: script, Seed: s.seed, World: "scripted",
		Replay: fmt.Sprintf("kith sim run split-brain --seed %d", s.seed),
		Length: s.length, Wall: 1380 * time.Millisecond, Replicas: 3, Partitions: 16,
	}
	for i := range s.nodes {
		name := fmt.Sprintf("n%02d", i)
		if s.nodes <= 26 {
			name = string(rune('a' + i))
		}
		run.Nodes = append(run.Nodes, trace.Node{Name: name, Zone: fmt.Sprintf("rack%d", 1+i*2/s.nodes)})
		m.names = append(m.names, name)
	}
	m.half = (s.nodes + 1) / 2
	m.events(run)
	for i := range s.ops {
		run.Ops = append(run.Ops, m.op(time.Duration(i)*s.length/time.Duration(s.ops)))
	}
	for i := range 241 {
		run.Samples = append(run.Samples, m.sample(time.Duration(i)*s.length/240))
	}
	m.judge(run)
	return run
}

type maker struct {
	shape
	rng   *rand.Rand
	names []string
	half  int
	unit  time.Duration // a sixtieth of the run
}

func (m *maker) at(units int) time.Duration { return time.Duration(units) * m.unit }

func (m *maker) cut(t time.Duration) bool { return t >= m.at(10) && t < m.at(30) }

// The machines that single faults befall.
func (m *maker) crashed() int { return m.half }
func (m *maker) paused() int  { return 1 }

func (m *maker) events(run *trace.Run) {
	a, b := m.names[:m.half], m.names[m.half:]
	run.Events = []trace.Event{
		{At: m.at(0), Kind: "ready", Note: "all members see each other"},
		{At: m.at(10), Kind: "cut", From: a, To: b},
		{At: m.at(12), Kind: "expect", Note: "reads at quorum on side A succeed"},
		{At: m.at(30), Kind: "heal"},
		{At: m.at(36), Kind: "crash", Nodes: []string{m.names[m.crashed()]}, Note: "kill -9"},
		{At: m.at(41), Kind: "start", Nodes: []string{m.names[m.crashed()]}},
		{At: m.at(45), Kind: "pause", Nodes: []string{m.names[m.paused()]}},
		{At: m.at(50), Kind: "resume", Nodes: []string{m.names[m.paused()]}},
		{At: m.at(52), Kind: "clock", Nodes: []string{m.names[2]}, Note: "an hour ahead"},
		{At: m.at(54), Kind: "cut", From: a[:1], To: b[len(b)-1:], Note: "one way"},
		{At: m.at(57), Kind: "heal", From: a[:1], To: b[len(b)-1:]},
		{At: m.at(60), Kind: "expect", Note: "no write is lost"},
	}
}

func (m *maker) op(t time.Duration) trace.Op {
	i := m.rng.IntN(6)
	o := trace.Op{
		At: t + time.Duration(m.rng.Int64N(int64(time.Millisecond))), Client: fmt.Sprintf("client%d", i+1), Kind: "get", Level: "quorum",
		Key: fmt.Sprintf("user/%d", m.rng.IntN(40)), Outcome: trace.Done,
		Took: time.Duration(float64(900*time.Microsecond) * math.Exp(m.rng.NormFloat64()*0.5)),
	}
	minority := i >= 4
	o.Via = m.names[m.rng.IntN(m.half)]
	if minority {
		o.Via = m.names[m.half+m.rng.IntN(len(m.names)-m.half)]
	}
	if m.rng.IntN(10) < 4 {
		o.Kind, o.Value, o.Context = "put", fmt.Sprintf("v%d", m.rng.IntN(1e6)), m.rng.IntN(2) == 0
		o.Took *= 3
	}
	if m.rng.IntN(3) == 0 {
		o.Level = "one"
	}
	if m.cut(t) {
		o.Side = strings.Join(m.names[:m.half], ",")
		if minority {
			o.Side = strings.Join(m.names[m.half:], ",")
		}
		m.divided(&o, t, minority)
	}
	if t >= m.at(36) && t < m.at(38) && m.rng.IntN(5) == 0 || t >= m.at(45) && t < m.at(47) && m.rng.IntN(6) == 0 {
		o.Outcome, o.Took, o.Note = trace.Unknown, time.Second, "deadline exceeded"
	}
	if o.Outcome == trace.Refused {
		o.Note = "need 2 of 3, got 1: a: unreachable, b: unreachable"
	}
	return o
}

// divided is what a cut makes of an operation.
func (m *maker) divided(o *trace.Op, t time.Duration, minority bool) {
	chance := m.rng.Float64()
	refused := 0.3
	if minority {
		refused = 0.68
	}
	switch {
	case t < m.at(12) && chance < 0.25:
		o.Outcome, o.Took = trace.Unknown, time.Second
	case o.Level == "quorum" && chance < refused:
		o.Outcome = trace.Refused
	case o.Level == "one" && o.Kind == "get" && chance < 0.3:
		o.Stale, o.Behind = true, time.Duration(m.rng.Float64()*float64(t-m.at(10)))
	}
}

func (m *maker) sample(t time.Duration) trace.Sample {
	s := trace.Sample{At: t, Keys: 40}
	switch {
	case m.cut(t):
		s.Differ = min(int(float64(t-m.at(10))/float64(m.unit)*2.1), 31)
	case t >= m.at(30) && t < m.at(38):
		s.Differ = max(31-int(float64(t-m.at(30))/float64(m.unit)*5), 0)
	}
	for i := range m.names {
		n := trace.NodeSample{State: "up", Sees: make([]bool, len(m.names))}
		down := t >= m.at(36) && t < m.at(41)
		for j := range n.Sees {
			n.Sees[j] = !(t >= m.at(12) && t < m.at(31) && (i < m.half) != (j < m.half)) &&
				!(t >= m.at(37) && t < m.at(42) && j == m.crashed())
		}
		switch {
		case i == m.crashed() && down:
			n.State = "down"
		case i == m.paused() && t >= m.at(45) && t < m.at(50):
			n.State = "paused"
		case i == len(m.names)-1 && t >= m.at(20) && t < m.at(26):
			n.State = "lossy"
		}
		if i == 2 && t >= m.at(52) {
			n.Offset = time.Hour
		}
		s.Nodes = append(s.Nodes, n)
	}
	return s
}

func (m *maker) judge(run *trace.Run) {
	line := func(text string) int {
		return slices.Index(strings.Split(script, "\n"), text) + 1
	}
	run.Checks = []trace.Check{
		{Name: "no acknowledged write is lost", OK: !m.broken, Line: line("expect no write is lost")},
		{Name: "no refused write exists", OK: true},
		{Name: "siblings are the oracle's", OK: true},
		{Name: "quorum reads never go backwards", OK: true},
		{Name: "reads at quorum on side a,b,c succeed from 12s to 30s", OK: true, Detail: "412 of 412", Line: line("expect reads at quorum on side a,b,c succeed from 12s to 30s")},
		{Name: "equal within 20s", OK: true, Detail: "after 6.25 s", Line: line("expect equal within 20s")},
	}
	run.Story.Key = "user/7"
	for i := range run.Ops {
		o := &run.Ops[i]
		if o.Key == run.Story.Key {
			run.Story.Lines = append(run.Story.Lines, fmt.Sprintf("%9.4f to %9.4f  %s: %s %s %s (%s): %s %s",
				o.At.Seconds(), (o.At+o.Took).Seconds(), o.Client, o.Kind, o.Key, o.Value, o.Level, o.Outcome, o.Note))
		}
	}
	if m.broken {
		run.Checks[0].Detail = "user/7: put v48213 was acknowledged to client2 at 29.412 s with 2 of 3 homes; the final read at all homes shows v11002, which had not seen it"
		run.Story.Lines = append(run.Story.Lines, "  60.0000  final read at all homes shows v11002: v48213 is lost")
	}
}
