package ring

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// drawReplicas draws a record whose number of homes is to be another one.
func drawReplicas(t *rapid.T, most int) *Record {
	from := rapid.IntRange(1, most).Draw(t, "from")
	to := rapid.IntRange(1, most).Draw(t, "to")
	r := found(t, drawMembers(t, max(from, to), max(from, to)+4, 3, 3), 1<<rapid.IntRange(0, 4).Draw(t, "partitions"), from)
	return must(t)(r.WithReplicas(to))
}

// resized takes the move of a partition, which is in its dual phase and changes the
// number of its homes, to its end.
func resized(t rapid.TB, r *Record, p Partition) *Record {
	steps := []Step{StepReadNew, StepDone}
	if m := r.MoveOf(p); m.Shrinks() {
		steps = nil
		for s := range r.Homes(p) {
			if uint8(s) != m.Slot {
				steps = append(steps, StepGot+Step(s))
			}
		}
		steps = append(steps, StepDone)
	}
	for _, s := range steps {
		r = must(t)(r.WithSteps([]StepTo{{p, s}}))
	}
	return r
}

// newHomes counts who is home of a partition in one record and was not in another.
func newHomes(prev, next *Record) (n int) {
	for p := range Partition(prev.Partitions) {
		for _, id := range next.Homes(p) {
			if prev.HomeIndex(p, id) < 0 {
				n++
			}
		}
	}
	return n
}

// Up or down, by moves alone: at every moment each partition has a number of homes
// between the two, no more copies are made than was forecast, and in the end every
// bound of Plan holds and the record is one that never had another number.
func TestTheNumberOfHomesChangesByMovesAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawReplicas(t, 5)
		if r.Before == 0 {
			return // the same number
		}
		least, most := min(r.Before, r.Replicas), max(r.Before, r.Replicas)
		f, err := r.Forecast()
		if err != nil {
			t.Fatal(err)
		}
		made := 0
		pace := Pace{In: rapid.IntRange(0, 3).Draw(t, "in"), All: rapid.IntRange(0, 8).Draw(t, "all")}
		end := driven(t, r, pace, func(prev, next *Record) {
			if next.Replicas != r.Replicas || next.Before != 0 && next.Before != r.Before {
				t.Fatalf("%d replicas, %d before", next.Replicas, next.Before)
			}
			for p := range Partition(next.Partitions) {
				if n := len(next.Homes(p)); n < least || n > most {
					t.Fatalf("partition %d has %d homes", p, n)
				}
			}
			made += newHomes(prev, next)
		})
		if made > f.Slots {
			t.Fatalf("%d copies were made, forecast were %d", made, f.Slots)
		}
		if end.Before != 0 || end.Uneven() != 0 || end.Encode()[0] != format {
			t.Fatalf("%d replicas before, %d partitions are uneven", end.Before, end.Uneven())
		}
		plan := planned(t, end, end.Members, end.Replicas)
		if len(plan.Moves) > 0 {
			t.Fatalf("%d moves are left to be planned", len(plan.Moves))
		}
		checkPlan(t, end, plan)
	})
}

// Where shares are equal and no zones bind, a home more moves exactly what it takes,
// and a home less nothing at all.
func TestAHomeMoreOrLessMovesNothingElse(t *testing.T) {
	for _, c := range [][2]int{{1, 2}, {1, 3}, {2, 3}, {3, 5}, {5, 3}, {3, 2}, {3, 1}, {5, 1}, {4, 6}} {
		for members := max(c[0], c[1]); members <= 9; members++ {
			r := found(t, testMembers(members), 256, c[0])
			next, err := r.WithReplicas(c[1])
			if err != nil {
				t.Fatal(err)
			}
			f, err := next.Forecast()
			if err != nil {
				t.Fatal(err)
			}
			want := 256 * max(0, c[1]-c[0])
			if f.Slots != want || f.Least > want {
				t.Errorf("%d members, %d to %d homes: %d slots are forecast, least %d, want %d", members, c[0], c[1], f.Slots, f.Least, want)
			}
			if !slices.Equal(next.Since, r.Since) || len(next.Moves) != 256 {
				t.Errorf("%d members, %d to %d homes: %d moves are queued, or a fence rose", members, c[0], c[1], len(next.Moves))
			}
			for i := range next.Moves {
				if m := &next.Moves[i]; m.Grows() != (c[1] > c[0]) || m.Shrinks() != (c[1] < c[0]) {
					t.Fatalf("%v", m)
				}
			}
		}
	}
}

