package main

import (
	"github.com/kithdb/kith/sim/trace"
)

// runJSON is a trace.Run as scripts see it. Times are seconds of virtual time
// since the beginning. Field names are a contract: only additions.
type runJSON struct {
	Schema     string       `json:"schema"`
	Title      string       `json:"title"`
	Scenario   string       `json:"scenario,omitempty"` // its text
	Seed       uint64       `json:"seed"`
	World      string       `json:"world"`
	Replay     string       `json:"replay"`
	OK         bool         `json:"ok"`
	Length     float64      `json:"length_seconds"`
	Wall       float64      `json:"wall_seconds"` // real
	Replicas   int          `json:"replicas"`
	Partitions int          `json:"partitions"`
	Nodes      []nodeJSON   `json:"nodes"`
	Checks     []checkJSON  `json:"checks"`
	Tallies    []*tally     `json:"tallies"`
	EqualAfter *float64     `json:"equal_after_seconds"` // the last mending; null is never
	Events     []eventJSON  `json:"events"`
	Ops        []opJSON     `json:"operations"`
	Samples    []sampleJSON `json:"samples"`
	Story      storyJSON    `json:"story"`
}

type nodeJSON struct {
	Name string `json:"name"`
	Zone string `json:"zone"`
}

type checkJSON struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Line   int    `json:"line"` // 0 for what always holds
}

type eventJSON struct {
	At    float64  `json:"at"`
	Kind  string   `json:"kind"`
	Nodes []string `json:"nodes,omitempty"`
	From  []string `json:"from,omitempty"`
	To    []string `json:"to,omitempty"`
	Note  string   `json:"note,omitempty"`
}

type opJSON struct {
	At      float64 `json:"at"`
	Took    float64 `json:"took"`
	Client  string  `json:"client"`
	Via     string  `json:"via,omitempty"`
	Side    string  `json:"side,omitempty"`
	Kind    string  `json:"kind"`
	Key     string  `json:"key"`
	Value   string  `json:"value"`
	Level   string  `json:"level"`
	Context bool    `json:"context"`
	Outcome string  `json:"outcome"`
	Stale   bool    `json:"stale"`
	Behind  float64 `json:"behind"`
	Note    string  `json:"note,omitempty"`
}

type sampleJSON struct {
	At     float64          `json:"at"`
	Differ int              `json:"differ"`
	Keys   int              `json:"keys"`
	Nodes  []nodeSampleJSON `json:"nodes"`
}

type nodeSampleJSON struct {
	State  string  `json:"state"`
	Sees   []bool  `json:"sees"`
	Offset float64 `json:"clock_offset"`
}

type storyJSON struct {
	Key   string   `json:"key"`
	Lines []string `json:"lines"`
}

func runJSONOf(run *trace.Run) runJSON {
	out := runJSON{
		Schema: "sim-run/v1", Title: run.Title, Scenario: run.Text, Seed: run.Seed, World: run.World, Replay: run.Replay,
		OK: run.OK(), Length: run.Length.Seconds(), Wall: run.Wall.Seconds(), Replicas: run.Replicas, Partitions: run.Partitions,
		Tallies: talliesOf(run), Story: storyJSON{run.Story.Key, run.Story.Lines},
	}
	if _, after, ok := equalAgain(run); ok {
		s := after.Seconds()
		out.EqualAfter = &s
	}
	for _, n := range run.Nodes {
		out.Nodes = append(out.Nodes, nodeJSON(n))
	}
	for _, c := range run.Checks {
		out.Checks = append(out.Checks, checkJSON{c.Name, c.OK, c.Detail, c.Line})
	}
	for _, e := range run.Events {
		out.Events = append(out.Events, eventJSON{e.At.Seconds(), e.Kind, e.Nodes, e.From, e.To, e.Note})
	}
	for _, o := range run.Ops {
		out.Ops = append(out.Ops, opJSON{
			At: o.At.Seconds(), Took: o.Took.Seconds(), Client: o.Client, Via: o.Via, Side: o.Side, Kind: o.Kind,
			Key: o.Key, Value: o.Value, Level: o.Level, Context: o.Context, Outcome: string(o.Outcome),
			Stale: o.Stale, Behind: o.Behind.Seconds(), Note: o.Note,
		})
	}
	for _, s := range run.Samples {
		sample := sampleJSON{At: s.At.Seconds(), Differ: s.Differ, Keys: s.Keys}
		for _, n := range s.Nodes {
			sample.Nodes = append(sample.Nodes, nodeSampleJSON{n.State, n.Sees, n.Offset.Seconds()})
		}
		out.Samples = append(out.Samples, sample)
	}
	return out
}
