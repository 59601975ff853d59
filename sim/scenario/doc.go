// Package scenario plays stories about a cluster that are written down in a small
// text format: who is there, who reads and writes, what befalls them and when, and
// what must hold. docs/SCENARIOS.md is the format's tutorial and reference.
//
// It owns the format (Parse, Scenario.String), the run of one scenario on a
// simulated cluster (Run), what is measured meanwhile, and the judgement of the
// expectations. Library holds the scenarios that come with kith.
//
// It promises that a text that parses prints and parses again to the same
// scenario, that errors name the line and the bound, and that every run holds the
// promises that always hold (see sim.Promises), whether the text asks for them or
// not. A seed gives the same run again as far as sim.Replays says.
//
// It does not show anything: a run ends as a trace.Run.
package scenario