// An operator may think again at any time: moves that lead elsewhere are turned back,
// and what was wished last stands in the end.
func TestTheLastWishForANumberOfHomesStands(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawReplicas(t, 4)
		settledAt := r.settledFrom()
		for range rapid.IntRange(1, 5).Draw(t, "wishes") {
			for range rapid.IntRange(0, 6).Draw(t, "meanwhile") {
				if steps := drawSteps(t, r, Pace{}); len(steps) > 0 {
					r = must(t)(r.WithSteps(steps))
				}
			}
			if r.Before == 0 {
				settledAt = r.Replicas
			} else if r.Before != settledAt {
				t.Fatalf("%d replicas before, settled was %d", r.Before, settledAt)
			}
			if next, err := r.WithReplicas(rapid.IntRange(1, 5).Draw(t, "wish")); err == nil {
				r = next
			}
		}
		want := r.Replicas
		end := driven(t, r, Pace{}, nil)
		if end.Replicas != want || end.Before != 0 || end.Uneven() != 0 {
			t.Fatalf("%d replicas, %d before, want %d", end.Replicas, end.Before, want)
		}
		checkPlan(t, end, planned(t, end, end.Members, want))
	})
}

// What nobody has begun leaves no trace.
func TestAWishForHomesThatIsTakenBackAtOnceLeavesNothing(t *testing.T) {
	r := found(t, testMembers(5), 16, 3)
	for _, n := range []int{1, 2, 4, 5} {
		wished, err := r.WithReplicas(n)
		if err != nil {
			t.Fatal(err)
		}
		if wished.Replicas != n || wished.Before != 3 || wished.Uneven() != 16 || wished.Encode()[0] != formatUneven {
			t.Errorf("%d replicas: %d, %d before, %d uneven", n, wished.Replicas, wished.Before, wished.Uneven())
		}
		if same, err := wished.WithReplicas(n); err != nil || same != wished {
			t.Errorf("the same wish again: %v", err)
		}
		back, err := wished.WithReplicas(3)
		if err != nil {
			t.Fatal(err)
		}
		back = back.successor()
		back.Epoch = r.Epoch
		back.settle(r)
		back.seal()
		if !bytes.Equal(back.Encode(), r.Encode()) {
			t.Errorf("%d replicas and back: another record", n)
		}
	}
}

// Nobody but the members themselves is needed, and one that is away for a while is
// waited for, or done without.
func TestTheNumberOfHomesIsChangedByItsMembersAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCrew(drawReplicas(t, 4), Pace{In: rapid.IntRange(0, 2).Draw(t, "in"), All: rapid.IntRange(0, 4).Draw(t, "all")})
		for range rapid.IntRange(0, 30).Draw(t, "turns") {
			c.turn(t, c.tip.Members[rapid.IntRange(0, len(c.tip.Members)-1).Draw(t, "whose")].ID)
		}
		away := c.tip.Members[rapid.IntRange(0, len(c.tip.Members)-1).Draw(t, "away")].ID
		c.away[away] = true
		for range rapid.IntRange(0, 60).Draw(t, "turns without it") {
			if id := c.tip.Members[rapid.IntRange(0, len(c.tip.Members)-1).Draw(t, "whose")].ID; id != away {
				c.turn(t, id)
			}
		}
		if rapid.Bool().Draw(t, "thinks again") {
			if next, err := c.tip.WithReplicas(rapid.IntRange(1, 4).Draw(t, "wish")); err == nil {
				c.tip = next
			}
		}
		delete(c.away, away)
		if rapid.IntRange(0, 3).Draw(t, "dead") == 0 {
			if next, err := c.tip.WithRemoval(away); err == nil {
				c.away[away], c.tip = true, next
			}
		}
		c.run(t)
		if len(c.tip.Moves) > 0 || c.tip.Before != 0 || len(planned(t, c.tip, c.tip.Members, c.tip.Replicas).Moves) > 0 {
			t.Fatalf("moves are left: %v, %d replicas before", c.tip.Moves, c.tip.Before)
		}
		if c.away[away] && c.tip.HomeCount(away) > 0 {
			t.Fatalf("the dead one has %d slots", c.tip.HomeCount(away))
		}
	})
}

