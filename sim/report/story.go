package report

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/kithdb/kith/sim/trace"
)

// story is one key's: what its clients did, drawn and told.
type story struct {
	Key    string
	Rows   []storyRow
	Stale  bool   // one of them is
	Undraw string // what was left out of the drawing
	Lines  []storyLine
	Left   string // what was left out of the lines
}

type storyRow struct {
	Name string
	Bars []bar
}

// bar is one operation.
type bar struct {
	Left, Width float64
	Write       bool
	Outcome     string
	Stale       bool
	Title       string
}

type storyLine struct {
	Time    string
	Text    string
	Outcome string // what a client was told; or befell, or left
}

const (
	barsMost       = 500
	clientsMost    = 16
	storyLinesMost = 400
)

func newStory(run *trace.Run, a axis) *story {
	if run.Story.Key == "" && len(run.Story.Lines) == 0 {
		return nil
	}
	st := &story{Key: visible(run.Story.Key, keyMost)}
	lines := run.Story.Lines
	if over := len(lines) - storyLinesMost; over > 0 {
		// The end tells how it came out, the beginning how it began.
		st.Left = plural(over, "line", "lines") + " left out here"
		lines = slices.Concat(lines[:storyLinesMost/4], lines[len(lines)-storyLinesMost*3/4:])
	}
	for i, l := range lines {
		if st.Left != "" && i == storyLinesMost/4 {
			st.Lines = append(st.Lines, storyLine{Text: "… " + st.Left, Outcome: "left"})
		}
		st.Lines = append(st.Lines, readLine(l))
	}
	st.draw(run, a)
	return st
}

var (
	lineTimes   = regexp.MustCompile(`^\s*([0-9]+(?:\.[0-9]+)?)(?:\s*s)?(?:\s+to\s+(-?[0-9]+(?:\.[0-9]+)?)(?:\s*s)?)?\s+(.*)$`)
	lineOutcome = regexp.MustCompile(`[):,] ?(done|refused|unknown)\b`)
)

// readLine sets a line's time apart, and what its client was told.
func readLine(s string) storyLine {
	s = strings.TrimRight(s, "\n")
	line := storyLine{Text: visible(strings.TrimSpace(s), lineMost)}
	if m := lineTimes.FindStringSubmatch(s); m != nil {
		line.Time, line.Text = m[1], visible(m[3], lineMost)
	}
	if words, event := strings.CutPrefix(line.Text, "-- "); event {
		line.Text, line.Outcome = words, "befell"
	} else if m := lineOutcome.FindStringSubmatch(s); m != nil {
		line.Outcome = m[1]
	}
	return line
}

// draw puts the operations on the key into a row a client. Where there are too
// many, reads that went well are left out first.
func (st *story) draw(run *trace.Run, a axis) {
	var ops []*trace.Op
	for i := range run.Ops {
		if run.Ops[i].Key == run.Story.Key {
			ops = append(ops, &run.Ops[i])
		}
	}
	if over := len(ops) - barsMost; over > 0 {
		weight := func(o *trace.Op) int {
			switch {
			case isWrite(o) && o.Outcome != trace.Done, o.Stale:
				return 0
			case isWrite(o):
				return 1
			case o.Outcome != trace.Done:
				return 2
			}
			return 3
		}
		slices.SortStableFunc(ops, func(a, b *trace.Op) int { return cmp.Compare(weight(a), weight(b)) })
		ops = ops[:barsMost]
		st.Undraw = plural(over, "operation is", "operations are") + " not drawn: reads that went well are left out first"
	}
	slices.SortStableFunc(ops, func(a, b *trace.Op) int { return cmp.Compare(a.At, b.At) })
	at := map[string]int{}
	for _, o := range ops {
		i, ok := at[o.Client]
		if !ok {
			if i = len(st.Rows); i == clientsMost {
				i--
				st.Rows[i].Name = "others"
			} else {
				st.Rows = append(st.Rows, storyRow{Name: visible(o.Client, nameMost)})
			}
			at[o.Client] = i
		}
		st.Stale = st.Stale || o.Stale
		st.Rows[i].Bars = append(st.Rows[i].Bars, newBar(o, a))
	}
	if len(at) <= clientsMost {
		slices.SortFunc(st.Rows, func(a, b storyRow) int { return cmp.Compare(a.Name, b.Name) })
	}
}

func newBar(o *trace.Op, a axis) bar {
	b := bar{Left: a.percent(o.At), Write: isWrite(o), Outcome: "unknown", Stale: o.Stale}
	b.Width = round(a.percent(o.At+max(o.Took, 0)) - b.Left)
	if o.Outcome == trace.Done || o.Outcome == trace.Refused {
		b.Outcome = string(o.Outcome)
	}
	b.Title = moment(o.At) + " " + tellOp(o)
	return b
}

// tellOp says an operation in one line.
func tellOp(o *trace.Op) string {
	words := []string{visible(o.Client, nameMost) + ":", visible(o.Kind, 12), visible(o.Key, keyMost)}
	switch {
	case o.Value == "":
	case isWrite(o):
		words = append(words, "= "+visible(o.Value, keyMost))
	default:
		words = append(words, "shows "+visible(o.Value, keyMost))
	}
	words = append(words, "at "+visible(o.Level, 12)+":", told(o), "in "+seconds(o.Took))
	if o.Stale {
		words = append(words, "· stale by "+seconds(o.Behind))
	}
	if o.Note != "" {
		words = append(words, "· "+visible(o.Note, noteMost))
	}
	return strings.Join(words, " ")
}

func told(o *trace.Op) string {
	if o.Outcome == "" {
		return "unknown"
	}
	return visible(string(o.Outcome), 12)
}
