package ring

import (
	"fmt"
	"slices"
	"strings"
)

// What must be known before a step of a move is proposed. Whoever is about to
// answer a slot's reads first pulls what whoever answered them before holds, under
// the epoch at which the phase began:
//
//	DUAL      To pulls from From     then READ_NEW may come
//	READ_NEW  To pulls again         then To answers reads, and DONE may come
//	BACK      From pulls from To     then From answers reads, and ABORT may come
//
// Each pull is a fence, too: its source has adopted the phase before it answers,
// and so takes part in nothing older any more. Where the source is gone, enough
// homes of the other slots do: so many that they meet every quorum of a call which
// asks for a majority or more.
//
// A slot that is added has no From: To pulls from enough of the homes, as if From were
// gone, before reads ask it, and again before they ask the new row alone. One that is
// taken away has no To: homes that stay pull from From under DUAL, and say so in the
// record (Move.Got), until a majority of them holds what a majority held with From.
// Reads ask both rows in the last phase before the end, READ_NEW of the one and DUAL of
// the other. So what they have shown either row keeps, and no way back needs a fence.

// Condition says what must be known before a step of one move may be proposed.
// The zero Condition is met by nothing; see Record.Condition.
type Condition struct {
	// By is the member that must have pulled the partition; zero where it is
	// enough that the sources store the record, whoever knows it.
	By NodeID
	// Among are, where it is not one member, those of whom any one must have
	// pulled. It stores the record itself: where it is one of a quota, it counts.
	Among []NodeID
	// Since is the epoch, the partition's fence, under which. What is known
	// from any other epoch counts for nothing.
	Since uint64
	// Any are the alternatives. Each is met when all of its quotas are. One
	// without quotas is met from the beginning.
	Any [][]Quota
}

// Quota asks for some of several members.
type Quota struct {
	Need int
	Of   []NodeID
}

// Pulled is what a member has noted durably about one partition: under one epoch it
// has pulled from each of those members all that they held of it. Each of them held
// that epoch's record, or a newer one with the same fence, durably before it
// answered, and had lost nothing of the partition. The member itself held it before
// it began.
type Pulled struct {
	By    NodeID
	Since uint64
	// From are the sources, in any order.
	From []NodeID
}

// Met says that what is known is enough.
func (c *Condition) Met(known Pulled) bool {
	known = c.counting(known)
	for _, all := range c.Any {
		if !slices.ContainsFunc(all, func(q Quota) bool { return q.missing(known.From) > 0 }) {
			return true
		}
	}
	return false
}

// counting is what counts of what is known.
func (c *Condition) counting(known Pulled) Pulled {
	among := slices.Contains(c.Among, known.By)
	switch {
	case known.Since != c.Since, !c.By.IsZero() && known.By != c.By, len(c.Among) > 0 && !among:
		known.From = nil
	case among:
		known.From = append(slices.Clone(known.From), known.By)
	}
	return known
}

// Sources are the members, sorted, from whom it helps to know more; none when the
// condition is met.
func (c *Condition) Sources(known Pulled) []NodeID {
	if c.Met(known) {
		return nil
	}
	known = c.counting(known)
	var sources []NodeID
	for _, all := range c.Any {
		for _, q := range all {
			if q.missing(known.From) > 0 {
				sources = append(sources, q.Of...)
			}
		}
	}
	sources = slices.DeleteFunc(sources, func(id NodeID) bool { return slices.Contains(known.From, id) })
	slices.SortFunc(sources, NodeID.Compare)
	return slices.Compact(sources)
}

// String is like "1 of 1a2b3c4d, or 2 of 5e6f7a8b 9c0d1e2f".
func (c *Condition) String() string {
	var any []string
	for _, all := range c.Any {
		var parts []string
		for _, q := range all {
			var of []string
			for _, id := range q.Of {
				of = append(of, id.Short())
			}
			parts = append(parts, fmt.Sprintf("%d of %s", q.Need, strings.Join(of, " ")))
		}
		if len(parts) == 0 {
			parts = append(parts, "nothing")
		}
		any = append(any, strings.Join(parts, " and "))
	}
	return strings.Join(any, ", or ")
}

func (q *Quota) missing(from []NodeID) int {
	n := q.Need
	for _, id := range q.Of {
		if slices.Contains(from, id) {
			n--
		}
	}
	return n
}

