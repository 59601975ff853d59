package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/sim/trace"
)

// lanes are the machines over time, one under the other, with the cuts between
// them.
type lanes struct {
	Height  int // of one lane, in points
	Total   int
	Rows    []lane
	Blocks  []block
	Arcs    []arc
	Crowded bool     // so many cuts that the arcs were left out
	States  []string // the classes of the segments, for the legend
	Doubts  bool     // some lane has them
}

type lane struct {
	Name, Zone string
	Segments   []segment
	Doubt      string // a drawing: the share of the cluster that it believes gone
	Marks      []mark
	Sum        string
	Label      string // the lane in words
}

// segment is a time in which a machine was not simply up.
type segment struct {
	Left, Width float64 // percent
	State       string
	Class       string // how it is drawn
	Wide        bool   // enough for the word
	from, to    time.Duration
}

// block is a side of a cut: lanes that stand together, for as long as it lasts.
type block struct {
	Left, Width float64
	Top, Height int
	chip
	Wide bool
}

// arc joins two lanes at the moment of a cut or a heal between them.
type arc struct {
	Left         float64
	Top, Height  int
	Heal, One    bool // One: only this way is cut
	Down         bool // One: the way down is
	Path, Title  string
	MiddleX      int
	Middle       int
	HeadX, HeadY int
	Turns        int // degrees that the head is turned by
}

// mark is a small sign of something that happened to one machine.
type mark struct {
	Left  float64
	Sign  string
	Title string
}

const (
	segmentsMost = 12000 // of all lanes together
	arcsMost     = 300
	marksAtMost  = 400
	blocksMost   = 1500
	wideFrom     = 9.0 // percent of the width that hold a short word
)

func newLanes(run *trace.Run, a axis, s *sides) lanes {
	l := lanes{Height: 30}
	switch n := len(run.Nodes); {
	case n > 40:
		l.Height = 12
	case n > 12:
		l.Height = 20
	}
	l.Total = l.Height * len(run.Nodes)
	marks := nodeMarks(run, a, s)
	for i, n := range run.Nodes {
		segments := states(run, a, i)
		row := lane{
			Name: visible(n.Name, nameMost), Zone: visible(n.Zone, nameMost),
			Segments: segments, Doubt: doubt(run, a, i), Marks: marks[i],
		}
		row.Sum, row.Label = laneWords(run, a, i, segments)
		l.Rows = append(l.Rows, row)
		l.Doubts = l.Doubts || row.Doubt != ""
		for _, s := range segments {
			if !slices.Contains(l.States, s.Class) {
				l.States = append(l.States, s.Class)
			}
		}
	}
	l.blocks(run, a, s)
	l.arcs(run, a, s)
	return l
}

// change is a state that a machine is known to have had from a moment on.
type change struct {
	at    time.Duration
	state string
}

// stateAfter is what an event says of the machine that it happened to.
var stateAfter = map[string]string{
	"crash": "down", "kill": "down", "powercut": "down", "stop": "down", "start": "up",
	"pause": "paused", "resume": "up",
}

// changes are what the events and the samples tell of one machine. An event
// knows its moment; a sample of the same moment was perhaps taken before it.
func changes(run *trace.Run, node int) []change {
	var list []change
	for _, s := range run.Samples {
		if node < len(s.Nodes) && s.Nodes[node].State != "" {
			list = append(list, change{s.At, s.Nodes[node].State})
		}
	}
	for _, e := range run.Events {
		if state := stateAfter[e.Kind]; state != "" && slices.Contains(e.Nodes, run.Nodes[node].Name) {
			list = append(list, change{e.At, state})
		}
	}
	slices.SortStableFunc(list, func(a, b change) int { return cmp.Compare(a.at, b.at) })
	return list
}

// states are the times in which a machine was not simply up. Where there are
// more than can be drawn, short ones are shown as long as a bucket.
func states(run *trace.Run, a axis, node int) []segment {
	var list []segment
	state, since := "up", time.Duration(0)
	end := func(t time.Duration) {
		if state == "up" || t <= since {
			return
		}
		if n := len(list); n > 0 && list[n-1].State == state && since-list[n-1].to < a.length/width {
			list[n-1].to = t
			return
		}
		list = append(list, segment{State: visible(state, 12), from: since, to: t})
	}
	for _, c := range changes(run, node) {
		if c.state != state {
			end(c.at)
			state, since = c.state, c.at
		}
	}
	end(a.length)
	if most := segmentsMost / max(len(run.Nodes), 1); len(list) > most {
		list = coarse(list, a.length/time.Duration(most))
	}
	for i := range list {
		s := &list[i]
		s.Left = a.percent(s.from)
		s.Width = round(max(a.percent(s.to)-s.Left, 0.15))
		s.Wide = s.Width >= wideFrom
		s.Class = "odd"
		if slices.Contains([]string{"down", "paused", "lossy", "failed"}, s.State) {
			s.Class = s.State
		}
	}
	return list
}

