package scenario

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/trace"
)

// story tells what happened to one key, and to the cluster meanwhile.
func (r *runner) story(found map[sim.Promise]sim.Finding) trace.Story {
	key := r.storyKey(found)
	if key == "" {
		return trace.Story{}
	}
	type told struct {
		at   time.Duration
		text string
	}
	var lines []told
	for _, o := range r.ops {
		if o.Key == key {
			text := o.String()
			if o.trace.Side != "" {
				text += " [side " + o.trace.Side + "]"
			}
			if o.trace.Stale {
				text += fmt.Sprintf(" [stale by %v]", o.trace.Behind)
			}
			lines = append(lines, told{o.trace.At, strings.TrimSpace(text)})
		}
	}
	for _, e := range r.run.Events {
		if e.Kind != "load" && e.Kind != "expect" && e.Kind != "step" {
			lines = append(lines, told{e.At, "-- " + Line(e)})
		}
	}
	slices.SortStableFunc(lines, func(a, b told) int { return cmp.Compare(a.at, b.at) })
	s := trace.Story{Key: key, Lines: []string{"homes: " + strings.Join(r.list(r.homesOf(key)), " ")}}
	for _, l := range lines {
		s.Lines = append(s.Lines, fmt.Sprintf("%9s  %s", clock(l.at), l.text))
	}
	return s
}

// storyKey chooses: what the caller wants, what broke, what was not as expected,
// or the key with the most that was not plain success.
func (r *runner) storyKey(found map[sim.Promise]sim.Finding) string {
	if r.options.Key != "" {
		return r.options.Key
	}
	for _, p := range sim.Promises() {
		if f, broken := found[p]; broken {
			return f.Key
		}
	}
	if r.wrong != "" {
		return r.wrong
	}
	score := map[string]int{}
	for _, o := range r.ops {
		score[o.Key]++
		if o.trace.Stale || len(o.Saw) > 1 {
			score[o.Key] += 5
		}
		if o.Outcome != sim.Done {
			score[o.Key] += 2
		}
	}
	best := ""
	for _, key := range r.history.Keys() {
		if best == "" || score[key] > score[best] {
			best = key
		}
	}
	return best
}

// Line is an event in words, without its time.
func Line(e trace.Event) string {
	what := strings.Join(e.Nodes, " ")
	switch {
	case e.Kind == "cut":
		what = e.Note
	case e.Note != "" && what != "":
		what += ": " + e.Note
	case e.Note != "":
		what = e.Note
	}
	return strings.TrimRight(fmt.Sprintf("%-8s  %s", e.Kind, what), " ")
}
