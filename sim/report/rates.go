package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kithdb/kith/sim/trace"
)

// group is operations that are shown together: of one kind and level, by the
// clients of one side.
type group struct {
	write bool
	level string
	side  string // as the operations name it; empty is no cut
	told  tally
	rows  []tally // by bucket
}

// tally counts what clients were told.
type tally struct{ done, refused, unknown, stale int }

func (t tally) all() int { return t.done + t.refused + t.unknown }

func (t *tally) add(o *trace.Op) {
	switch o.Outcome {
	case trace.Done:
		t.done++
	case trace.Refused:
		t.refused++
	default:
		t.unknown++
	}
	if o.Stale {
		t.stale++
	}
}

type groupKey struct {
	write       bool
	level, side string
}

func isWrite(o *trace.Op) bool { return o.Kind != "get" }

// Bounds of what is told apart; the rest is counted under "other".
const (
	sidesMost  = 6
	levelsMost = 6
	other      = "other"
)

// folder gives operations the level and the side that they are counted under.
type folder struct{ levels, sides map[string]bool }

func newFolder(run *trace.Run) folder {
	level := map[string]int{}
	side := map[string]int{}
	for i := range run.Ops {
		level[run.Ops[i].Level]++
		side[run.Ops[i].Side]++
	}
	delete(side, "")
	return folder{most(level, levelsMost), most(side, sidesMost)}
}

func most(counts map[string]int, n int) map[string]bool {
	list := make([]string, 0, len(counts))
	for k := range counts {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(counts[b]-counts[a], cmp.Compare(a, b)) })
	kept := map[string]bool{}
	for _, k := range list[:min(n, len(list))] {
		kept[k] = true
	}
	return kept
}

func (f folder) key(o *trace.Op) groupKey {
	k := groupKey{isWrite(o), o.Level, o.Side}
	if !f.levels[k.level] {
		k.level = other
	}
	if k.side != "" && !f.sides[k.side] {
		k.side = other
	}
	return k
}

// homes says on which side of all cuts each client was, for those that were on
// one only: what they did before and after is shown with it, so that a side's
// row has a beginning and an end.
func (f folder) homes(run *trace.Run) map[string]string {
	home := map[string]string{}
	for i := range run.Ops {
		o := &run.Ops[i]
		side := f.key(o).side
		if side == "" {
			continue
		}
		if was, ok := home[o.Client]; ok && was != side {
			home[o.Client] = ""
		} else if !ok {
			home[o.Client] = side
		}
	}
	return home
}

// collect counts operations by group; with an axis by bucket too, and then with
// those of undivided times at their client's side.
func collect(run *trace.Run, f folder, a *axis) []*group {
	var home map[string]string
	if a != nil {
		home = f.homes(run)
	}
	found := map[groupKey]*group{}
	var groups []*group
	for i := range run.Ops {
		o := &run.Ops[i]
		k := f.key(o)
		if k.side == "" {
			k.side = home[o.Client]
		}
		g := found[k]
		if g == nil {
			g = &group{write: k.write, level: k.level, side: k.side}
			if a != nil {
				g.rows = make([]tally, a.n)
			}
			found[k] = g
			groups = append(groups, g)
		}
		g.told.add(o)
		if a != nil {
			g.rows[a.bucket(o.At)].add(o)
		}
	}
	return groups
}

func rank(level string) int {
	switch level {
	case "one":
		return 0
	case "quorum":
		return 1000
	case "all":
		return 1001
	case other:
		return 1003
	}
	if n, err := strconv.Atoi(level); err == nil && n >= 0 && n < 1000 {
		return n
	}
	return 1002
}

// legend maps the labels of sides, as operations have them, to how they are
// shown and where they stand.
type legend struct {
	labels []string // in order
	chips  map[string]chip
}

func newLegend(run *trace.Run, f folder, s *sides) legend {
	l := legend{chips: map[string]chip{}}
	number := map[string]int{}
	for label := range f.sides {
		side := s.match(label, run.Ops)
		number[label] = side
		if side < 0 {
			l.chips[label] = chip{Letter: visible(label, nameMost), Tint: -1}
			number[label] = 1 << 20
		} else {
			c := s.chip(side)
			if s.named(label) {
				c.Nodes = names(strings.FieldsFunc(label, separates)) // a bridge is on two sides
			}
			l.chips[label] = c
		}
		l.labels = append(l.labels, label)
	}
	slices.SortFunc(l.labels, func(a, b string) int { return cmp.Or(number[a]-number[b], cmp.Compare(a, b)) })
	l.chips[other] = chip{Letter: "other sides", Tint: -1}
	return l
}

func (l legend) rank(label string) int {
	if label == "" {
		return -1
	}
	if i := slices.Index(l.labels, label); i >= 0 {
		return i
	}
	return len(l.labels)
}

func (l legend) sort(groups []*group) {
	slices.SortFunc(groups, func(a, b *group) int {
		if a.write != b.write {
			if b.write {
				return -1
			}
			return 1
		}
		return cmp.Or(rank(a.level)-rank(b.level), cmp.Compare(a.level, b.level), l.rank(a.side)-l.rank(b.side))
	})
}

