package scenario_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
	"github.com/kithdb/kith/sim/scenario"
)

// Whatever scenario there is: it prints as a text that parses to the same.
func TestAnyScenarioPrintsAndParsesToItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawScenario(t)
		text := s.String()
		back, err := scenario.Parse("drawn", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !reflect.DeepEqual(plain(s), plain(back)) {
			t.Fatalf("%s\n%#v\n%#v", text, plain(s), plain(back))
		}
	})
}

var nodes = []string{"a", "b", "node-3", "D_4", "e"}

func pick[T any](t *rapid.T, of ...T) T { return rapid.SampledFrom(of).Draw(t, "pick") }

func number(t *rapid.T, least, most int) int { return rapid.IntRange(least, most).Draw(t, "number") }

func drawTime(t *rapid.T) time.Duration {
	return time.Duration(number(t, 1, 3_600_000)) * time.Millisecond
}

func drawNodes(t *rapid.T) []string {
	if number(t, 0, 5) == 0 {
		return []string{"all"}
	}
	return drawSome(t)
}

func drawSome(t *rapid.T) []string {
	perm := rapid.Permutation(nodes).Draw(t, "nodes")
	return slices.Clone(perm[:number(t, 1, 3)])
}

func drawGroups(t *rapid.T) [][]string {
	perm := rapid.Permutation(nodes).Draw(t, "groups")
	if number(t, 0, 1) == 0 {
		return [][]string{perm[:2:2], perm[2:]}
	}
	return [][]string{perm[:1:1], perm[1:2:2], perm[2:4:4]}
}

func drawShape(t *rapid.T) *network.Link {
	s := &network.Link{Latency: drawTime(t), Jitter: drawTime(t), Loss: float64(number(t, 0, 10000)) / 10000,
		Reset: float64(number(t, 0, 100)) / 100, Duplicate: float64(number(t, 0, 100)) / 100, Bandwidth: number(t, 0, 1<<30)}
	if number(t, 0, 1) == 0 {
		s.Late, s.LateBy = 0.05, drawTime(t)
	}
	return s
}

func drawLevel(t *rapid.T) scenario.Level {
	return pick(t, scenario.One, scenario.Quorum, scenario.All, 1, 2, 3)
}

// drawAction draws what a step does; n makes names that nothing else has.
func drawAction(t *rapid.T, n int) scenario.Action {
	groups, kind := drawGroups(t), number(t, 0, 17)
	op := scenario.Op{Node: pick(t, nodes...), Key: fmt.Sprintf("k%d", n), Level: scenario.Quorum, Timeout: drawTime(t)}
	outcome := pick(t, "", "ok", "refused", "unknown", "failed")
	switch kind {
	case 0:
		return scenario.Cut{Groups: groups}
	case 1:
		return scenario.OneWay{From: groups[0], To: groups[1]}
	case 2:
		return scenario.Isolate{Nodes: drawNodes(t)}
	case 3:
		return scenario.Heal{}
	case 4:
		return scenario.Process{Verb: pick(t, "stop", "kill", "lose", "start", "replace", "pause", "resume"), Nodes: drawNodes(t)}
	case 5:
		return scenario.Process{Verb: "powercut", Nodes: drawNodes(t), Tear: pick(t, "", "prefix", "all", "pages")}
	case 6:
		down := time.Duration(number(t, 1, 5000)) * time.Millisecond
		return scenario.Rolling{Verb: pick(t, "stop", "kill", "powercut"), Nodes: drawNodes(t), Down: down, Every: down + time.Second}
	case 7:
		k := scenario.Link{Shape: pick(t, nil, drawShape(t))}
		switch number(t, 0, 3) {
		case 0:
			k.Nodes = drawSome(t)
		case 1:
			k.Nodes, k.To = groups[0], groups[1]
		case 2:
			k.Nodes, k.To, k.Both = groups[0], groups[1], true
		}
		return k
	case 8:
		return drawDisk(t)
	case 9:
		return scenario.Clock{Nodes: drawNodes(t), Offset: pick(t, 0, time.Hour, -90*time.Second)}
	case 10:
		if number(t, 0, 2) == 0 {
			return scenario.View{Right: true}
		}
		return scenario.View{Node: groups[0][0], Subject: groups[1][0], Up: pick(t, true, false)}
	case 11:
		op.Verb, op.Value, op.Level, op.Want.Outcome = "put", fmt.Sprintf("v%d", n), drawLevel(t), outcome
		op.TTL, op.Sloppy = pick(t, 0, drawTime(t)), pick(t, true, false)
		return op
	case 12:
		op.Verb, op.Level, op.As = "get", drawLevel(t), pick(t, "", fmt.Sprintf("read%d", n))
		switch number(t, 0, 2) {
		case 0:
			op.Want.Outcome = outcome
		case 1:
			op.Want.Absent = true
		case 2:
			op.Want.Values = []string{"v1", "v2"}
		}
		return op
	case 13:
		op.Verb, op.Level = "read-local", scenario.One
		return op
	case 14:
		op.Verb, op.Key, op.Level, op.Want.Outcome = "read-all", "", drawLevel(t), outcome
		return op
	case 15:
		return scenario.Records{Key: fmt.Sprintf("k%d", n), Want: pick(t, "some", "none")}
	case 16:
		return drawChange(t, outcome)
	}
	return scenario.Note{Text: pick(t, "", "what is told", "a | b -> c")}
}

