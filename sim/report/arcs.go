package report

import (
	"fmt"
	"slices"

	"github.com/kithdb/kith/sim/trace"
)

// blocks tints the sides of each cut, lane by lane.
func (l *lanes) blocks(run *trace.Run, a axis, s *sides) {
	for _, in := range s.intervals {
		if !in.cut || len(l.Blocks) >= blocksMost {
			continue
		}
		left := a.percent(in.from)
		wide := round(max(a.percent(in.to)-left, 0.15))
		for i := 0; i < len(in.side); {
			j := i + 1
			for j < len(in.side) && in.side[j] == in.side[i] {
				j++
			}
			if in.side[i] >= 0 {
				l.Blocks = append(l.Blocks, block{
					Left: left, Width: wide, Top: i * l.Height, Height: (j - i) * l.Height,
					chip: s.chip(in.side[i]), Wide: wide >= 3,
				})
			}
			i = j
		}
	}
}

// arcs draws each cut and heal at its moment, between the lanes that stand
// nearest to each other on both sides.
func (l *lanes) arcs(run *trace.Run, a axis, s *sides) {
	for i, e := range run.Events {
		if !splits(e) {
			continue
		}
		groups := s.groups(e)
		if e.Kind == "heal" {
			groups = s.groups(s.healed(run.Events[:i], e))
		}
		if e.Kind == "heal" && groups == nil {
			groups = s.before(e)
		}
		for _, pair := range neighbours(groups) {
			if len(l.Arcs) == arcsMost {
				l.Arcs, l.Crowded = nil, true
				return
			}
			l.Arcs = append(l.Arcs, l.arc(a, e, pair))
		}
	}
}

// before are the sides that a heal of everything brings together.
func (s *sides) before(e trace.Event) [][]int {
	in := s.during(max(e.At-1, 0))
	groups := map[int][]int{}
	var order []int
	for node, side := range in.side {
		if side >= 0 {
			if groups[side] == nil {
				order = append(order, side)
			}
			groups[side] = append(groups[side], node)
		}
	}
	var list [][]int
	for _, side := range order {
		list = append(list, groups[side])
	}
	return list
}

// pair is two lanes of different groups with none of the groups' between them.
type pair struct {
	upper, lower int
	down         bool // the upper one is of the group that was named first
}

func neighbours(groups [][]int) []pair {
	group := map[int]int{}
	var all []int
	for i, g := range groups {
		for _, node := range g {
			if _, twice := group[node]; !twice {
				group[node] = i
				all = append(all, node)
			}
		}
	}
	slices.Sort(all)
	var pairs []pair
	for i := 1; i < len(all); i++ {
		if up, low := all[i-1], all[i]; group[up] != group[low] {
			pairs = append(pairs, pair{up, low, group[up] < group[low]})
		}
	}
	return pairs
}

func (l *lanes) arc(a axis, e trace.Event, p pair) arc {
	height := (p.lower - p.upper) * l.Height
	bulge := min(5+height/8, 18)
	c := arc{
		Left: a.percent(e.At), Top: p.upper*l.Height + l.Height/2, Height: height,
		Heal: e.Kind == "heal", One: e.Kind != "heal" && oneWay(e), Down: p.down,
		Path: fmt.Sprintf("M10 2C%d %d %d %d 10 %d", 10+bulge, height/4, 10+bulge, height-height/4, height-2),
		// A cubic's middle lies three quarters of the way to its handles.
		MiddleX: 10 + bulge*3/4, Middle: height / 2, HeadX: 10, HeadY: height - 2,
		Title: moment(e.At) + " " + tell(e),
	}
	if !p.down {
		c.HeadY, c.Turns = 2, 180
	}
	return c
}
