package main

import (
	"fmt"

	"github.com/kithdb/kith/sim/scenario"
	"github.com/kithdb/kith/sim/trace"
)

// The timeline has one event a line: seconds of virtual time since the loads
// began, the kind of event, and to whom it happened or what was said.

func (a *app) timelineHead(s *scenario.Scenario, f simRun) {
	fmt.Fprintf(a.out, "%s  seed %d\n\n", s.Title(), f.seed)
	fmt.Fprintf(a.out, "%10s  %-8s  %s\n", "SECONDS", "EVENT", "WHAT")
}

// timelineEvent prints an event as it comes; the verdicts have a table of their
// own.
func (a *app) timelineEvent(e trace.Event) {
	if e.Kind != "expect" {
		fmt.Fprintf(a.out, "%10.3f  %s\n", e.At.Seconds(), scenario.Line(e))
	}
}
