package report

import (
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/sim/trace"
)

// events are all that happened: signs on the axis, and a list.
type events struct {
	Marks []eventMark
	List  []eventLine
	Left  string
}

// eventMark is one event, or several that would stand on each other.
type eventMark struct {
	Left  float64
	Sign  string
	N     int
	First int // in the list
	Tip   string
	at    time.Duration
}

type eventLine struct {
	ID                int
	Time, Kind, Words string
	Sign              string
}

const (
	eventsMost = 500
	apart      = 1.6 // percent between signs
	tipLines   = 10
)

func newEvents(run *trace.Run, a axis) events {
	var ev events
	list := slices.DeleteFunc(slices.Clone(run.Events), func(e trace.Event) bool {
		// How the clients fare is drawn, and how it was judged is listed.
		return e.Kind == "load" || e.Kind == "expect" && len(run.Checks) > 0
	})
	lines := 0
	for i, e := range list {
		line := moment(e.At) + "  " + tell(e)
		if i < eventsMost {
			words, _ := strings.CutPrefix(tell(e), visible(e.Kind, 20))
			ev.List = append(ev.List, eventLine{i, moment(e.At), visible(e.Kind, 20), strings.TrimPrefix(strings.TrimSpace(words), ": "), sign(e.Kind)})
		}
		left := a.percent(e.At)
		if n := len(ev.Marks); n > 0 && left-ev.Marks[n-1].Left < apart {
			m := &ev.Marks[n-1]
			m.N++
			if lines++; lines <= tipLines {
				m.Tip += "\n" + line
			}
			m.Sign = weightier(m.Sign, sign(e.Kind))
			continue
		}
		lines = 1
		ev.Marks = append(ev.Marks, eventMark{Left: left, Sign: sign(e.Kind), N: 1, First: min(i, eventsMost-1), Tip: line, at: e.At})
	}
	for i := range ev.Marks {
		if m := &ev.Marks[i]; m.N > tipLines {
			m.Tip += "\nand " + count(m.N-tipLines) + " more"
		}
	}
	if over := len(list) - eventsMost; over > 0 {
		ev.Left = plural(over, "more event", "more events") + " are left out here"
	}
	return ev
}

// weightier is the sign that stands for several events: what broke something
// before what mended it before what only tells.
func weightier(a, b string) string {
	for _, s := range []string{"cut", "powercut", "crash", "disk", "pause", "clock", "stop", "link", "heal", "start", "resume", "ready", "expect"} {
		if a == s || b == s {
			return s
		}
	}
	return a
}
