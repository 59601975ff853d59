package report

import (
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/sim/trace"
)

// A side is a set of machines that hear each other and not all others. It has
// one letter for as long as the run lasts, however often the cut comes back.

// interval is a time during which who hears whom did not change.
type interval struct {
	from, to time.Duration
	side     []int // of each machine: which side, or -1 if it hears all others
	cut      bool  // somebody does not hear somebody
}

// sides is who heard whom over time.
type sides struct {
	intervals []interval
	members   [][]int        // of each side, in the order of their letters
	index     map[string]int // by their names
	heard     map[string]int // by the names of those that its members hear
	nodes     map[string]int
	run       *trace.Run
}

// links are the cuts of one moment.
type links struct {
	n    int
	dead []bool // from*n + to
}

func (l *links) set(from, to []int, dead bool) {
	for _, f := range from {
		for _, t := range to {
			if f != t {
				l.dead[f*l.n+t] = dead
			}
		}
	}
}

// newSides follows the cuts and heals of a run.
func newSides(run *trace.Run, length time.Duration) *sides {
	s := &sides{index: map[string]int{}, heard: map[string]int{}, nodes: map[string]int{}, run: run}
	for i, n := range run.Nodes {
		s.nodes[n.Name] = i
	}
	l := &links{n: len(run.Nodes), dead: make([]bool, len(run.Nodes)*len(run.Nodes))}
	events := run.Events
	now := s.at(l, 0)
	for i, e := range events {
		if !s.apply(l, events[:i], e) || i+1 < len(events) && events[i+1].At == e.At && splits(events[i+1]) {
			continue
		}
		next := s.at(l, e.At)
		if next.cut == now.cut && slices.Equal(next.side, now.side) {
			continue
		}
		now.to = e.At
		if now.to > now.from {
			s.intervals = append(s.intervals, now)
		}
		now = next
	}
	now.to = length
	s.intervals = append(s.intervals, now)
	return s
}

// splits says whether an event changes who hears whom.
func splits(e trace.Event) bool {
	switch e.Kind {
	case "cut", "heal", "isolate", "partition":
		return true
	}
	return false
}

// oneWay says whether a cut leaves the way back open.
func oneWay(e trace.Event) bool {
	note := strings.ToLower(e.Note)
	return strings.Contains(note, "one way") || strings.Contains(note, "one-way") ||
		strings.Contains(note, "->") || strings.Contains(note, "→")
}

// groups are the machines that an event sets against each other.
func (s *sides) groups(e trace.Event) [][]int {
	from, to := s.find(e.From), s.find(e.To)
	if groups := s.written(e.Note); len(groups) > 2 || len(groups) == 2 && len(from) == 0 {
		return groups
	}
	if len(from) > 0 && len(to) > 0 && (e.Kind != "isolate" || len(from) == 1) {
		return [][]int{from, to}
	}
	nodes := s.find(e.Nodes)
	if len(nodes) == 0 || len(nodes) == len(s.run.Nodes) {
		return nil
	}
	if e.Kind == "isolate" && len(nodes) > 1 {
		var groups [][]int
		for _, n := range nodes {
			groups = append(groups, []int{n})
		}
		return append(groups, s.others(nodes))
	}
	return [][]int{nodes, s.others(nodes)}
}

// written are groups as people write them: a b | c d.
func (s *sides) written(note string) [][]int {
	if !strings.Contains(note, "|") {
		return nil
	}
	var groups [][]int
	for part := range strings.SplitSeq(note, "|") {
		words := strings.FieldsFunc(part, separates)
		g := s.find(words)
		if len(g) == 0 || len(g) != len(words) {
			return nil
		}
		groups = append(groups, g)
	}
	return groups
}

func separates(r rune) bool { return r == ' ' || r == ',' || r == '|' || r == '+' }

func (s *sides) find(list []string) []int {
	var found []int
	for _, n := range list {
		if i, ok := s.nodes[n]; ok && !slices.Contains(found, i) {
			found = append(found, i)
		}
	}
	slices.Sort(found)
	return found
}

func (s *sides) others(nodes []int) []int {
	var rest []int
	for i := range s.run.Nodes {
		if !slices.Contains(nodes, i) {
			rest = append(rest, i)
		}
	}
	return rest
}

// apply changes the links as an event says, and tells if it is one that does.
func (s *sides) apply(l *links, before []trace.Event, e trace.Event) bool {
	if !splits(e) {
		return false
	}
	heals := e.Kind == "heal"
	if heals {
		e = s.healed(before, e)
	}
	groups := s.groups(e)
	if heals && groups == nil {
		clear(l.dead)
		return true
	}
	for i, a := range groups {
		for _, b := range groups[i+1:] {
			l.set(a, b, !heals)
			if !oneWay(e) {
				l.set(b, a, !heals)
			}
		}
	}
	return true
}

