package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/sim/trace"
)

// panel is rows that belong together.
type panel struct {
	Title, Note string
	Rows        []row
}

// row is one small chart over the whole run.
type row struct {
	Name  string
	Chip  *chip
	Kind  string // what its data means to the script
	Scale string // from where to where it goes
	Paths []path
	Sum   string
	Label string
	Tall  bool
	ID    int
	data  [][]float64 // by bucket
}

type path struct{ Class, D string }

// steps draws values by bucket as an area on the ground.
func steps(a axis, value func(i int) float64) string {
	var b strings.Builder
	for i := 0; i < a.n; {
		v := round(value(i))
		j := i + 1
		for j < a.n && round(value(j)) == v {
			j++
		}
		if v > 0 {
			left, _ := a.edges(i)
			_, right := a.edges(j - 1)
			fmt.Fprintf(&b, "M%g 100V%gH%gV100z", left, round(100-100*min(v, 1)), right)
		}
		i = j
	}
	return b.String()
}

// staleness draws how far behind reads were, a row a level that had such.
func staleness(run *trace.Run, f folder, a axis) (panel, string) {
	type late struct {
		reads, stale int
		worst        time.Duration
		by           [][]time.Duration
		n            []int
	}
	levels := map[string]*late{}
	var all late
	for i := range run.Ops {
		o := &run.Ops[i]
		if isWrite(o) || o.Outcome != trace.Done {
			continue
		}
		key := f.key(o).level
		l := levels[key]
		if l == nil {
			l = &late{by: make([][]time.Duration, a.n), n: make([]int, a.n)}
			levels[key] = l
		}
		at := a.bucket(o.At)
		l.reads++
		all.reads++
		l.n[at]++
		if o.Stale {
			l.stale++
			all.stale++
			l.by[at] = append(l.by[at], o.Behind)
			l.worst = max(l.worst, o.Behind)
			all.worst = max(all.worst, o.Behind)
		}
	}
	if all.stale == 0 {
		if all.reads == 0 {
			return panel{}, ""
		}
		return panel{}, "No read showed less than was acknowledged before it began."
	}
	p := panel{Title: "Stale reads", Note: "how long before the read what it missed had been acknowledged: the worst, and in strong ink the median"}
	for _, key := range sortedLevels(levels) {
		l := levels[key]
		if l.stale == 0 {
			continue
		}
		worst := make([]float64, a.n)
		middle := make([]float64, a.n)
		r := row{Name: "at " + visible(key, nameMost), Kind: "stale", Scale: "0 – " + seconds(all.worst)}
		for i, list := range l.by {
			slices.Sort(list)
			if n := len(list); n > 0 {
				worst[i] = max(float64(list[n-1])/float64(max(all.worst, 1)), 0.04)
				middle[i] = max(float64(list[n/2])/float64(max(all.worst, 1)), 0.04)
				r.data = append(r.data, []float64{float64(n), float64(l.n[i]), list[n/2].Seconds(), list[n-1].Seconds()})
			} else {
				r.data = append(r.data, []float64{0, float64(l.n[i])})
			}
		}
		r.Paths = []path{
			{"worst", steps(a, func(i int) float64 { return worst[i] })},
			{"middle", steps(a, func(i int) float64 { return middle[i] })},
		}
		r.Sum = fmt.Sprintf("%s stale, worst %s", count(l.stale), seconds(l.worst))
		r.Label = fmt.Sprintf("Stale reads at %s: %s of %s", visible(key, nameMost), r.Sum, count(l.reads))
		p.Rows = append(p.Rows, r)
	}
	return p, fmt.Sprintf("%s of %s were stale, by %s at worst.", count(all.stale), plural(all.reads, "read", "reads"), seconds(all.worst))
}