// rateRows draws a row for each group: shares of what clients were told.
func rateRows(groups []*group, l legend, a axis) (reads, writes panel) {
	reads, writes = panel{Title: "Reads"}, panel{Title: "Writes"}
	for _, g := range groups {
		r := row{Name: visible(g.level, nameMost), Kind: "rate", Sum: rateWords(g.told)}
		if c, ok := l.chips[g.side]; ok && g.side != "" {
			r.Chip = &c
		}
		var done, refused, unknown strings.Builder
		for i := 0; i < a.n; {
			t := g.rows[i]
			j := i + 1
			for j < a.n && sameShares(g.rows[j], t) {
				j++
			}
			drawShares(t, a, i, j, &done, &refused, &unknown)
			i = j
		}
		r.Paths = []path{{"done", done.String()}, {"refused", refused.String()}, {"unknown", unknown.String()}}
		for _, t := range g.rows {
			r.data = append(r.data, []float64{float64(t.done), float64(t.refused), float64(t.unknown)})
		}
		p := &reads
		what := "Reads"
		if g.write {
			p, what = &writes, "Writes"
		}
		r.Label = what + " at " + r.Name
		if r.Chip != nil {
			r.Label += ", side " + r.Chip.Letter
		}
		r.Label += ": " + r.Sum
		p.Rows = append(p.Rows, r)
	}
	return reads, writes
}

func sameShares(a, b tally) bool {
	return (a.all() == 0) == (b.all() == 0) && a.done*b.all() == b.done*a.all() && a.refused*b.all() == b.refused*a.all()
}

// drawShares stacks what was done from below, what is unknown from above, and
// what was refused between.
func drawShares(t tally, a axis, from, to int, done, refused, unknown *strings.Builder) {
	n := float64(t.all())
	if n == 0 {
		return
	}
	left, _ := a.edges(from)
	_, right := a.edges(to - 1)
	low := round(100 - 100*float64(t.done)/n)
	high := round(100 * float64(t.unknown) / n)
	box := func(b *strings.Builder, top, bottom float64) {
		if bottom > top {
			fmt.Fprintf(b, "M%g %gH%gV%gH%gz", left, top, right, bottom, left)
		}
	}
	box(done, low, 100)
	box(refused, high, low)
	box(unknown, 0, high)
}

// rateWords sums a tally up in a few words; what went well needs no second.
func rateWords(t tally) string {
	words := percent(t.done, t.all()) + " done"
	if t.refused > 0 {
		words += ", " + count(t.refused) + " refused"
	}
	if t.unknown > 0 {
		words += ", " + count(t.unknown) + " unknown"
	}
	return words
}

// answer is the table that the page is opened for: who could read and write.
type answer struct {
	Columns []column
	Rows    []answerRow
}

type column struct {
	Chip  *chip
	Title string
}

type answerRow struct {
	Name  string
	First bool // of its kind
	Cells []cell
}

type cell struct {
	Empty                  bool
	Percent                string
	Done, Refused, Unknown float64 // percent
	Words                  string
}

func newAnswer(groups []*group, l legend) answer {
	var t answer
	columns := []string{}
	for _, g := range groups {
		if !slices.Contains(columns, g.side) {
			columns = append(columns, g.side)
		}
	}
	slices.SortFunc(columns, func(a, b string) int { return l.rank(a) - l.rank(b) })
	for _, c := range columns {
		switch {
		case c != "":
			chip := l.chips[c]
			t.Columns = append(t.Columns, column{Chip: &chip, Title: chip.Nodes})
		case len(columns) == 1:
			t.Columns = append(t.Columns, column{Title: "all clients"})
		default:
			t.Columns = append(t.Columns, column{Title: "not cut off"})
		}
	}
	var last *group
	for _, g := range groups {
		if last == nil || g.write != last.write || g.level != last.level {
			kind := "Read"
			if g.write {
				kind = "Write"
			}
			cells := make([]cell, len(columns))
			for i := range cells {
				cells[i].Empty = true
			}
			t.Rows = append(t.Rows, answerRow{
				Name: kind + " at " + visible(g.level, nameMost), First: last != nil && g.write != last.write, Cells: cells,
			})
			last = g
		}
		t.Rows[len(t.Rows)-1].Cells[slices.Index(columns, g.side)] = newCell(g.told)
	}
	return t
}

func newCell(t tally) cell {
	n := float64(max(t.all(), 1))
	c := cell{
		Percent: percent(t.done, t.all()), Words: "of " + count(t.all()),
		Done: round(100 * float64(t.done) / n), Refused: round(100 * float64(t.refused) / n), Unknown: round(100 * float64(t.unknown) / n),
	}
	for _, part := range []struct {
		n    int
		word string
	}{{t.refused, "refused"}, {t.unknown, "unknown"}, {t.stale, "stale"}} {
		if part.n > 0 {
			c.Words += ", " + count(part.n) + " " + part.word
		}
	}
	return c
}
