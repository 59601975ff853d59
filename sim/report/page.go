package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/sim/trace"
)

// page is all that the template shows. Every string in it has gone through
// visible or is ours.
type page struct {
	Title    string
	Verdict  string // held, broken or none
	Headline string
	Facts    []string
	Replay   string
	Checks   []check
	Held     int
	Answer   answer
	Chips    []chip
	Ticks    []tick
	Bands    []band
	Lanes    lanes
	Events   events
	Panels   []panel
	Story    *story
	Text     []textLine
	Data     data
}

type check struct {
	Name, Detail string
	OK           bool
	Line         int
}

// textLine is one of the scenario.
type textLine struct {
	N      int
	Text   string
	Note   bool   // a comment
	Broken bool   // an expectation that did not hold
	Held   bool   // one that did
	Say    string // for who cannot see it
}

// band is a time in which somebody did not hear somebody.
type band struct{ From, To float64 }

const (
	checksMost = 500
	textMost   = 2000 // lines
	bandsMost  = 120
	detailMost = 1500
)

func newPage(run *trace.Run) *page {
	run = inOrder(run)
	f := newFolder(run)
	whole := collect(run, f, nil)
	a := newAxis(run, len(whole))
	s := newSides(run, a.length)
	l := newLegend(run, f, s)
	l.sort(whole)
	p := &page{
		Title: visible(run.Title, 120), Replay: visible(run.Replay, 2000),
		Answer: newAnswer(whole, l), Ticks: a.ticks(), Lanes: newLanes(run, a, s),
		Events: newEvents(run, a), Story: newStory(run, a),
	}
	if p.Title == "" {
		p.Title = fmt.Sprintf("seed %d", run.Seed)
	}
	p.judge(run)
	for i := range min(len(s.members), 12) {
		p.Chips = append(p.Chips, s.chip(i))
	}
	p.Bands = bands(s, a)
	rates := collect(run, f, &a)
	l.sort(rates)
	reads, writes := rateRows(rates, l, a)
	stale, staleWords := staleness(run, f, a)
	differ, differWords := divergence(run, a)
	for _, panel := range []panel{reads, writes, stale, differ, latencies(run, a)} {
		if len(panel.Rows) > 0 {
			p.Panels = append(p.Panels, panel)
		}
	}
	p.Facts = facts(run, s, whole, staleWords, differWords)
	p.script(run)
	p.Data = newData(run, a, p.Panels)
	return p
}

// inOrder is the run with its events and samples by time; events of one moment
// stay as they were told.
func inOrder(run *trace.Run) *trace.Run {
	r := *run
	r.Events, r.Samples = slices.Clone(run.Events), slices.Clone(run.Samples)
	slices.SortStableFunc(r.Events, func(a, b trace.Event) int { return cmp.Compare(a.At, b.At) })
	slices.SortStableFunc(r.Samples, func(a, b trace.Sample) int { return cmp.Compare(a.At, b.At) })
	return &r
}

// judge lists the checks, those that broke first, and says how it came out.
func (p *page) judge(run *trace.Run) {
	var broken []string
	for _, c := range run.Checks {
		if c.OK {
			p.Held++
		} else {
			broken = append(broken, visible(c.Name, 120))
		}
		p.Checks = append(p.Checks, check{visible(c.Name, noteMost), visible(c.Detail, detailMost), c.OK, c.Line})
	}
	slices.SortStableFunc(p.Checks, func(a, b check) int {
		if a.OK == b.OK {
			return 0
		}
		if b.OK {
			return -1
		}
		return 1
	})
	p.Checks = p.Checks[:min(len(p.Checks), checksMost)]
	switch n := len(run.Checks); {
	case n == 0:
		p.Verdict, p.Headline = "none", "Nothing was expected of this run."
	case n == 1 && len(broken) == 1:
		p.Verdict, p.Headline = "broken", fmt.Sprintf("The one expectation broke: “%s”.", broken[0])
	case len(broken) == 0 && n == 1:
		p.Verdict, p.Headline = "held", "The one expectation held."
	case len(broken) == 0:
		p.Verdict, p.Headline = "held", "All "+count(n)+" expectations held."
	case len(broken) == 1:
		p.Verdict, p.Headline = "broken", fmt.Sprintf("1 of %s expectations broke: “%s”.", count(n), broken[0])
	default:
		p.Verdict, p.Headline = "broken", fmt.Sprintf("%s of %s expectations broke.", count(len(broken)), count(n))
	}
}

// facts are the sentences under the headline.
func facts(run *trace.Run, s *sides, groups []*group, stale, differ string) []string {
	zones := map[string]bool{}
	for _, n := range run.Nodes {
		if n.Zone != "" {
			zones[n.Zone] = true
		}
	}
	set := plural(len(run.Nodes), "node", "nodes")
	if len(zones) > 1 {
		set += " in " + plural(len(zones), "zone", "zones")
	}
	if run.Replicas > 0 {
		set += ", " + plural(run.Replicas, "copy", "copies") + " of each key"
	}
	if run.World != "" {
		set += ", membership: " + visible(run.World, nameMost)
	}
	set += fmt.Sprintf(", seed %d. %s", run.Seed, seconds(run.Length))
	if run.World != "processes" {
		set += " of virtual time"
	}
	if run.Wall > 0 && run.World != "processes" {
		set += ", simulated in " + seconds(run.Wall.Round(time.Millisecond))
	}
	list := []string{set + "."}
	if words := troubles(run, s); words != "" {
		list = append(list, words)
	}
	var t tally
	for _, g := range groups {
		t.done += g.told.done
		t.refused += g.told.refused
		t.unknown += g.told.unknown
	}
	if t.all() > 0 {
		list = append(list, fmt.Sprintf("%s: %s done, %s refused, %s unknown.",
			plural(t.all(), "operation", "operations"), count(t.done), count(t.refused), count(t.unknown)))
	}
	for _, words := range []string{stale, differ} {
		if words != "" {
			list = append(list, words)
		}
	}
	return list
}