// Condition says what must be known before a step of the partition's move may be
// proposed on top of this record. A step that the phase does not allow is an error.
func (r *Record) Condition(p Partition, s Step) (Condition, error) {
	m := r.MoveOf(p)
	if m == nil {
		return Condition{}, fmt.Errorf("partition %d: no move is under way that could be %v", p, s)
	}
	if _, ok := m.after(s); !ok {
		return Condition{}, fmt.Errorf("%v: it cannot become %v", m, s)
	}
	c := Condition{Since: r.Since[p], Any: [][]Quota{nil}}
	switch {
	case m.Grows():
		r.conditionOfNew(&c, m, s)
	case m.Shrinks():
		r.conditionOfOld(&c, m, s)
	case s == StepReadNew || s == StepDone:
		c.By, c.Any = m.To, r.sources(m, m.To, m.From)
	case s == StepAbort && m.Phase == PhaseBack:
		c.By, c.Any = m.From, r.sources(m, m.From, m.To)
		if r.isLost(m.From) {
			// Nobody will read from it. What is left of the condition is
			// the fence: no read that To takes part in.
			c.By, c.Any = NodeID{}, append(c.Any, []Quota{{1, []NodeID{m.To}}})
		}
	}
	return c, nil
}

// sources are the alternatives of whom a reader of the slot must have pulled from:
// the member that answered reads before, or homes of so many other slots that they
// meet every quorum of theirs.
//
// Calls that ask for majorities within zones are met by pulling from enough homes of
// the reader's zone, too. The one that answered before is one of them, if it is in
// that zone. A reader that is the first home of its zone pulls from enough homes of
// the zone of the one before instead: so it has what was written in every zone.
func (r *Record) sources(m *Move, reader, before NodeID) [][]Quota {
	zone, zoneBefore := r.Member(reader).Zone, r.Member(before).Zone
	var others, near []NodeID // homes of the other slots; those in the reader's zone
	beside := []NodeID{before}
	for s, id := range r.Homes(m.Partition) {
		if s == int(m.Slot) {
			continue
		}
		others = append(others, id)
		switch r.Member(id).Zone {
		case zone:
			near = append(near, id)
		case zoneBefore:
			beside = append(beside, id)
		}
	}
	inZone := len(near)
	if zone == zoneBefore {
		inZone++
	}
	var any [][]Quota
	if !r.isLost(before) {
		direct := []Quota{{1, []NodeID{before}}}
		switch {
		case zone == zoneBefore:
		case len(near) > 0:
			direct = r.withLive(direct, near, beyondMajority(inZone))
		case len(beside) > 1:
			direct = r.withLive(direct, beside, beyondMajority(len(beside)))
		}
		any = append(any, direct)
	}
	need := beyondMajority(len(others) + 1)
	live := r.live(others)
	if r.isLost(before) {
		// What only lost homes had is gone, with the one that answered before
		// among them. While that one is there, it may be the last to have it.
		need = max(need-(len(others)-len(live)), 1)
	}
	if r.isLost(before) && len(live) == 0 {
		any = append(any, nil) // nobody has anything of it any more: it begins empty
	}
	// Fewer than needed: then the slot is not to be had without its home.
	if need <= len(live) {
		any = append(any, r.withLive([]Quota{{need, live}}, near, beyondMajority(inZone)))
	}
	return any
}

// withLive asks for some of a zone's homes, too, as far as they are not lost.
func (r *Record) withLive(all []Quota, zone []NodeID, need int) []Quota {
	live := r.live(zone)
	if need = min(need, len(live)); need > 0 {
		all = append(all, Quota{need, live})
	}
	return all
}

// live are those that are not lost.
func (r *Record) live(ids []NodeID) []NodeID {
	return slices.DeleteFunc(slices.Clone(ids), r.isLost)
}

// beyondMajority is how many of n meet every majority of them.
func beyondMajority(n int) int { return n - (n/2 + 1) + 1 }

func (r *Record) isLost(id NodeID) bool {
	m := r.Member(id)
	return m != nil && m.State == Lost
}

// Answers says that a home or target of the partition may answer reads under this
// record as far as moves are concerned: it is not about to take them over without
// having pulled what it must. known is its own note.
func (r *Record) Answers(p Partition, id NodeID, known Pulled) bool {
	m := r.MoveOf(p)
	if m == nil || m.Phase == PhasePlan {
		return r.HomeIndex(p, id) >= 0
	}
	step := StepDone
	switch {
	case !m.names(id):
		return r.HomeIndex(p, id) >= 0
	case m.Shrinks():
		return true
	case m.Phase == PhaseDual:
		return id == m.From
	case m.Phase == PhaseReadNew && id != m.To, m.Phase == PhaseBack && id != m.From:
		return false
	case m.Phase == PhaseBack:
		step = StepAbort
	}
	c, err := r.Condition(p, step)
	return err == nil && c.By == id && c.Met(known)
}

// Driver is the member that sees to the partition's move: who pulls, and then
// proposes the next step. Anybody else may do it in its place. Zero without a move.
func (r *Record) Driver(p Partition) NodeID {
	m := r.MoveOf(p)
	switch {
	case m == nil:
		return NodeID{}
	case m.Shrinks():
		if live := r.live(r.staying(m)); len(live) > 0 {
			return live[0]
		}
		return r.Homes(p)[0]
	case m.Phase == PhaseBack && !r.isLost(m.From):
		return m.From
	}
	return m.To
}
