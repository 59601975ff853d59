package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/sim/trace"
)

// tally is what became of the operations of one kind, at one level, on one side.
type tally struct {
	Side    string  `json:"side"` // empty without a cut
	Kind    string  `json:"kind"`
	Level   string  `json:"level"`
	Done    int     `json:"done"`
	Refused int     `json:"refused"`
	Unknown int     `json:"unknown"`
	Stale   int     `json:"stale"`
	Behind  float64 `json:"behind_seconds"` // of the stalest read
	Median  float64 `json:"median_seconds"`
	Slowest float64 `json:"slowest_seconds"`

	took []time.Duration
}

// talliesOf counts all operations by side, kind and level.
func talliesOf(run *trace.Run) []*tally {
	by := map[[3]string]*tally{}
	var out []*tally
	for _, o := range run.Ops {
		id := [3]string{o.Side, o.Kind, o.Level}
		t := by[id]
		if t == nil {
			t = &tally{Side: o.Side, Kind: o.Kind, Level: o.Level}
			by[id] = t
			out = append(out, t)
		}
		switch o.Outcome {
		case trace.Done:
			t.Done++
		case trace.Refused:
			t.Refused++
		case trace.Unknown:
			t.Unknown++
		}
		if o.Stale {
			t.Stale++
			t.Behind = max(t.Behind, o.Behind.Seconds())
		}
		t.took = append(t.took, o.Took)
	}
	for _, t := range out {
		slices.Sort(t.took)
		t.Median, t.Slowest = t.took[len(t.took)/2].Seconds(), t.took[len(t.took)-1].Seconds()
	}
	slices.SortStableFunc(out, func(x, y *tally) int {
		return cmp.Or(cmp.Compare(x.Side, y.Side), cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Level, y.Level))
	})
	return out
}

// mendings are the events after which copies can become equal again.
var mendings = []string{"heal", "start", "resume"}

// equalAgain says when the last mending of the script was, and how long after it
// all copies were equal for the first time; ok is false if they never were. While
// there is load some copies always differ for a moment, so that they need not stay
// so.
func equalAgain(run *trace.Run) (mended, after time.Duration, ok bool) {
	end := run.Length
	if n := len(run.Samples); n > 0 {
		end = run.Samples[n-1].At
	}
	for _, e := range run.Events {
		if slices.Contains(mendings, e.Kind) && e.At <= end {
			mended = e.At
		}
	}
	for _, s := range run.Samples {
		if s.At >= mended && s.Differ == 0 {
			return mended, s.At - mended, true
		}
	}
	return mended, 0, false
}

// equalText tells it in a sentence.
func equalText(run *trace.Run) string {
	if len(run.Samples) == 0 {
		return ""
	}
	last := run.Samples[len(run.Samples)-1]
	over := fmt.Sprintf("all %d keys were equal on all their homes when the script was over", last.Keys)
	if last.Differ > 0 {
		over = fmt.Sprintf("%d of %d keys differed when the script was over; a read brings a key's copies together", last.Differ, last.Keys)
	}
	if mended, after, ok := equalAgain(run); ok && mended > 0 {
		return fmt.Sprintf("copies: all equal %s after the last mending, at %.3f; %s", duration(after), mended.Seconds(), over)
	}
	return "copies: " + over
}

// summary prints what became of the operations, what held, and how to see it
// again.
func (a *app) summary(run *trace.Run, f simRun) error {
	fmt.Fprintln(a.out)
	rows := [][]string{{"SIDE", "KIND", "LEVEL", "DONE", "REFUSED", "UNKNOWN", "STALE", "BEHIND", "MEDIAN", "SLOWEST"}}
	for _, t := range talliesOf(run) {
		stale, behind := "-", "-"
		if t.Kind == "get" {
			stale = fmt.Sprint(t.Stale)
		}
		if t.Stale > 0 {
			behind = duration(seconds(t.Behind))
		}
		rows = append(rows, []string{
			cmp.Or(t.Side, "all"), t.Kind, t.Level, fmt.Sprint(t.Done), fmt.Sprint(t.Refused), fmt.Sprint(t.Unknown),
			stale, behind, duration(seconds(t.Median)), duration(seconds(t.Slowest)),
		})
	}
	if err := a.table(rows); err != nil {
		return err
	}
	if text := equalText(run); text != "" {
		fmt.Fprintf(a.out, "\n%s\n", text)
	}
	fmt.Fprintln(a.out)
	rows = [][]string{{"CHECK", "LINE", "WHAT", "FOUND"}}
	broken := 0
	for _, c := range run.Checks {
		verdict, line := "OK", "-"
		if !c.OK {
			verdict = "BROKEN"
			broken++
		}
		if c.Line > 0 {
			line = fmt.Sprint(c.Line)
		}
		rows = append(rows, []string{verdict, line, c.Name, cmp.Or(strings.ReplaceAll(c.Detail, "\n", " "), "-")})
	}
	if err := a.table(rows); err != nil {
		return err
	}
	if broken > 0 || f.key != "" {
		fmt.Fprintf(a.out, "\nThe story of key %s:\n", run.Story.Key)
		for _, line := range run.Story.Lines {
			fmt.Fprintln(a.out, line)
		}
	}
	fmt.Fprintf(a.out, "\n%d of %d checks held; %s of virtual time in %s\n", len(run.Checks)-broken, len(run.Checks), duration(run.Length), duration(run.Wall))
	if f.report != "" {
		fmt.Fprintf(a.out, "report: %s\n", f.report)
	}
	_, err := fmt.Fprintf(a.out, "again: %s\n", run.Replay)
	return err
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