// healed is the cut that a heal takes back, if it says which: by its sides or by
// its note. Else it is the heal itself.
func (s *sides) healed(before []trace.Event, heal trace.Event) trace.Event {
	if heal.Note == "" || len(heal.From)+len(heal.To)+len(heal.Nodes) > 0 {
		return heal
	}
	for _, e := range slices.Backward(before) {
		if !splits(e) || e.Kind == "heal" {
			continue
		}
		note := strings.TrimSuffix(e.Note, " (one way)")
		if note == heal.Note || e.Note == "" && strings.Join(e.Nodes, " ") == heal.Note {
			return e
		}
	}
	return heal
}

// at finds the sides of a moment: machines with the same partners are one side.
func (s *sides) at(l *links, t time.Duration) interval {
	now := interval{from: t, side: make([]int, l.n), cut: slices.Contains(l.dead, true)}
	partners := make([]string, l.n) // a digit for each machine: 1 if both ways are open
	alike := map[string][]int{}
	buffer := make([]byte, l.n)
	for a := range l.n {
		for b := range l.n {
			buffer[b] = '1'
			if l.dead[a*l.n+b] || l.dead[b*l.n+a] {
				buffer[b] = '0'
			}
		}
		partners[a] = string(buffer)
		alike[partners[a]] = append(alike[partners[a]], a)
	}
	for a := range l.n {
		now.side[a] = -1
		if strings.Contains(partners[a], "0") {
			now.side[a] = s.number(alike[partners[a]])
			s.heard[s.hearing(partners[a])] = now.side[a]
		}
	}
	return now
}

// number is the same for the same machines.
func (s *sides) number(members []int) int {
	key := s.key(members)
	i, ok := s.index[key]
	if !ok {
		i = len(s.members)
		s.index[key] = i
		s.members = append(s.members, members)
	}
	return i
}

// hearing is the key of the machines that a line of digits has.
func (s *sides) hearing(partners string) string {
	var members []int
	for i, digit := range partners {
		if digit == '1' {
			members = append(members, i)
		}
	}
	return s.key(members)
}

func (s *sides) key(members []int) string {
	list := make([]string, len(members))
	for i, m := range members {
		list[i] = s.run.Nodes[m].Name
	}
	slices.Sort(list)
	return strings.Join(list, "\x00")
}

// letterOf names a side: A to Z, then A2 and so on.
func letterOf(side int) string {
	name := string(rune('A' + side%26))
	if side >= 26 {
		name += count(side/26 + 1)
	}
	return name
}

// chip is how a side is shown: its letter, one of four tints, its machines.
type chip struct {
	Letter string
	Tint   int
	Nodes  string
}

const tints = 4

func (s *sides) chip(side int) chip {
	list := make([]string, len(s.members[side]))
	for i, m := range s.members[side] {
		list[i] = s.run.Nodes[m].Name
	}
	return chip{letterOf(side), side % tints, names(list)}
}

// during gives the interval of a time.
func (s *sides) during(t time.Duration) *interval {
	i, _ := slices.BinarySearchFunc(s.intervals, t, func(in interval, t time.Duration) int {
		if in.to <= t {
			return -1
		}
		return 1
	})
	return &s.intervals[min(i, len(s.intervals)-1)]
}

// named says that a label is a list of machines.
func (s *sides) named(label string) bool {
	words := strings.FieldsFunc(label, separates)
	return len(words) > 0 && len(s.find(words)) == len(words)
}

// match finds the side that operations mean by a label: the one whose members
// hear just these machines, or are just these, else the one that most of the
// coordinators were on. -1 is none.
func (s *sides) match(label string, ops []trace.Op) int {
	if found := s.find(strings.FieldsFunc(label, separates)); len(found) > 0 {
		if i, ok := s.heard[s.key(found)]; ok {
			return i
		}
		if i, ok := s.index[s.key(found)]; ok {
			return i
		}
	}
	votes := make([]int, len(s.members))
	most, best := 0, -1
	for i := range ops {
		node, ok := s.nodes[ops[i].Via]
		if ops[i].Side != label || !ok {
			continue
		}
		side := s.during(ops[i].At).side[node]
		if side < 0 {
			continue
		}
		votes[side]++
		if votes[side] > most {
			most, best = votes[side], side
		}
	}
	return best
}