func drawChange(t *rapid.T, want string) scenario.Action {
	c := scenario.Change{Verb: pick(t, "join", "leave", "remove", "replace", "weight", "replicas", "abort"), Through: pick(t, "", "a"), Want: want}
	switch c.Verb {
	case "abort":
	case "replicas":
		c.Number = number(t, 1, 7)
		if c.Through == "" && c.Want == "" { // alone, it is what the cluster begins with
			c.Through = "e"
		}
		return c
	case "replace":
		c.With = "e"
	case "weight":
		c.Number = number(t, 1, 65535)
	case "join":
		c.Standby = pick(t, true, false)
	}
	c.Nodes = []string{"node-3"}
	return c
}

func drawDisk(t *rapid.T) scenario.Action {
	d := scenario.Disk{Nodes: drawNodes(t), Fault: pick(t, "sync-error", "full", "slow", "readonly", "lies", "damage", "mend")}
	switch d.Fault {
	case "sync-error":
		d.Times, d.Kept = number(t, 1, 1000), pick(t, true, false)
	case "full":
		d.Room = number(t, 0, 64<<20)
	case "slow":
		d.Delay = drawTime(t)
	case "damage":
		d.File = pick(t, "journal", "table", "manifest")
	}
	return d
}

func drawExpectation(t *rapid.T) scenario.Expectation {
	switch number(t, 0, 6) {
	case 0:
		return scenario.Promised{Words: pick(t, "no write is lost", "no refused write exists", "no read goes backwards", "siblings are right")}
	case 1:
		return scenario.Count{Least: number(t, 1, scenario.OpsMax), Kind: pick(t, "reads", "writes", "operations")}
	case 2:
		return scenario.Equal{Within: drawTime(t)}
	case 3:
		return scenario.Named{Node: pick(t, nodes...), Not: pick(t, true, false), For: "clock"}
	case 4:
		return scenario.Shown{Key: "k", Values: pick(t, nil, []string{"x", "y"})}
	}
	o := scenario.Operations{Kind: "reads", On: pick(t, nil, drawSome(t)), Held: pick(t, "", "held", "lost"), Load: pick(t, "", "load0"), From: drawTime(t)}
	if number(t, 0, 1) == 0 {
		o.To = o.From + time.Second
	}
	if o.To > scenario.TimeMax {
		o.From, o.To = 0, 0
	}
	if number(t, 0, 1) == 0 {
		level := drawLevel(t)
		o.Level = &level
	}
	o.Verb = pick(t, "succeed", "are", "take")
	switch o.Verb {
	case "succeed":
		o.How = pick(t, "always", "share")
	case "are":
		o.How, o.Outcome = pick(t, "always", "never", "sometimes", "share"), pick(t, "refused", "unknown", "failed", "stale")
	case "take":
		o.Limit = drawTime(t)
	}
	if o.How == "share" {
		o.Percent = number(t, 0, 100)
	}
	return o
}

func drawScenario(t *rapid.T) *scenario.Scenario {
	s := &scenario.Scenario{
		Story: pick(t, nil, []string{"A title.", "", "# and more"}), Nodes: nodes,
		Replicas: pick(t, 3, 4, 5), Partitions: pick(t, 0, 1, 64, 1024), Link: pick(t, nil, drawShape(t)),
		Zones: pick(t, nil, []scenario.Zone{{Name: "z", Nodes: []string{"a", "b"}}, {Name: "y", Nodes: []string{"e"}}}),
	}
	s.Pace = pick(t, sim.Pace{}, sim.Pace{Audit: time.Second, Forget: drawTime(t)}, sim.Pace{Scrub: time.Minute})
	s.Keys = pick(t, nil, []scenario.Placed{{Key: "placed", Homes: nodes[:s.Replicas:s.Replicas]}})
	for i := range number(t, 1, 3) {
		from := drawTime(t) / 2
		s.Loads = append(s.Loads, scenario.Load{
			Name: fmt.Sprintf("load%d", i), At: pick(t, nil, drawSome(t)), Clients: number(t, 1, scenario.ClientMax), Rate: pick(t, 0.25, 1, 0.01),
			Keys: number(t, 1, scenario.KeysMax), Prefix: pick(t, "k", "other"), Reads: number(t, 0, 100), Size: number(t, 0, scenario.SizeMax),
			R: drawLevel(t), W: drawLevel(t), Blind: pick(t, true, false), Timeout: drawTime(t), From: from, To: from + time.Second,
			TTL: pick(t, 0, drawTime(t)), Sloppy: pick(t, true, false),
		})
		s.Loads[i].Direct = len(s.Loads[i].At) > 0 && pick(t, true, false)
	}
	at := time.Duration(0)
	for n := range number(t, 0, 8) {
		st := scenario.Step{Do: drawAction(t, n)}
		if number(t, 0, 1) == 0 {
			at += time.Duration(number(t, 0, 5000)) * time.Millisecond
			st.Timed, st.At = true, at
		}
		switch a := st.Do.(type) {
		case scenario.Cut, scenario.Isolate, scenario.Clock:
			st.For = time.Duration(number(t, 0, 100)) * time.Second
		case scenario.Process:
			if a.Verb == "pause" {
				st.For = 1500 * time.Millisecond
			}
		}
		s.Steps = append(s.Steps, st)
	}
	for range number(t, 0, 5) {
		s.Expects = append(s.Expects, scenario.Expect{What: drawExpectation(t)})
	}
	return s
}
