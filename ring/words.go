package ring

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Changes says in words what r changed about prev, one line for each thing, for
// people who look at the ring's history: members in the order of their IDs, then
// keepers, then moves, those between the same members in one line. Nothing is
// said of fences, which follow from the rest. The records need not be neighbours.
func (r *Record) Changes(prev *Record) []string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if r.Founded() && !prev.Founded() {
		say("the cluster is founded: %d members, %d partitions with %d homes each", len(r.Members), r.Partitions, r.Replicas)
	}
	lines = append(lines, r.forcedChanges(prev)...)
	for i := range prev.Members {
		if m := &prev.Members[i]; r.Member(m.ID) == nil {
			say("%s is no member any more", m.label())
		}
	}
	for i := range r.Members {
		m := &r.Members[i]
		was := prev.Member(m.ID)
		if was == nil {
			say("%s is a new member, %v%s", m.label(), m.State, inZone(m.Zone))
			continue
		}
		if was.State != m.State {
			say("%s was %v and is %v", m.label(), was.State, m.State)
		}
		if was.Weight != m.Weight {
			say("%s had weight %d and has %d", m.label(), was.Weight, m.Weight)
		}
		if was.Zone != m.Zone {
			say("%s was in zone %q and is in %q", m.label(), was.Zone, m.Zone)
		}
		if was.Name != m.Name {
			say("%s was called %q", m.label(), was.Name)
		}
	}
	if prev.Founded() {
		switch {
		case r.Replicas != prev.Replicas && r.Before != 0:
			say("the replicas were %d and are to be %d", prev.Replicas, r.Replicas)
		case r.Replicas != prev.Replicas:
			say("the replicas were %d and are %d", prev.Replicas, r.Replicas)
		case prev.Before != 0 && r.Before == 0:
			say("every key has its number of replicas: %d", r.Replicas)
		}
	}
	if !slices.Equal(prev.Keepers, r.Keepers) {
		var names []string
		for _, id := range r.Keepers {
			names = append(names, r.nameOf(id))
		}
		say("keepers are %s", strings.Join(names, ", "))
	}
	return append(lines, r.moveChanges(prev)...)
}

// moveChange is what has become of slots between two members.
type moveChange struct {
	what     string
	from, to NodeID
}

func (r *Record) moveChanges(prev *Record) []string {
	if !prev.Founded() || !r.Founded() {
		return nil
	}
	slots := map[moveChange][]Partition{}
	for p := range Partition(r.Partitions) {
		for _, c := range r.moveChange(prev, p) {
			slots[c] = append(slots[c], p)
		}
	}
	changes := make([]moveChange, 0, len(slots))
	for c := range slots {
		changes = append(changes, c)
	}
	slices.SortFunc(changes, func(a, b moveChange) int {
		return cmp.Or(cmp.Compare(a.what, b.what), a.from.Compare(b.from), a.to.Compare(b.to))
	})
	var lines []string
	for _, c := range changes {
		line := c.what
		if !c.from.IsZero() {
			line += " from " + nameIn(c.from, prev, r)
		}
		if !c.to.IsZero() {
			line += " to " + nameIn(c.to, r, prev)
		}
		lines = append(lines, line+": "+partitions(slots[c]))
	}
	return lines
}

// moveChange says what has become of one partition: at most one change of its
// homes for each slot, and one of its move.
func (r *Record) moveChange(prev *Record, p Partition) (changes []moveChange) {
	before, after := prev.MoveOf(p), r.MoveOf(p)
	was, is := prev.Homes(p), r.Homes(p)
	switch {
	case len(was) == len(is):
	case before != nil && before.resizes() && slices.Equal(before.rowAfter(was), is):
		changes = append(changes, moveChange{"moves done", before.From, before.To})
		was, before = is, nil
	default:
		changes = append(changes, resizeChange(was, is)...)
		was = is
	}
	for s := range min(len(was), len(is)) {
		if was[s] != is[s] {
			what := "slots handed over"
			if before != nil && int(before.Slot) == s && before.To == is[s] {
				what = "moves done"
			}
			changes = append(changes, moveChange{what, was[s], is[s]})
			if before != nil && int(before.Slot) == s {
				before = nil
			}
		}
	}
	switch {
	case before == nil && after == nil || before != nil && after != nil && before.sameSlot(after) && before.Phase == after.Phase:
	case after == nil && before.Phase == PhasePlan:
		changes = append(changes, moveChange{"moves taken out of the queue", before.From, before.To})
	case after == nil:
		changes = append(changes, moveChange{"moves aborted", before.From, before.To})
	case after.Phase == PhasePlan:
		changes = append(changes, moveChange{"moves queued", after.From, after.To})
	default:
		changes = append(changes, moveChange{"moves now " + after.Phase.String(), after.From, after.To})
	}
	return changes
}

// resizeChange says who has come and gone where a partition has got another number of
// homes, by more than one move.
func resizeChange(was, is []NodeID) (changes []moveChange) {
	for _, id := range was {
		if !slices.Contains(is, id) {
			changes = append(changes, moveChange{"slots taken away", id, NodeID{}})
		}
	}
	for _, id := range is {
		if !slices.Contains(was, id) {
			changes = append(changes, moveChange{"slots added", NodeID{}, id})
		}
	}
	return changes
}

// partitions names a few of them and counts the rest.
func partitions(ps []Partition) string {
	const few = 8
	var names []string
	for _, p := range ps[:min(few, len(ps))] {
		names = append(names, fmt.Sprint(p))
	}
	text := "partition " + names[0]
	if len(ps) > 1 {
		text = fmt.Sprintf("%d partitions, %s", len(ps), strings.Join(names, " "))
	}
	if len(ps) > few {
		text += " ..."
	}
	return text
}

func inZone(zone string) string {
	if zone == "" {
		return ""
	}
	return fmt.Sprintf(", in zone %q", zone)
}

// label is the member's name with the beginning of its ID.
func (m *Member) label() string {
	if m.Name == "" {
		return m.ID.Short()
	}
	return m.Name + " " + m.ID.Short()
}

func (r *Record) nameOf(id NodeID) string { return nameIn(id, r) }

// nameIn finds the member in one of several records.
func nameIn(id NodeID, records ...*Record) string {
	for _, r := range records {
		if m := r.Member(id); m != nil {
			return m.label()
		}
	}
	return id.Short()
}
