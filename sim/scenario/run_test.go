package scenario_test

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/scenario"
	"github.com/kithdb/kith/sim/trace"
)

// play runs a text.
func play(t *testing.T, text string, o scenario.Options) *trace.Run {
	t.Helper()
	s, err := scenario.Parse("it", strings.TrimPrefix(text, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	run, err := scenario.Run(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// checks gives the checks whose names contain a word, and wants at least one.
func checks(t *testing.T, run *trace.Run, word string) []trace.Check {
	t.Helper()
	var out []trace.Check
	for _, c := range run.Checks {
		if strings.Contains(c.Name, word) {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		t.Fatalf("no check is named for %q: %+v", word, run.Checks)
	}
	return out
}

// A drive that acknowledges what it does not write breaks the promise of
// durability; the checks say so, and tell the story of a key that was lost.
func TestLostWritesAreFoundAndTold(t *testing.T) {
	run := play(t, `
cluster a b c
load storm blind reads=0% rate=30/s keys=30
at 0s disk all lies
at 5s powercut all tear=all
at 6s start all
at 10s end
expect no write is lost`, scenario.Options{Seed: 1})
	c := checks(t, run, "no write is lost")[0]
	if c.OK || c.Line != 7 || !strings.Contains(c.Detail, "is lost") {
		t.Errorf("%+v", c)
	}
	story := strings.Join(run.Story.Lines, "\n")
	if !strings.Contains(c.Detail, "key "+run.Story.Key+":") || !strings.Contains(story, "powercut") || !strings.Contains(story, "put "+run.Story.Key) {
		t.Errorf("the story of %s:\n%s", run.Story.Key, story)
	}
	if run.OK() {
		t.Error("the run is called OK")
	}
}

// What expects something of operations that never were proves nothing.
func TestExpectationsOfNothingAreBroken(t *testing.T) {
	run := play(t, `
cluster a b c
load some at a to=3s reads=100%
expect reads succeed
expect writes succeed
expect reads at all succeed
expect reads on b succeed
expect reads succeed from 10s`, scenario.Options{Seed: 1})
	for _, c := range run.Checks {
		if c.Line > 0 && c.OK != (c.Line == 3) {
			t.Errorf("%+v", c)
		}
	}
}

// Each expectation can fail, and says what it found.
func TestExpectationsThatDoNotHoldAreBroken(t *testing.T) {
	run := play(t, `
cluster a b c
load left at a keys=5
load right at c keys=5 r=one w=one
at 1s put a x 1 -> refused
get b x -> 2
get b x -> absent
at 5s cut a b | c
at 20s end
expect operations by left are refused
expect operations by left are sometimes refused
expect reads by right are never stale
expect operations by left take at most 1ms
expect at least 20000 operations succeed
expect equal within 1s
expect a is named for clock
expect siblings of x: 2
expect siblings of x: none`, scenario.Options{Seed: 1})
	broken := map[int]bool{}
	for _, c := range run.Checks {
		if c.Line > 0 {
			broken[c.Line] = !c.OK
			if !c.OK && c.Detail == "" {
				t.Errorf("broken, and it does not say what was found: %+v", c)
			}
		}
	}
	for _, line := range []int{4, 5, 6, 9, 10, 11, 12, 13, 14, 15, 16, 17} {
		if !broken[line] {
			t.Errorf("line %d held", line)
		}
	}
}

// Sides, levels and staleness are measured where they are.
func TestOperationsKnowTheirSideAndStaleness(t *testing.T) {
	run := play(t, `
cluster a b c d e
replicas 5
load left at a keys=3 r=one w=one rate=20/s
load right at c keys=3 rate=20/s
load nowhere keys=3 prefix=other
at 3s cut a b | c d e
at 10s heal
at 12s end`, scenario.Options{Seed: 1})
	stale := 0
	for _, o := range run.Ops {
		during := o.At > 3*time.Second && o.At < 10*time.Second
		side := map[bool]string{}[during]
		if during {
			side = map[string]string{"left": "a,b", "right": "c,d,e"}[strings.TrimRight(o.Client, "1")]
		}
		if o.Side != side {
			t.Fatalf("side %q, want %q: %+v", o.Side, side, o)
		}
		if o.Stale {
			stale++
			if o.Kind != "get" || o.Behind <= 0 || o.At < 3*time.Second && o.Level != "one" && !leftWrote(run, o) {
				t.Fatalf("stale: %+v", o)
			}
		}
		if o.Outcome == "" || o.Took < 0 || o.Via == "" && o.Outcome == trace.Done {
			t.Fatalf("%+v", o)
		}
	}
	if stale == 0 {
		t.Error("no read at one on a side of a cut was stale")
	}
}

// leftWrote says that something was written at one home before.
func leftWrote(run *trace.Run, o trace.Op) bool {
	return slices.ContainsFunc(run.Ops, func(w trace.Op) bool {
		return w.Kind == "put" && w.Level == "one" && w.Key == o.Key && w.At < o.At
	})
}

// Every fault is an event, changes what nodes see or how they are, and what lasts
// for a time ends.
func TestFaultsBiteAndEnd(t *testing.T) {
	run := play(t, `
cluster a b c d e
load some
at 2s isolate a for 10s
at 14s kill b for 3s
at 20s pause c for 3s
at 24s clock d +1h for 3s
at 28s view e sees a down for 5s
at 35s cut d -> e for 12s
at 50s end`, scenario.Options{Seed: 1})
	at := func(d time.Duration) trace.Sample {
		i := slices.IndexFunc(run.Samples, func(s trace.Sample) bool { return s.At >= d })
		return run.Samples[i]
	}
	for d, want := range map[time.Duration]func(trace.Sample) bool{
		time.Second:              func(s trace.Sample) bool { return s.Nodes[0].State == "up" && s.Nodes[0].Sees[1] && s.Keys > 0 },
		11 * time.Second:         func(s trace.Sample) bool { return !s.Nodes[0].Sees[1] && !s.Nodes[1].Sees[0] && s.Nodes[1].Sees[2] },
		16 * time.Second:         func(s trace.Sample) bool { return s.Nodes[1].State == "down" },
		19 * time.Second:         func(s trace.Sample) bool { return s.Nodes[1].State == "up" },
		22 * time.Second:         func(s trace.Sample) bool { return s.Nodes[2].State == "paused" },
		23500 * time.Millisecond: func(s trace.Sample) bool { return s.Nodes[2].State == "up" },
		26 * time.Second:         func(s trace.Sample) bool { return s.Nodes[3].Offset == time.Hour },
		27500 * time.Millisecond: func(s trace.Sample) bool { return s.Nodes[3].Offset == 0 },
	} {
		if s := at(d); !want(s) {
			t.Errorf("at %v: %+v", d, s)
		}
	}
	var kinds []string
	for _, e := range run.Events {
		if e.Kind != "load" && e.Kind != "expect" {
			kinds = append(kinds, e.Kind)
		}
	}
	want := []string{"ready", "isolate", "heal", "crash", "start", "pause", "resume", "clock", "clock", "view", "view", "cut", "heal", "note", "heal", "ready"}
	if !slices.Equal(kinds, want) {
		t.Errorf("events %v\n  want %v", kinds, want)
	}
}

// A step that cannot begin when it should says so.
func TestLateStepsAreTold(t *testing.T) {
	run := play(t, `
cluster a b c
at 1s pause b
at 1s pause c
at 1s put a k v timeout=5s
at 2s get a k r=one`, scenario.Options{Seed: 1})
	if c := checks(t, run, "at 2s get")[0]; c.OK || !strings.Contains(c.Detail, "late") || c.Line != 5 {
		t.Errorf("%+v", c)
	}
}

// A copy is what one home has, not what another has sent instead.
func TestReadLocalIsOfAHomeOnly(t *testing.T) {
	text := "cluster a b c d\nput a k v w=all -> ok\n"
	for _, n := range []string{"a", "b", "c", "d"} {
		text += "read-local " + n + " k\n"
	}
	var local []bool
	homes := 0
	for _, e := range play(t, text, scenario.Options{Seed: 1}).Events {
		if strings.HasPrefix(e.Note, "read-local") {
			local = append(local, strings.HasSuffix(e.Note[:len(e.Note)-1], "-> v, by "))
		}
	}
	for _, is := range local {
		if is {
			homes++
		}
	}
	run := play(t, text, scenario.Options{Seed: 1})
	if c := checks(t, run, "read-local"); homes != 3 || len(local) != 4 || len(c) != 1 || c[0].OK || !strings.Contains(c[0].Detail, "did not answer alone: the homes of k are ") {
		t.Errorf("%d of %v are homes: %+v", homes, local, c)
	}
}

// Faults happen on time also while a single operation waits.
func TestFaultsDoNotWaitForOperations(t *testing.T) {
	run := play(t, `
cluster a b c
at 1s pause b c for 2s
put a k v timeout=8s w=all -> ok`, scenario.Options{Seed: 1})
	i := slices.IndexFunc(run.Events, func(e trace.Event) bool { return e.Kind == "resume" })
	if i < 0 || run.Events[i].At != 3*time.Second {
		t.Errorf("want the resume at 3s: %+v", run.Events)
	}
	if !run.OK() {
		t.Errorf("%+v", run.Checks)
	}
}

// The caller's cluster takes the scenario's place.
func TestOptionsReplaceTheCluster(t *testing.T) {
	s := scenario.Find("two-down-of-five")
	one := scenario.One
	run, err := scenario.Run(s, scenario.Options{Seed: 1, Nodes: 7, Replicas: 3, R: &one, W: &one, Key: "k3"})
	if err != nil {
		t.Fatal(err)
	}
	if len(run.Nodes) != 7 || run.Nodes[6].Name != "g" || run.Replicas != 3 || run.Story.Key != "k3" {
		t.Errorf("%d nodes %v, %d replicas, story of %s", len(run.Nodes), run.Nodes, run.Replicas, run.Story.Key)
	}
	for _, o := range run.Ops {
		if o.Level != "one" && !strings.HasPrefix(o.Client, "at-") {
			t.Fatalf("%+v", o)
		}
	}
	for _, o := range []scenario.Options{{Nodes: 3}, {Nodes: 65}, {Nodes: -1}, {Replicas: 6}, {Replicas: 99}} {
		if _, err := scenario.Run(s, o); err == nil {
			t.Errorf("%+v was played", o)
		}
		if s.Fits(o) == nil {
			t.Errorf("%+v fits", o)
		}
	}
}

// A seed gives the same run again, but for the order of what happens at one
// instant; another seed gives another.
func TestSameSeedSameRun(t *testing.T) {
	if !sim.Replays {
		return // the race detector shuffles more than that
	}
	for _, name := range []string{"three-homes", "power-cut", "flapping-link"} {
		s := scenario.Find(name)
		first, second, other := lines(t, s, 7), lines(t, s, 7), lines(t, s, 8)
		if !reflect.DeepEqual(first, second) {
			for i := range min(len(first), len(second)) {
				if first[i] != second[i] {
					t.Errorf("%s: event %d of %d and %d differs:\n%s\n%s", name, i, len(first), len(second), first[i], second[i])
					break
				}
			}
		}
		if reflect.DeepEqual(first, other) {
			t.Errorf("%s: seeds 7 and 8 give the same run", name)
		}
	}
}

// lines tells all of a run that is not real time.
func lines(t *testing.T, s *scenario.Scenario, seed uint64) []string {
	t.Helper()
	var told []trace.Event
	run, err := scenario.Run(s, scenario.Options{Seed: seed, Tell: func(e trace.Event) { told = append(told, e) }})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(told, run.Events) {
		t.Errorf("%s: what was told is not what is kept", s.Name)
	}
	var out []string
	for _, e := range run.Events {
		if e.Kind != "expect" { // when the last reads have ended
			out = append(out, fmt.Sprint(e))
		}
	}
	ops := slices.Clone(run.Ops)
	slices.SortStableFunc(ops, func(a, b trace.Op) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Client, b.Client)) })
	for _, o := range ops {
		out = append(out, fmt.Sprint(o))
	}
	for _, s := range run.Samples {
		out = append(out, fmt.Sprint(s))
	}
	return append(out, fmt.Sprint(run.Checks))
}