func sortedLevels[V any](levels map[string]V) []string {
	keys := make([]string, 0, len(levels))
	for k := range levels {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return keys
}

// latencies draws how long clients waited for what was done: the median and the
// slowest of each bucket, in powers of ten.
func latencies(run *trace.Run, a axis) panel {
	p := panel{Title: "Time to answer", Note: "what was done only: the median as a line over the slowest, in powers of ten"}
	var took [2][][]time.Duration
	took[0], took[1] = make([][]time.Duration, a.n), make([][]time.Duration, a.n)
	low, high := time.Duration(math.MaxInt64), time.Duration(0)
	for i := range run.Ops {
		o := &run.Ops[i]
		if o.Outcome != trace.Done || o.Took <= 0 {
			continue
		}
		kind := 0
		if isWrite(o) {
			kind = 1
		}
		at := a.bucket(o.At)
		took[kind][at] = append(took[kind][at], o.Took)
		low, high = min(low, o.Took), max(high, o.Took)
	}
	if high == 0 {
		return panel{}
	}
	bottom := math.Floor(math.Log10(float64(low)))
	top := max(math.Ceil(math.Log10(float64(high))), bottom+1)
	scale := func(d time.Duration) float64 {
		return max((math.Log10(float64(d))-bottom)/(top-bottom), 0.02)
	}
	for kind, name := range []string{"reads", "writes"} {
		if r, any := latencyRow(took[kind], a, scale); any {
			r.Name = name
			r.Scale = seconds(time.Duration(math.Pow(10, bottom))) + " – " + seconds(time.Duration(math.Pow(10, top)))
			r.Label = "Time to answer, " + name + ": " + r.Sum
			p.Rows = append(p.Rows, r)
		}
	}
	return p
}

func latencyRow(took [][]time.Duration, a axis, scale func(time.Duration) float64) (row, bool) {
	r := row{Kind: "took"}
	var all []time.Duration
	worst := make([]float64, a.n)
	var line strings.Builder
	joined := false
	for i, list := range took {
		n := len(list)
		if n == 0 {
			r.data = append(r.data, []float64{0})
			joined = false
			continue
		}
		slices.Sort(list)
		all = append(all, list...)
		worst[i] = scale(list[n-1])
		left, right := a.edges(i)
		y := round(100 - 100*scale(list[n/2]))
		if joined {
			fmt.Fprintf(&line, "V%gH%g", y, right)
		} else {
			fmt.Fprintf(&line, "M%g %gH%g", left, y, right)
		}
		joined = true
		r.data = append(r.data, []float64{float64(n), list[n/2].Seconds(), list[n-1].Seconds()})
	}
	if len(all) == 0 {
		return r, false
	}
	slices.Sort(all)
	r.Paths = []path{{"worst", steps(a, func(i int) float64 { return worst[i] })}, {"line", line.String()}}
	r.Sum = fmt.Sprintf("median %s, slowest %s", seconds(all[len(all)/2]), seconds(all[len(all)-1]))
	return r, true
}

// divergence draws how many keys were not the same on all their homes, and says
// when that ended.
func divergence(run *trace.Run, a axis) (panel, string) {
	worst, keys := 0, 0
	for _, m := range run.Samples {
		worst, keys = max(worst, m.Differ), max(keys, m.Keys)
	}
	if len(run.Samples) == 0 || keys == 0 && worst == 0 {
		return panel{}, ""
	}
	if worst == 0 {
		return panel{}, fmt.Sprintf("%s: the same on all their homes whenever it was looked.", plural(keys, "key", "keys"))
	}
	r := row{Name: "keys", Kind: "differ", Scale: "0 – " + count(worst), Tall: true}
	value := make([]float64, a.n)
	next := 0
	now := trace.Sample{}
	for i := range a.n {
		high := 0
		fresh := false
		for ; next < len(run.Samples) && a.bucket(run.Samples[next].At) <= i; next++ {
			now, fresh = run.Samples[next], true
			high = max(high, now.Differ)
		}
		if !fresh {
			high = now.Differ
		}
		value[i] = float64(high) / float64(worst)
		r.data = append(r.data, []float64{float64(high), float64(now.Keys)})
	}
	r.Paths = []path{{"differ", steps(a, func(i int) float64 { return value[i] })}}
	equal := whenEqual(run)
	r.Sum = equal
	words := fmt.Sprintf("Of %s, %s differed between their homes at worst; %s.", plural(keys, "key", "keys"), count(worst), equal)
	r.Label = words
	return panel{Title: "Copies that differ", Note: "keys that are not the same on all their homes", Rows: []row{r}}, words
}

// whenEqual tells when the last difference was gone.
func whenEqual(run *trace.Run) string {
	last := run.Samples[len(run.Samples)-1]
	if last.Differ > 0 {
		return fmt.Sprintf("%s still so at the end", count(last.Differ))
	}
	var equal time.Duration
	for i := len(run.Samples) - 1; i > 0 && run.Samples[i-1].Differ == 0; i-- {
		equal = run.Samples[i-1].At
	}
	if equal == 0 {
		equal = last.At
	}
	mended := trace.Event{At: -1}
	for _, e := range run.Events {
		if (e.Kind == "heal" || e.Kind == "start" || e.Kind == "resume") && e.At <= equal {
			mended = e
		}
	}
	if mended.At < 0 {
		return "all equal from " + seconds(equal)
	}
	return fmt.Sprintf("all equal %s after the last %s", seconds(equal-mended.At), mended.Kind)
}
