package scenario

import (
	"slices"
	"time"

	"github.com/kithdb/kith/sim/trace"
)

// lateMax is how much later than told a step may begin: some that have the same
// time follow one another.
const lateMax = 250 * time.Millisecond

// pending is what will happen beside the script.
type pending struct {
	at time.Time
	do func()
}

// later has something happen at a time, after what was said before for that time.
func (r *runner) later(at time.Time, do func()) {
	r.queue = append(r.queue, pending{at, do})
	slices.SortStableFunc(r.queue, func(a, b pending) int { return a.at.Compare(b.at) })
}

// script plays all steps and waits for what they have begun.
func (r *runner) script() {
	for _, st := range r.Steps {
		if st.Timed {
			at := r.began.Add(st.At)
			if late := time.Since(at); late > lateMax {
				r.check(st.String(), st.Line, false, "began %v late: give the steps before it more time", late)
			}
			r.until(at)
		}
		r.do(st)
	}
	for len(r.queue) > 0 {
		r.until(r.queue[0].at)
	}
}

// until lets time pass.
func (r *runner) until(at time.Time) {
	for len(r.queue) > 0 && !r.queue[0].at.After(at) {
		next := r.queue[0]
		r.queue = r.queue[1:]
		r.pass(next.at)
		next.do()
	}
	r.pass(at)
}

// superviseEvery is how soon a process that has given up is started again.
const superviseEvery = time.Second

// pass lets time pass while a service manager looks at all nodes.
func (r *runner) pass(until time.Time) {
	for left := time.Until(until); left > 0; left = time.Until(until) {
		time.Sleep(min(left, superviseEvery))
		if err := r.cluster.Supervise(); err != nil {
			r.event("note", nil, "does not start again: "+r.names.in(err.Error()))
		}
		r.gone()
		for i := range r.cluster.Machines {
			r.meet(i)
		}
	}
}

// await lets time pass until something has ended.
func (r *runner) await(done <-chan struct{}) {
	for {
		wait := time.Hour
		if len(r.queue) > 0 {
			wait = max(time.Until(r.queue[0].at), 0)
		}
		timer := time.NewTimer(wait)
		select {
		case <-done:
			timer.Stop()
			return
		case <-timer.C:
			r.until(time.Now())
		}
	}
}

// do does one step.
func (r *runner) do(st Step) {
	undo := func() {}
	switch a := st.Do.(type) {
	case Wait:
		r.until(time.Now().Add(a.Length))
	case End:
		r.event("note", nil, "the loads end")
		r.stop()
	case Note:
		r.event("note", nil, a.Text)
	case Op:
		r.single(st.Line, a)
	case Records:
		r.records(st.Line, a)
	case Change:
		r.change(st.Line, a)
	case Rolling:
		r.rolling(a)
	case Flap:
		r.flap(a, st.For)
		return
	case Heal:
		r.ways.heal()
		r.event("heal", nil, "all cuts")
	default:
		undo = r.befall(st.Do)
	}
	if st.For > 0 {
		r.later(time.Now().Add(st.For), undo)
	}
}

// befall lets a fault begin and gives what ends it.
func (r *runner) befall(a Action) (undo func()) {
	switch a := a.(type) {
	case Cut:
		return r.cut(a.Groups)
	case OneWay:
		return r.oneWay(a)
	case Isolate:
		return r.isolate(a)
	case Process:
		return r.process(a)
	case Link:
		return r.link(a)
	case Disk:
		return r.disk(a)
	case Clock:
		return r.clock(a)
	case View:
		return r.view(a)
	}
	panic("scenario: a step that nobody plays: " + a.words())
}

func (r *runner) cut(groups [][]string) (undo func()) {
	var pairs [][2]int
	for i, from := range groups {
		for j, to := range groups {
			if i != j {
				pairs = append(pairs, r.ways.cut(r.indexes(from), r.indexes(to))...)
			}
		}
	}
	// More than two groups: the event tells the first, and all others.
	r.enter(trace.Event{Kind: "cut", From: groups[0], To: slices.Concat(groups[1:]...), Note: sides(groups)})
	return r.mended(pairs, sides(groups))
}

func (r *runner) oneWay(a OneWay) (undo func()) {
	pairs := r.ways.cut(r.indexes(a.From), r.indexes(a.To))
	note := a.words()[len("cut "):]
	r.enter(trace.Event{Kind: "cut", From: r.expand(a.From), To: r.expand(a.To), Note: note + " (one way)"})
	return r.mended(pairs, note)
}

func (r *runner) isolate(a Isolate) (undo func()) {
	var pairs [][2]int
	nodes := r.indexes(a.Nodes)
	everyone := r.indexes(r.Nodes)
	for _, n := range nodes {
		pairs = append(pairs, r.ways.cut([]int{n}, everyone)...)
		pairs = append(pairs, r.ways.cut(everyone, []int{n})...)
	}
	others := slices.DeleteFunc(slices.Clone(r.Nodes), func(n string) bool { return slices.Contains(r.expand(a.Nodes), n) })
	r.enter(trace.Event{Kind: "isolate", Nodes: r.list(nodes), From: r.list(nodes), To: others})
	return r.mended(pairs, a.words()[len("isolate "):])
}

func (r *runner) mended(pairs [][2]int, note string) func() {
	return func() {
		if r.ways.mend(pairs) {
			r.event("heal", nil, note)
		}
	}
}

// flap cuts and heals by turns, and ends healed.
func (r *runner) flap(f Flap, length time.Duration) {
	var undo func()
	began := time.Now()
	for d := time.Duration(0); d < length; d += 2 * f.Every {
		r.later(began.Add(d), func() { undo = r.cut(f.Groups) })
		r.later(began.Add(min(d+f.Every, length)), func() { undo() })
	}
	r.until(time.Now())
}

// rolling restarts nodes beside the script.
func (r *runner) rolling(a Rolling) {
	at := time.Now()
	for _, n := range r.expand(a.Nodes) {
		var undo func()
		r.later(at, func() { undo = r.process(Process{Verb: a.Verb, Nodes: []string{n}}) })
		r.later(at.Add(a.Down), func() { undo() })
		at = at.Add(a.Every)
	}
	r.later(at, func() { r.event("note", nil, "the rolling restart is over") })
	r.until(time.Now())
}