// coarse joins what stands nearer than a step, keeping the first one's state.
func coarse(list []segment, step time.Duration) []segment {
	joined := list[:1]
	for _, s := range list[1:] {
		if last := &joined[len(joined)-1]; s.from-last.from < step {
			last.to = s.to
		} else {
			joined = append(joined, s)
		}
	}
	return joined
}

// laneWords sums a lane up for its margin, and tells it to who cannot see it.
func laneWords(run *trace.Run, a axis, node int, list []segment) (sum, label string) {
	times := map[string]time.Duration{}
	var order, parts []string
	for i, s := range list {
		if times[s.State] == 0 {
			order = append(order, s.State)
		}
		times[s.State] += s.to - s.from
		if i < 12 {
			parts = append(parts, fmt.Sprintf("%s %s to %s", s.State, moment(s.from), moment(s.to)))
		}
	}
	var sums []string
	for _, state := range order {
		sums = append(sums, state+" "+seconds(times[state].Round(10*time.Millisecond)))
	}
	if off := farthest(run, node); off != 0 {
		sign := "+"
		if off < 0 {
			sign = ""
		}
		sums = append(sums, "clock "+sign+seconds(off))
		parts = append(parts, "clock wrong by "+seconds(off))
	}
	sum = strings.Join(sums, ", ")
	label = visible(run.Nodes[node].Name, nameMost) + ": "
	if len(parts) == 0 {
		return sum, label + "up all the time"
	}
	return sum, label + strings.Join(parts, ", ")
}

// farthest is by how much a machine's clock was wrong when it was at its worst.
func farthest(run *trace.Run, node int) time.Duration {
	var worst time.Duration
	for _, s := range run.Samples {
		if node < len(s.Nodes) && s.Nodes[node].Offset.Abs() > worst.Abs() {
			worst = s.Nodes[node].Offset
		}
	}
	return worst
}

// doubt draws how much of the cluster a machine believes to be gone.
func doubt(run *trace.Run, a axis, node int) string {
	var d strings.Builder
	samples := run.Samples
	begin, share := time.Duration(0), 0.0
	flush := func(t time.Duration) {
		if share > 0 {
			left, right := a.x(begin), a.x(t)
			top := round(100 - 100*share)
			fmt.Fprintf(&d, "M%g 100V%gH%gV100z", left, top, right)
		}
	}
	last := -1.0
	for _, s := range samples {
		now := 0.0
		if node < len(s.Nodes) && s.Nodes[node].State != "down" {
			now = gone(s.Nodes[node].Sees, node)
		}
		if now == share || a.x(s.At)-last < 2 { // finer than can be seen
			continue
		}
		last = a.x(s.At)
		flush(s.At)
		begin, share = s.At, now
	}
	flush(a.length)
	return d.String()
}

// gone is the share of all others that a machine believes to be unreachable.
func gone(sees []bool, node int) float64 {
	missing := 0
	for i, ok := range sees {
		if !ok && i != node {
			missing++
		}
	}
	if len(sees) < 2 {
		return 0
	}
	return float64(missing) / float64(len(sees)-1)
}

// signs are the kinds of events that have one of their own.
var signs = map[string]bool{
	"cut": true, "heal": true, "crash": true, "powercut": true, "start": true, "stop": true, "pause": true,
	"resume": true, "clock": true, "disk": true, "link": true, "expect": true, "ready": true, "view": true,
}

func sign(kind string) string {
	switch {
	case kind == "isolate" || kind == "partition":
		return "cut"
	case kind == "kill":
		return "crash"
	case signs[kind]:
		return kind
	}
	return "note"
}

// nodeMarks are the signs in the lanes: of what happened to single machines.
func nodeMarks(run *trace.Run, a axis, s *sides) [][]mark {
	marks := make([][]mark, len(run.Nodes))
	n := 0
	for _, e := range run.Events {
		if splits(e) || e.Kind == "ready" || e.Kind == "expect" || len(e.Nodes) > max(3, len(run.Nodes)/2) && e.Kind == "link" {
			continue
		}
		for _, i := range s.find(e.Nodes) {
			if n++; n > marksAtMost {
				return make([][]mark, len(run.Nodes)) // the row of all events has them
			}
			marks[i] = append(marks[i], mark{a.percent(e.At), sign(e.Kind), tell(e)})
		}
	}
	return marks
}

// tell says an event in one line.
func tell(e trace.Event) string {
	parts := []string{visible(e.Kind, 20)}
	switch {
	case len(e.From) > 0 || len(e.To) > 0:
		between := " | "
		if oneWay(e) {
			between = " → "
		}
		parts = append(parts, names(e.From)+between+names(e.To))
	case len(e.Nodes) > 0:
		parts = append(parts, names(e.Nodes))
	}
	line := strings.Join(parts, " ")
	if e.Note != "" {
		line += ": " + visible(e.Note, noteMost)
	}
	return line
}