// Homes that stay pull from the one that goes, until a majority of them has what there
// was; it is waited for unless it is given up, and nothing begins while too few are there.
func TestASlotIsTakenAwayOnlyAfterItsHomeWasPulledFrom(t *testing.T) {
	queued := must(t)(found(t, testMembers(3), 1, 3).WithReplicas(2))
	from := queued.Moves[0].From
	var stay []NodeID
	for _, id := range queued.Homes(0) {
		if id != from {
			stay = append(stay, id)
		}
	}
	agenda := func(r *Record, self NodeID, known Pulled, away ...NodeID) Agenda {
		return r.Agenda(self, Pace{}, func(Partition) Pulled { return known }, func(id NodeID) bool { return slices.Contains(away, id) })
	}
	nothing := func(what string, a Agenda) {
		t.Helper()
		if len(a.Pulls)+len(a.Steps) > 0 {
			t.Errorf("%s: %+v", what, a)
		}
	}
	only := func(what string, a Agenda, step Step) {
		t.Helper()
		if !slices.Equal(a.Steps, []StepTo{{0, step}}) || len(a.Pulls) > 0 {
			t.Errorf("%s: %+v", what, a)
		}
	}
	first, second := stay[0], stay[1]
	only("in the queue", agenda(queued, first, Pulled{}), StepDual)
	nothing("in the queue, not its turn", agenda(queued, second, Pulled{}))
	for _, gone := range stay {
		nothing("in the queue, somebody who stays is away", agenda(queued, stay[0], Pulled{}, gone, stay[1]))
	}
	nothing("in the queue, the source is away", agenda(queued, first, Pulled{}, from))

	dual := must(t)(queued.WithSteps([]StepTo{{0, StepDual}}))
	for i, id := range stay {
		got := StepGot + Step(dual.HomeIndex(0, id))
		if a := agenda(dual, id, Pulled{}); len(a.Steps) > 0 || len(a.Pulls) != 1 || !slices.Equal(a.Pulls[0].From, []NodeID{from}) {
			t.Errorf("%+v", a)
		}
		nothing("the source is away", agenda(dual, id, Pulled{}, from))
		only("pulled", agenda(dual, id, Pulled{id, dual.Since[0], []NodeID{from}}), got)
		if a := agenda(dual, id, Pulled{id, dual.Since[0] - 1, []NodeID{from}}); len(a.Steps) > 0 {
			t.Errorf("pulled under another epoch: %+v", a)
		}
		turns := id // whose turn it is: the driver's, or if that is away the first home's that is there
		if i > 0 {
			turns = slices.DeleteFunc(slices.Clone(dual.Homes(0)), func(id NodeID) bool { return id == stay[0] })[0]
		}
		only("somebody who stays is away", agenda(dual, turns, Pulled{}, stay[1-i]), StepAbort)
		if !dual.Answers(0, id, Pulled{}) {
			t.Error("a home that stays answers no reads")
		}
	}
	nothing("the one that goes", agenda(dual, from, Pulled{}))
	if _, err := dual.WithSteps([]StepTo{{0, StepDone}}); err == nil {
		t.Error("it ended before anybody had pulled")
	}
	one := must(t)(dual.WithSteps([]StepTo{{0, StepGot + Step(dual.HomeIndex(0, first))}}))
	if _, err := one.WithSteps([]StepTo{{0, StepDone}}); err == nil {
		t.Error("it ended before a majority had pulled")
	}
	if one.Since[0] != dual.Since[0] {
		t.Error("the fence rose with what was pulled")
	}
	two := must(t)(one.WithSteps([]StepTo{{0, StepGot + Step(dual.HomeIndex(0, second))}}))
	only("a majority has pulled", agenda(two, first, Pulled{}), StepDone)
	done := must(t)(two.WithSteps([]StepTo{{0, StepDone}}))
	if two.Drops(dual, 0, from) || !done.Drops(two, 0, from) || done.Drops(two, 0, first) || !slices.Equal(done.Homes(0), stay) {
		t.Error("it is dropped before the end, or another one is")
	}

	lost := must(t)(dual.WithLost(from))
	if a := agenda(lost, first, Pulled{}); len(a.Pulls) != 1 || !slices.Equal(a.Pulls[0].From, []NodeID{second}) {
		t.Errorf("the source is given up: %+v", a)
	}
	only("the source is given up, the other one pulled", agenda(lost, first, Pulled{first, lost.Since[0], []NodeID{second}}), StepGot+Step(dual.HomeIndex(0, first)))
}

