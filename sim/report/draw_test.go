package report

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/sim/trace"
)

func nodes(list string) []trace.Node {
	var all []trace.Node
	for _, n := range strings.Fields(list) {
		all = append(all, trace.Node{Name: n})
	}
	return all
}

func at(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// toldSides writes who is on which side over time, as "10-30 A:ab B:cde".
func toldSides(run *trace.Run) string {
	run = inOrder(run)
	s := newSides(run, run.Length)
	var out []string
	for _, in := range s.intervals {
		if !in.cut {
			continue
		}
		words := seconds(in.from) + "-" + seconds(in.to)
		members := map[int]string{}
		for i, side := range in.side {
			if side >= 0 {
				members[side] += run.Nodes[i].Name
			}
		}
		for side := range s.members {
			if members[side] != "" {
				words += " " + letterOf(side) + ":" + members[side]
			}
		}
		out = append(out, strings.ReplaceAll(words, " s", ""))
	}
	return strings.Join(out, "; ")
}

func TestSidesAreThoseThatHearEachOther(t *testing.T) {
	f := strings.Fields
	for name, c := range map[string]struct {
		events []trace.Event
		want   string
	}{
		"halves": {[]trace.Event{
			{At: at(10), Kind: "cut", From: f("a b"), To: f("c d e")}, {At: at(30), Kind: "heal"}}, "10-30 A:ab B:cde"},
		"halves, healed by name": {[]trace.Event{
			{At: at(10), Kind: "partition", From: f("a b"), To: f("c d e")}, {At: at(30), Kind: "heal", Nodes: f("a b c d e")}}, "10-30 A:ab B:cde"},
		"never healed": {[]trace.Event{{At: at(10), Kind: "isolate", Nodes: f("c")}}, "10-60 A:abde B:c"},
		"a bridge":     {[]trace.Event{{At: at(10), Kind: "cut", From: f("a b"), To: f("d e"), Note: "a b | d e"}}, "10-60 A:ab B:de"},
		"islands": {[]trace.Event{
			{At: at(5), Kind: "cut", From: f("a b"), To: f("c d e"), Note: "a b | c | d e"}, {At: at(6), Kind: "heal", Note: "a b | c | d e"}}, "5-6 A:ab B:c C:de"},
		"two alone": {[]trace.Event{
			{At: at(5), Kind: "isolate", Nodes: f("a b"), From: f("a b"), To: f("c d e")}}, "5-60 A:a B:b C:cde"},
		"one way": {[]trace.Event{
			{At: at(5), Kind: "cut", From: f("a"), To: f("b"), Note: "a -> b (one way)"}, {At: at(7), Kind: "heal", Note: "a -> b"}}, "5-7 A:a B:b"},
		"one way and the other, of which one is healed": {[]trace.Event{
			{At: at(5), Kind: "cut", From: f("a"), To: f("b"), Note: "a -> b (one way)"},
			{At: at(6), Kind: "cut", From: f("b"), To: f("a"), Note: "b -> a (one way)"}, {At: at(7), Kind: "heal", Note: "a -> b"}}, "5-60 A:a B:b"},
		"the same again has the same letters": {[]trace.Event{
			{At: at(1), Kind: "cut", From: f("a b"), To: f("c d e")}, {At: at(2), Kind: "heal"},
			{At: at(3), Kind: "isolate", Nodes: f("a")}, {At: at(4), Kind: "heal"},
			{At: at(5), Kind: "cut", From: f("c d e"), To: f("a b")}, {At: at(6), Kind: "heal"}}, "1-2 A:ab B:cde; 3-4 C:a D:bcde; 5-6 A:ab B:cde"},
		"one of two is healed": {[]trace.Event{
			{At: at(1), Kind: "isolate", Nodes: f("a")}, {At: at(2), Kind: "isolate", Nodes: f("e")},
			{At: at(3), Kind: "heal", Note: "a"}, {At: at(4), Kind: "heal"}}, "1-2 A:a B:bcde; 2-3 A:a C:bcd D:e; 3-4 C:bcd D:e"},
		"strangers are nobody": {[]trace.Event{{At: at(1), Kind: "cut", From: f("x"), To: f("y")}, {At: at(2), Kind: "isolate", Nodes: f("z")}}, ""},
		"in any order": {[]trace.Event{
			{At: at(30), Kind: "heal"}, {At: at(10), Kind: "cut", From: f("a b"), To: f("c d e")}}, "10-30 A:ab B:cde"},
	} {
		run := &trace.Run{Nodes: nodes("a b c d e"), Length: at(60), Events: c.events}
		if got := toldSides(run); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// What clients of a side did before and after its cut stands in its row.
func TestRowsOfASideLastTheWholeRun(t *testing.T) {
	run := made(usual())
	a := newAxis(run, 1)
	groups := collect(run, newFolder(run), &a)
	if len(groups) != 8 {
		t.Fatalf("%d rows, want reads and writes at two levels on two sides", len(groups))
	}
	for _, g := range groups {
		if g.side == "" || g.rows[0].all() == 0 || g.rows[a.n-1].all() == 0 {
			t.Errorf("row of side %q at %s begins or ends empty", g.side, g.level)
		}
	}
}

// Nothing that clients were told is lost or counted twice, neither in the table
// nor in the drawings.
func TestEveryOperationIsCountedOnce(t *testing.T) {
	run := made(usual())
	a := newAxis(run, 12)
	want := tally{}
	for i := range run.Ops {
		want.add(&run.Ops[i])
	}
	for _, by := range []*axis{nil, &a} {
		var told, buckets tally
		for _, g := range collect(run, newFolder(run), by) {
			told = plus(told, g.told)
			for _, r := range g.rows {
				buckets = plus(buckets, r)
			}
		}
		if told != want || by != nil && buckets != want {
			t.Errorf("counted %+v and by bucket %+v, want %+v", told, buckets, want)
		}
	}
}

func plus(a, b tally) tally {
	return tally{a.done + b.done, a.refused + b.refused, a.unknown + b.unknown, a.stale + b.stale}
}

// However many levels and sides there are, the page stays one that can be looked at.
func TestManyLevelsAndSidesAreFolded(t *testing.T) {
	run := &trace.Run{Nodes: nodes("a b c"), Length: at(10)}
	for i := range 5000 {
		run.Ops = append(run.Ops, trace.Op{
			At: at(float64(i) / 500), Kind: []string{"get", "put"}[i%2], Level: count(i % 71), Side: "side" + count(i%97), Outcome: trace.Done,
		})
	}
	p := newPage(inOrder(run))
	if most := 2 * (levelsMost + 1) * (sidesMost + 1); len(p.Panels[0].Rows)+len(p.Panels[1].Rows) > most {
		t.Errorf("%d and %d rows, want at most %d", len(p.Panels[0].Rows), len(p.Panels[1].Rows), most)
	}
	structure(t, write(t, run))
}

var pathShape = regexp.MustCompile(`^(M[-\d.]+ [-\d.]+(H[-\d.]+|V[-\d.]+|z)+)*$`)

// Nothing is drawn outside of its row.
func TestDrawingsStayInTheirRows(t *testing.T) {
	for _, run := range []*trace.Run{made(usual()), hostile()} {
		p := newPage(inOrder(run))
		number := regexp.MustCompile(`([HVM ])(-?[\d.]+)`)
		for _, panel := range p.Panels {
			for _, r := range panel.Rows {
				for _, d := range r.Paths {
					if !pathShape.MatchString(d.D) {
						t.Fatalf("%s %s: path %q", panel.Title, r.Name, d.D)
					}
					for _, m := range number.FindAllStringSubmatch(d.D, -1) {
						high := "1000"
						if m[1] == "V" || m[1] == " " {
							high = "100"
						}
						if strings.HasPrefix(m[2], "-") || len(strings.Split(m[2], ".")[0]) > len(high) {
							t.Errorf("%s %s: %s is outside", panel.Title, r.Name, m[0])
						}
					}
				}
			}
		}
		for _, l := range p.Lanes.Rows {
			for _, s := range l.Segments {
				if s.Left < 0 || s.Left+s.Width > 100.2 {
					t.Errorf("lane %s: %+v is outside", l.Name, s)
				}
			}
		}
	}
}

// The shares that are drawn are those that were counted.
func TestDrawnSharesAreTheCountedOnes(t *testing.T) {
	a := axis{length: at(10), step: at(1), n: 10}
	var done, refused, unknown strings.Builder
	drawShares(tally{done: 6, refused: 3, unknown: 1}, a, 2, 4, &done, &refused, &unknown)
	for _, c := range []struct{ got, want string }{
		{done.String(), "M200 40H400V100H200z"},
		{refused.String(), "M200 10H400V40H200z"},
		{unknown.String(), "M200 0H400V10H200z"},
	} {
		if c.got != c.want {
			t.Errorf("drawn %q, want %q", c.got, c.want)
		}
	}
}

// A machine's state is known to the moment from events, and from samples else.
func TestStatesComeFromEventsAndSamples(t *testing.T) {
	run := &trace.Run{Nodes: nodes("a b"), Length: at(10)}
	run.Events = []trace.Event{{At: at(2.3), Kind: "crash", Nodes: []string{"a"}}, {At: at(4.4), Kind: "start", Nodes: []string{"a"}}}
	for i := range 11 {
		s := trace.Sample{At: at(float64(i)), Nodes: []trace.NodeSample{{State: "up"}, {State: "up"}}}
		if i == 3 || i == 4 {
			s.Nodes[0].State = "down"
		}
		if i >= 6 && i < 8 {
			s.Nodes[1].State = "lossy"
		}
		run.Samples = append(run.Samples, s)
	}
	a := newAxis(run, 1)
	if got := states(run, a, 0); len(got) != 1 || got[0].Left != 23 || got[0].Width != 21 || got[0].State != "down" {
		t.Errorf("a: %+v, want down from 2.3 s to 4.4 s", got)
	}
	if got := states(run, a, 1); len(got) != 1 || got[0].Left != 60 || got[0].Width != 20 || got[0].State != "lossy" {
		t.Errorf("b: %+v, want lossy from 6 s to 8 s", got)
	}
}

// A flapping node neither fills the page nor vanishes from it.
func TestManyStatesAreJoined(t *testing.T) {
	run := &trace.Run{Nodes: nodes("a"), Length: time.Hour}
	for i := range 100_000 {
		run.Events = append(run.Events, trace.Event{At: time.Duration(i) * time.Hour / 100_000, Kind: []string{"pause", "resume"}[i%2], Nodes: []string{"a"}})
	}
	got := states(run, newAxis(run, 1), 0)
	if len(got) == 0 || len(got) > segmentsMost {
		t.Errorf("%d segments, want some and at most %d", len(got), segmentsMost)
	}
	page := write(t, run)
	if most := 2 << 20; len(page) > most {
		t.Errorf("%d bytes, want at most %d", len(page), most)
	}
	structure(t, page)
}

func TestWhenCopiesBecameEqual(t *testing.T) {
	for name, c := range map[string]struct {
		differ []int
		events []trace.Event
		want   string
	}{
		"after a heal":   {[]int{0, 3, 3, 2, 0, 0}, []trace.Event{{At: at(2), Kind: "heal"}}, "all equal 2 s after the last heal"},
		"without any":    {[]int{0, 3, 0, 0}, nil, "all equal from 2 s"},
		"after a start":  {[]int{0, 3, 2, 0}, []trace.Event{{At: at(1), Kind: "heal"}, {At: at(2), Kind: "start"}}, "all equal 1 s after the last start"},
		"never":          {[]int{0, 3, 4}, []trace.Event{{At: at(1), Kind: "heal"}}, "4 still so at the end"},
		"at the end":     {[]int{1, 1, 0}, nil, "all equal from 2 s"},
		"a later heal":   {[]int{1, 0, 0, 0}, []trace.Event{{At: at(3), Kind: "heal"}}, "all equal from 1 s"},
		"once and again": {[]int{1, 0, 1, 0}, []trace.Event{{At: at(2.5), Kind: "resume"}}, "all equal 500 ms after the last resume"},
	} {
		run := &trace.Run{Nodes: nodes("a"), Length: at(10), Events: c.events}
		for i, d := range c.differ {
			run.Samples = append(run.Samples, trace.Sample{At: at(float64(i)), Differ: d, Keys: 5})
		}
		if got := whenEqual(run); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// The order in which a run's parts are told makes no difference.
func TestOrderMakesNoDifference(t *testing.T) {
	run := made(shape{seed: 3, nodes: 5, ops: 600, length: time.Minute})
	want := write(t, run)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3 {
		rng.Shuffle(len(run.Ops), func(i, j int) { run.Ops[i], run.Ops[j] = run.Ops[j], run.Ops[i] })
		rng.Shuffle(len(run.Events), func(i, j int) { run.Events[i], run.Events[j] = run.Events[j], run.Events[i] })
		rng.Shuffle(len(run.Samples), func(i, j int) { run.Samples[i], run.Samples[j] = run.Samples[j], run.Samples[i] })
		if got := write(t, run); got != want {
			t.Fatal("another order gives another page")
		}
	}
}

func TestBucketsFitTheRun(t *testing.T) {
	for _, length := range []time.Duration{0, 1, time.Millisecond, 37 * time.Second, time.Minute, 11 * time.Minute, 3 * time.Hour, 90 * 24 * time.Hour} {
		for _, ops := range []int{0, 10, 100_000} {
			run := &trace.Run{Length: length, Ops: make([]trace.Op, ops)}
			a := newAxis(run, 8)
			if a.n < 1 || a.n > bucketsMost || a.step*time.Duration(a.n) < a.length || a.step*time.Duration(a.n-1) >= a.length {
				t.Errorf("%v with %d operations: %d buckets of %v", length, ops, a.n, a.step)
			}
			if n := len(a.ticks()); n < 2 || n > 10 {
				t.Errorf("%v has %d ticks", length, n)
			}
			if a.bucket(a.length) != a.n-1 || a.bucket(-1) != 0 {
				t.Errorf("%v: the ends are in buckets %d and %d of %d", length, a.bucket(-1), a.bucket(a.length), a.n)
			}
		}
	}
}

func TestSharesNeverSayAllUnlessItIsSo(t *testing.T) {
	for _, c := range []struct {
		part, whole int
		want        string
	}{{0, 0, "–"}, {0, 5, "0 %"}, {5, 5, "100 %"}, {1, 100_000, "<1 %"}, {99_999, 100_000, ">99 %"}, {1, 3, "33 %"}, {2, 3, "67 %"}} {
		if got := percent(c.part, c.whole); got != c.want {
			t.Errorf("%d of %d is %q, want %q", c.part, c.whole, got, c.want)
		}
	}
}

func TestDurationsReadAsPeopleSayThem(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 250: "250 ns", 1500: "1.5 µs", 885 * time.Microsecond: "885 µs", 12345 * time.Microsecond: "12.3 ms",
		19700 * time.Millisecond: "19.7 s", 119 * time.Second: "119 s", 150 * time.Second: "2:30 min", time.Hour: "1 h",
		-90 * time.Second: "-90 s", 72 * time.Hour: "3 days",
	} {
		if got := seconds(d); got != want {
			t.Errorf("%d is %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000"} {
		if got := count(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

// Long stories keep their beginning and their end.
func TestLongStoriesAreCutInTheMiddle(t *testing.T) {
	run := made(usual())
	run.Story.Lines = nil
	for i := range 5000 {
		run.Story.Lines = append(run.Story.Lines, "  "+count(i)+".0 s  line")
	}
	run.Story.Lines[4999] = "the end: v1 is lost"
	st := newPage(inOrder(run)).Story
	if len(st.Lines) != storyLinesMost+1 || st.Lines[len(st.Lines)-1].Text != "the end: v1 is lost" {
		t.Errorf("%d lines, the last %+v", len(st.Lines), st.Lines[len(st.Lines)-1])
	}
	if !slices.ContainsFunc(st.Lines, func(l storyLine) bool { return strings.Contains(l.Text, "4,600 lines left out") }) {
		t.Error("nobody is told that lines are left out")
	}
}

func TestVerdictSaysWhatBroke(t *testing.T) {
	broken := usual()
	broken.broken = true
	for want, run := range map[string]*trace.Run{
		"All 6 expectations held.":                                    made(usual()),
		"1 of 6 expectations broke: “no acknowledged write is lost”.": made(broken),
		"Nothing was expected of this run.":                           {},
		"The one expectation held.":                                   {Checks: []trace.Check{{Name: "x", OK: true}}},
		"The one expectation broke: “x”.":                             {Checks: []trace.Check{{Name: "x"}}},
		"2 of 2 expectations broke.":                                  {Checks: []trace.Check{{Name: "x"}, {Name: "y"}}},
	} {
		if got := newPage(inOrder(run)).Headline; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		text := structure(t, write(t, run))
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	text := structure(t, write(t, made(broken)))
	if strings.Index(text, "What was expected") > strings.Index(text, "Who could read and write") {
		t.Error("what broke does not come first")
	}
	for _, want := range []string{"BROKEN", "put v48213 was acknowledged", "#L21", "kith sim run split-brain --seed 42", "final read at all homes"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page of a broken run does not say %q", want)
		}
	}
}

// Two machines that lose power at once are two power cuts; what is mended is none.
func TestTroublesAreCountedByMachine(t *testing.T) {
	run := &trace.Run{Nodes: nodes("a b c"), Length: at(10), Events: []trace.Event{
		{At: at(1), Kind: "powercut", Nodes: []string{"a", "b"}}, {At: at(2), Kind: "disk", Nodes: []string{"c"}, Note: "full"},
		{At: at(3), Kind: "disk", Nodes: []string{"c"}, Note: "mended"}, {At: at(4), Kind: "isolate", Nodes: []string{"c"}},
		{At: at(6), Kind: "heal"}, {At: at(7), Kind: "link", Nodes: []string{"a", "b"}, Note: "slow"},
	}}
	want := "It met with 1 cut of the network (2 s in all), 2 power cuts, 1 disk fault and 1 change of a link."
	if got := newPage(run).Facts[1]; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
