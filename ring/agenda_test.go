package ring

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// crew is a cluster of which each member acts by its own agenda, on a record that
// may be old, and that only knows what its disk has.
type crew struct {
	tip   *Record
	held  map[NodeID]*Record
	notes map[NodeID]map[Partition]Pulled
	away  map[NodeID]bool
	pace  Pace
}

func newCrew(r *Record, pace Pace) *crew {
	c := &crew{tip: r, held: map[NodeID]*Record{}, notes: map[NodeID]map[Partition]Pulled{}, away: map[NodeID]bool{}, pace: pace}
	for _, m := range r.Members {
		c.held[m.ID], c.notes[m.ID] = r, map[Partition]Pulled{}
	}
	return c
}

// turn lets one member do one thing of its agenda; false if it had nothing to do on
// the newest record.
func (c *crew) turn(t *rapid.T, id NodeID) bool {
	r := c.held[id]
	a := r.Agenda(id, c.pace, func(p Partition) Pulled { return c.notes[id][p] }, func(id NodeID) bool { return c.away[id] })
	switch {
	case len(a.Pulls) > 0 && (len(a.Steps) == 0 || rapid.Bool().Draw(t, "pull")):
		p := a.Pulls[rapid.IntRange(0, len(a.Pulls)-1).Draw(t, "which")]
		from := p.From[rapid.IntRange(0, len(p.From)-1).Draw(t, "from")]
		if c.away[from] || r.isLost(from) {
			t.Fatalf("%s pulls from %s, who is away", id.Short(), from.Short())
		}
		c.adopt(from, r)
		if c.held[from].Since[p.Partition] != p.Since {
			c.adopt(id, c.held[from]) // refused, with the newer record
			return true
		}
		note := c.notes[id][p.Partition]
		if note.Since != p.Since {
			note = Pulled{By: id, Since: p.Since}
		}
		note.From = append(slices.Clone(note.From), from)
		c.notes[id][p.Partition] = note
	case len(a.Steps) > 0 && r == c.tip:
		c.tip = must(t)(r.WithSteps(a.Steps))
		c.held[id] = c.tip
	case r != c.tip:
		c.held[id] = c.tip
	default:
		return false
	}
	return true
}

// adopt lets a member learn a record.
func (c *crew) adopt(id NodeID, r *Record) {
	if h := c.held[id]; h == nil || h.Epoch < r.Epoch {
		c.held[id] = r
	}
}

// run goes on until nobody has anything to do; the queue is filled up by anybody.
func (c *crew) run(t *rapid.T) {
	for idle, turns := 0, 0; idle < 2*len(c.tip.Members); turns++ {
		if turns > 4000 {
			t.Fatalf("no end: %v", c.tip.Moves)
		}
		if next := must(t)(c.tip.WithQueue()); next != c.tip {
			c.tip, idle = next, 0
		}
		id := c.tip.Members[turns%len(c.tip.Members)].ID
		if c.away[id] || c.tip.isLost(id) || !c.turn(t, id) {
			idle++
		} else {
			idle = 0
		}
	}
}

func joinAndLeave(t *rapid.T) *Record {
	r := found(t, drawMembers(t, 4, 6, 2, 2), 8, 3)
	if rapid.Bool().Draw(t, "join") {
		r = must(t)(r.WithJoin(testMember(50)))
	}
	if next, err := r.WithLeave(r.Members[rapid.IntRange(0, len(r.Members)-1).Draw(t, "leaver")].ID); err == nil {
		r = next
	}
	return r
}

// Nobody but the members themselves is needed: each looks at its record and its own
// notes, whichever record that is, and all moves come to their end.
func TestMovesAreDrivenByTheirMembersAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCrew(joinAndLeave(t), Pace{In: rapid.IntRange(0, 2).Draw(t, "in"), All: rapid.IntRange(0, 4).Draw(t, "all")})
		c.run(t)
		if len(c.tip.Moves) > 0 || len(planned(t, c.tip, c.tip.Members, 3).Moves) > 0 {
			t.Fatalf("moves are left: %v", c.tip.Moves)
		}
	})
}

// A member dies in the middle of everything and is removed: what it was about to get
// is turned back, what it had is taken from the others, and nothing stays under way.
func TestMovesOfADeadMemberAreEndedByTheOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCrew(joinAndLeave(t), Pace{})
		for range rapid.IntRange(0, 40).Draw(t, "turns") {
			c.turn(t, c.tip.Members[rapid.IntRange(0, len(c.tip.Members)-1).Draw(t, "whose")].ID)
		}
		dead := c.tip.Members[rapid.IntRange(0, len(c.tip.Members)-1).Draw(t, "dead")].ID
		c.away[dead] = true
		if rapid.Bool().Draw(t, "unnoticed") {
			for range 20 {
				if id := c.tip.Members[rapid.IntRange(0, len(c.tip.Members)-1).Draw(t, "whose")].ID; id != dead {
					c.turn(t, id)
				}
			}
		}
		next, err := c.tip.WithRemoval(dead)
		if err != nil {
			return // too few are left
		}
		c.tip = next
		c.run(t)
		if len(c.tip.Moves) > 0 || c.tip.HomeCount(dead) > 0 {
			t.Fatalf("%d slots of the dead one, moves %v", c.tip.HomeCount(dead), c.tip.Moves)
		}
		if gone := must(t)(c.tip.WithoutMember(dead)); gone.Member(dead) != nil {
			t.Fatal("it is a member still")
		}
	})
}

// The nearest source is enough: the others are asked when it is away.
func TestPullsAskNobodyInVain(t *testing.T) {
	r, m := course(t, oneZone, PhaseDual)
	noted := Pulled{}
	agenda := func(away ...NodeID) Agenda {
		return r.Agenda(m.To, Pace{}, func(Partition) Pulled { return noted }, func(id NodeID) bool { return slices.Contains(away, id) })
	}
	if a := agenda(); len(a.Steps) > 0 || len(a.Pulls) != 1 || !slices.Equal(a.Pulls[0].From, []NodeID{m.From}) {
		t.Errorf("all there: %+v", a)
	}
	a := agenda(m.From)
	if len(a.Pulls) != 1 || len(a.Pulls[0].From) != 2 || slices.Contains(a.Pulls[0].From, m.From) {
		t.Errorf("the source is away: %+v", a)
	}
	if a := agenda(m.From, r.Homes(3)[0]); len(a.Pulls) > 0 || len(a.Steps) > 0 {
		t.Errorf("too few are there: %+v", a)
	}
	noted = Pulled{m.To, r.Since[3], []NodeID{r.Homes(3)[0]}}
	if a := agenda(m.From); len(a.Pulls) != 1 || !slices.Equal(a.Pulls[0].From, []NodeID{r.Homes(3)[2]}) {
		t.Errorf("one of two was pulled from: %+v", a)
	}
	noted.From = append(noted.From, r.Homes(3)[2])
	if a := agenda(m.From); len(a.Pulls) > 0 || !slices.Equal(a.Steps, []StepTo{{3, StepReadNew}}) {
		t.Errorf("all was pulled: %+v", a)
	}
}