// Who is to have a new slot pulls from so many that it has what any majority has, twice,
// and is not waited for.
func TestASlotIsAddedOnlyAfterItsHomeHasPulled(t *testing.T) {
	queued := must(t)(found(t, testMembers(4), 1, 3).WithReplicas(4))
	to := queued.Moves[0].To
	r := must(t)(queued.WithSteps([]StepTo{{0, StepDual}}))
	for _, next := range []Step{StepReadNew, StepDone} {
		agenda := func(self NodeID, known Pulled, away ...NodeID) Agenda {
			return r.Agenda(self, Pace{}, func(Partition) Pulled { return known }, func(id NodeID) bool { return slices.Contains(away, id) })
		}
		if a := agenda(to, Pulled{}, r.Homes(0)[0]); len(a.Pulls) != 1 || !slices.Equal(a.Pulls[0].From, r.Homes(0)[1:]) {
			t.Errorf("before %v: %+v", next, a)
		}
		if a := agenda(to, Pulled{to, r.Since[0], r.Homes(0)[:1]}); len(a.Steps) > 0 {
			t.Errorf("%v after a pull from one: %+v", next, a)
		}
		if a := agenda(to, Pulled{to, r.Since[0], r.Homes(0)[:2]}); !slices.Equal(a.Steps, []StepTo{{0, next}}) {
			t.Errorf("%v is not next: %+v", next, a)
		}
		if a := agenda(r.Homes(0)[1], Pulled{}, to, r.Homes(0)[0]); !slices.Equal(a.Steps, []StepTo{{0, StepAbort}}) {
			t.Errorf("the newcomer is away: %+v", a)
		}
		if r.Answers(0, to, Pulled{}) || r.Answers(0, to, Pulled{to, r.Since[0], r.Homes(0)[:2]}) != (next == StepDone) || r.Mints(0, to) || !r.Holds(0, to) {
			t.Errorf("before %v it answers %v, mints %v, holds %v", next, r.Answers(0, to, Pulled{}), r.Mints(0, to), r.Holds(0, to))
		}
		r = must(t)(r.WithSteps([]StepTo{{0, next}}))
	}
	if len(r.Homes(0)) != 4 || r.Homes(0)[3] != to || r.Before != 0 {
		t.Errorf("homes %v, %d before", r.Homes(0), r.Before)
	}
}

// Who takes a lost home's place has nothing of what that one had pulled, and nothing that
// was pulled before the ring was forced counts.
func TestWhatWasPulledIsForgottenWithItsHome(t *testing.T) {
	dual := must(t)(found(t, testMembers(4), 1, 4).WithReplicas(3))
	dual = must(t)(dual.WithSteps([]StepTo{{0, StepDual}}))
	for s, id := range dual.Homes(0) {
		if id != dual.Moves[0].From {
			dual = must(t)(dual.WithSteps([]StepTo{{0, StepGot + Step(s)}}))
		}
	}
	m := &dual.Moves[0]
	if !dual.gotEnough(m) {
		t.Fatalf("%b have pulled", m.Got)
	}
	for s, id := range dual.Homes(0) {
		if id == m.From {
			continue
		}
		lost := must(t)(dual.WithLost(id))
		if lost.Moves[0].Got != m.Got {
			t.Errorf("slot %d is lost: %b", s, lost.Moves[0].Got)
		}
		next := must(t)(lost.WithReplacement(id, testMember(50)))
		if is := next.MoveOf(0); is == nil || is.Got != 0 || next.gotEnough(is) {
			t.Errorf("slot %d has another home: %v", s, is)
		}
	}
	forced, err := dual.WithForced(Forced{Epoch: dual.Epoch + 9, By: dual.Members[0].ID, Survivors: []NodeID{dual.Members[0].ID, dual.Members[1].ID}})
	if err != nil {
		t.Fatal(err)
	}
	if forced.Moves[0].Got != 0 {
		t.Errorf("forced: %b", forced.Moves[0].Got)
	}
}

