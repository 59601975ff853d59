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

// judge holds the run against what is expected, and fills in what can be known
// only in the end.
func (r *runner) judge(final map[string][]string) {
	missed := sim.Missed(r.history)
	for _, o := range r.ops {
		if put := missed[o.Op]; put != nil {
			o.trace.Stale, o.trace.Behind = true, o.Began.Sub(put.Ended)
		}
	}
	found := sim.Judge(r.history, final)
	told := map[sim.Promise]bool{}
	for _, e := range r.Expects {
		name := e.What.words()
		switch w := e.What.(type) {
		case Operations:
			ok, detail := r.operations(w)
			r.check(name, e.Line, ok, "%s", detail)
		case Count:
			n := r.count(w.Kind, func(o *operation) bool { return o.Outcome == sim.Done })
			r.check(name, e.Line, n >= w.Least, "%d", n)
		case Promised:
			told[promised[w.Words]] = true
			r.promise(name, e.Line, found, promised[w.Words])
		case Named:
			r.named(name, e.Line, w)
		case Shown:
			values_, ok := final[r.keyNamed(w.Key)]
			r.check(name, e.Line, ok && slices.Equal(values_, w.Values), "%s", values(values_))
		}
	}
	for _, p := range sim.Promises() {
		if !told[p] {
			r.promise(string(p), 0, found, p)
		}
	}
	if err := sim.CheckQuorums(r.history, r.cluster.Rings()); err != nil {
		r.check(string(sim.Intersect), 0, false, "%v", err)
	} else {
		r.check(string(sim.Intersect), 0, true, "")
	}
	r.pending()
	order := func(c trace.Check) int { return cmp.Or(c.Line, TextMax) } // what always holds comes last
	slices.SortStableFunc(r.run.Checks, func(a, b trace.Check) int { return cmp.Compare(order(a), order(b)) })
	for _, o := range r.ops {
		r.run.Ops = append(r.run.Ops, o.trace)
	}
	for _, c := range r.run.Checks {
		verdict := "OK"
		if !c.OK {
			verdict = "BROKEN"
		}
		r.event("expect", nil, strings.TrimRight(verdict+" "+c.Name+": "+c.Detail, ": "))
	}
	r.run.Story = r.story(found)
}

// promise enters one of the promises that always hold.
func (r *runner) promise(name string, line int, found map[sim.Promise]sim.Finding, p sim.Promise) {
	if f, broken := found[p]; broken {
		r.check(name, line, false, "key %s: %v", f.Key, f.Err)
	} else {
		r.check(name, line, true, "")
	}
}

// pending holds that every operation was answered.
func (r *runner) pending() {
	n := 0
	for _, o := range r.ops {
		if o.Outcome == sim.Pending {
			n++
		}
	}
	if n > 0 {
		r.check("every operation is answered", 0, false, "%d are not", n)
	}
}

// named holds a node against what the others have said of it. More than half of
// them must: one whose own clock is wrong finds fault with everybody.
func (r *runner) named(name string, line int, w Named) {
	by := map[int]bool{}
	detail := ""
	for _, s := range r.said[w.Node] {
		if strings.Contains(s.text, w.For) {
			by[s.by] = true
			detail = ": " + s.text
		}
	}
	r.check(name, line, (2*len(by) > len(r.Nodes)-1) != w.Not, "%d of %d others have said so%s", len(by), len(r.Nodes)-1, detail)
}

func (r *runner) count(kind string, which func(*operation) bool) int {
	n := 0
	for _, o := range r.ops {
		if ofKind(kind, o) && which(o) {
			n++
		}
	}
	return n
}

func ofKind(kind string, o *operation) bool {
	return kind == "operations" || (kind == "reads") == o.Read
}

// chosen says whether an expectation speaks of an operation.
func (r *runner) chosen(w Operations, o *operation) bool {
	switch {
	case !ofKind(w.Kind, o),
		w.Level != nil && *w.Level != o.level,
		w.Load != "" && w.Load != o.actor.load,
		w.From > o.trace.At,
		w.To > 0 && w.To <= o.trace.At,
		len(w.On) > 0 && (o.actor.place < 0 || !slices.Contains(w.On, r.Nodes[o.actor.place])):
		return false
	}
	enough := o.held >= o.level.Homes(o.homes)
	return w.Held == "" || (w.Held == "held") == enough
}

// operations holds the chosen operations against an expectation.
func (r *runner) operations(w Operations) (ok bool, detail string) {
	all, met := 0, 0
	var first *operation // that is not as wanted
	var slowest time.Duration
	for _, o := range r.ops {
		if !r.chosen(w, o) {
			continue
		}
		all++
		slowest = max(slowest, o.trace.Took)
		if r.met(w, o) {
			met++
		} else if first == nil {
			first = o
		}
	}
	if all == 0 {
		return false, "there was no such operation: that proves nothing"
	}
	detail = fmt.Sprintf("%d of %d", met, all)
	switch w.How {
	case "never":
		ok = met == 0
	case "sometimes":
		ok = met > 0
	case "share":
		ok = met*100 >= w.Percent*all
	default:
		ok = met == all
	}
	if w.Verb == "take" {
		detail = fmt.Sprintf("the slowest of %d took %v", all, slowest)
	}
	if !ok && first != nil && w.How != "sometimes" && w.How != "never" {
		r.wrong = cmp.Or(r.wrong, first.Key)
		detail += fmt.Sprintf("; the first that did not, at %s: %v", clock(first.trace.At), first)
	}
	return ok, detail
}

// met says whether one operation is as an expectation has it.
func (r *runner) met(w Operations, o *operation) bool {
	switch {
	case w.Verb == "take":
		return o.trace.Took <= w.Limit
	case w.Verb == "succeed":
		return o.Outcome == sim.Done
	}
	switch w.Outcome {
	case "refused":
		return o.Outcome == sim.Refused
	case "unknown":
		return o.Outcome == sim.Unknown
	case "stale":
		return o.trace.Stale
	}
	return o.Outcome == sim.Refused || o.Outcome == sim.Unknown
}

// clock shows a time of the run.
func clock(d time.Duration) string { return fmt.Sprintf("%.3fs", d.Seconds()) }