// troubles counts what befell the cluster.
func troubles(run *trace.Run, s *sides) string {
	counts := map[string]int{}
	for _, e := range run.Events {
		switch {
		case e.Note == "mended" || e.Note == "as before":
		case e.Kind == "link":
			counts[e.Kind]++
		default:
			counts[e.Kind] += max(len(e.Nodes), 1)
		}
	}
	var parts []string
	for _, k := range []struct{ kind, one, many string }{
		{"crash", "crash", "crashes"}, {"powercut", "power cut", "power cuts"}, {"stop", "stop", "stops"},
		{"pause", "pause", "pauses"}, {"clock", "change of a clock", "changes of clocks"},
		{"disk", "disk fault", "disk faults"}, {"link", "change of a link", "changes of links"},
	} {
		if n := counts[k.kind]; n > 0 {
			parts = append(parts, plural(n, k.one, k.many))
		}
	}
	var cut time.Duration
	cuts := 0
	was := false
	for _, in := range s.intervals {
		if in.cut {
			cut += in.to - in.from
			if !was {
				cuts++
			}
		}
		was = in.cut
	}
	if cuts > 0 {
		parts = append([]string{plural(cuts, "cut", "cuts") + " of the network (" + seconds(cut) + " in all)"}, parts...)
	}
	if len(parts) == 0 {
		return ""
	}
	return "It met with " + sentence(parts) + "."
}

// bands are the times of cuts, so far apart that one can see between them.
func bands(s *sides, a axis) []band {
	var list []band
	for _, in := range s.intervals {
		if !in.cut {
			continue
		}
		from, to := a.percent(in.from), a.percent(in.to)
		if n := len(list); n > 0 && (from-list[n-1].To < 0.1 || n == bandsMost) {
			list[n-1].To = to
			continue
		}
		list = append(list, band{from, to})
	}
	return list
}

// script numbers the lines of the scenario and finds its expectations in them.
func (p *page) script(run *trace.Run) {
	if strings.TrimSpace(run.Text) == "" {
		return
	}
	held := map[int]bool{}
	for _, c := range run.Checks {
		if was, seen := held[c.Line]; c.Line > 0 {
			held[c.Line] = c.OK && (was || !seen)
		}
	}
	n := 0
	for l := range strings.Lines(run.Text) {
		n++
		if n > textMost {
			p.Text = append(p.Text, textLine{N: n, Text: "… and so on", Note: true})
			return
		}
		l = strings.ReplaceAll(strings.TrimRight(l, "\r\n"), "\t", "    ")
		line := textLine{N: n, Text: visible(l, lineMost), Note: strings.HasPrefix(strings.TrimSpace(l), "#")}
		if ok, is := held[n]; is && ok {
			line.Held, line.Say = true, "held"
		} else if is {
			line.Broken, line.Say = true, "broken"
		}
		p.Text = append(p.Text, line)
	}
}

// data is what the script of the page reads out where one points.
type data struct {
	Length float64    `json:"length"` // seconds
	Step   float64    `json:"step"`   // of a bucket
	N      int        `json:"n"`      // buckets
	Rows   []dataRow  `json:"rows"`
	Nodes  []nodeData `json:"nodes"`
	At     []float64  `json:"at"` // of the samples kept
}

type dataRow struct {
	Kind string      `json:"kind"`
	V    [][]float64 `json:"v"`
}

// nodeData is one machine at each sample kept: its state, how many others it
// sees, and the offset of its clock in seconds.
type nodeData struct {
	State []string  `json:"state"`
	Sees  []int     `json:"sees"`
	Clock []float64 `json:"clock,omitempty"`
}

const samplesMost = 240

func newData(run *trace.Run, a axis, panels []panel) data {
	d := data{Length: a.length.Seconds(), Step: a.step.Seconds(), N: a.n, Rows: []dataRow{}, Nodes: []nodeData{}, At: []float64{}}
	for i := range panels {
		for j := range panels[i].Rows {
			r := &panels[i].Rows[j]
			r.ID = len(d.Rows)
			d.Rows = append(d.Rows, dataRow{r.Kind, r.data})
		}
	}
	samples := run.Samples
	every := (len(samples) + samplesMost - 1) / samplesMost
	d.Nodes = make([]nodeData, len(run.Nodes))
	wrong := make([]bool, len(run.Nodes))
	for n := range wrong {
		wrong[n] = farthest(run, n) != 0
	}
	for i := 0; i < len(samples); i += max(every, 1) {
		d.At = append(d.At, samples[i].At.Seconds())
		for n := range d.Nodes {
			var s trace.NodeSample
			if n < len(samples[i].Nodes) {
				s = samples[i].Nodes[n]
			}
			sees := 0
			for other, ok := range s.Sees {
				if ok && other != n {
					sees++
				}
			}
			d.Nodes[n].State = append(d.Nodes[n].State, visible(s.State, 12))
			d.Nodes[n].Sees = append(d.Nodes[n].Sees, sees)
			if wrong[n] {
				d.Nodes[n].Clock = append(d.Nodes[n].Clock, s.Offset.Seconds())
			}
		}
	}
	return d
}