// A record that breaks a rule of the change is refused, whoever made it.
func TestFollowsRefusesOtherChangesOfTheNumberOfHomes(t *testing.T) {
	r := found(t, testMembers(5), 4, 3)
	up, down := must(t)(r.WithReplicas(4)), must(t)(r.WithReplicas(2))
	refused := func(what, want string, prev *Record, change func(next *Record)) {
		t.Helper()
		next := prev.successor()
		next.loosen()
		change(next)
		next.seal()
		if err := next.Follows(prev); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	refused("a home more without a move", "without a finished move", up, func(next *Record) {
		next.resize(map[Partition]*Move{1: {Partition: 1, To: outsider(r, 1)}})
		next.Since[1] = next.Epoch
		next.Moves = slices.Delete(next.Moves, 1, 2)
	})
	refused("a home less from the queue", "without a finished move", down, func(next *Record) {
		next.resize(map[Partition]*Move{1: &down.Moves[1]})
		next.Since[1] = next.Epoch
		next.Moves = slices.Delete(next.Moves, 1, 2)
	})
	refused("another number from before", "5 replicas before, want 3", up, func(next *Record) { next.Before = 5 })
	refused("nothing from before", "and no change of it", up, func(next *Record) { next.Before = 0 })
	refused("a change of nothing", "nothing that changes them", r, func(next *Record) { next.Before = 3 })
	refused("a home more than is wanted", "is to have 2", down, func(next *Record) {
		next.Moves[1] = Move{Partition: 1, Slot: 3, To: outsider(r, 1), Phase: PhasePlan}
	})
	refused("a home less than is wanted", "is to have 4", up, func(next *Record) {
		next.Moves[1] = Move{Partition: 1, Slot: 2, From: r.Homes(1)[2], Phase: PhasePlan}
	})
	refused("no ends", "it has no ends", up, func(next *Record) { next.Moves[1].To = NodeID{} })
	refused("a slot behind the next", "behind the 3", up, func(next *Record) { next.Moves[1].Slot = 4 })
	refused("a fence that does not rise", "fence", up, func(next *Record) { next.Moves[1].Phase = PhaseDual })
	one := must(t)(found(t, testMembers(2), 2, 1).WithReplicas(2))
	refused("the last home", "no home", one, func(next *Record) {
		next.Moves[1] = Move{Partition: 1, From: one.Homes(1)[0], Phase: PhasePlan}
	})
	for n, want := range map[int]string{0: "want 1 to 7", 8: "want 1 to 7", 6: "got 5"} {
		if _, err := r.WithReplicas(n); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d replicas: %v", n, err)
		}
	}
	if _, err := blank(4).WithReplicas(2); err == nil {
		t.Error("another number before the founding")
	}
}

// History says what was wished, what came of it, and the end.
func TestChangesTellOfTheNumberOfHomes(t *testing.T) {
	r := found(t, testMembers(2), 1, 1)
	up := must(t)(r.WithReplicas(2))
	has := func(what, want string, next, prev *Record) {
		t.Helper()
		if got := strings.Join(next.Changes(prev), "; "); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	to, name := up.Moves[0].To, func(id NodeID) string { return r.Member(id).label() }
	has("the wish", "the replicas were 1 and are to be 2; moves queued to "+name(to)+": partition 0", up, r)
	last := up
	for _, s := range []Step{StepDual, StepReadNew} {
		last = must(t)(last.WithSteps([]StepTo{{0, s}}))
	}
	done := must(t)(last.WithSteps([]StepTo{{0, StepDone}}))
	has("the end", "every key has its number of replicas: 2; moves done to "+name(to)+": partition 0", done, last)
	has("in one", "the replicas were 1 and are 2; slots added to "+name(to)+": partition 0", done, r)
	down := must(t)(done.WithReplicas(1))
	has("down", "the replicas were 2 and are to be 1; moves queued from "+name(down.Moves[0].From)+": partition 0", down, done)
}
