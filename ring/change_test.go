package ring

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func must(t rapid.TB) func(*Record, error) *Record {
	return func(r *Record, err error) *Record {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

// driven lets moves go on, with everybody there, until none is left, and checks
// every record on the way. The order of steps is drawn.
func driven(t *rapid.T, r *Record, pace Pace, check func(prev, next *Record)) *Record {
	t.Helper()
	for turn := 0; ; turn++ {
		if turn > 20*r.Partitions*ReplicasMax {
			t.Fatalf("%d moves are left after %d records", len(r.Moves), turn)
		}
		next := must(t)(r.WithQueue())
		if steps := drawSteps(t, r, pace); len(steps) > 0 && (next == r || rapid.Bool().Draw(t, "steps first")) {
			next = must(t)(r.WithSteps(steps))
		} else if next == r && len(r.Moves) == 0 {
			return r
		}
		if next == r {
			continue
		}
		if back, err := Decode(next.Encode()); err != nil || back.Digest() != next.Digest() {
			t.Fatalf("decoded: %v", err)
		}
		if check != nil {
			check(r, next)
		}
		r = next
	}
}

// drawSteps draws steps that may be taken by somebody who knows all; at least one
// if there is any.
func drawSteps(t *rapid.T, r *Record, pace Pace) []StepTo {
	var steps []StepTo
	for _, p := range r.Startable(pace) {
		steps = append(steps, StepTo{p, StepDual})
	}
	for i := range r.Moves {
		m := &r.Moves[i]
		switch {
		case m.resizes() && m.Phase > PhasePlan && r.Unwanted(m):
			steps = append(steps, StepTo{m.Partition, StepAbort})
		case m.Shrinks() && m.Phase == PhaseDual && r.gotEnough(m):
			steps = append(steps, StepTo{m.Partition, StepDone})
		case m.Shrinks() && m.Phase == PhaseDual:
			var left []Step
			for s, id := range r.Homes(m.Partition) {
				if id != m.From && m.Got&(1<<s) == 0 && !r.isLost(id) {
					left = append(left, StepGot+Step(s))
				}
			}
			steps = append(steps, StepTo{m.Partition, rapid.SampledFrom(left).Draw(t, "got by")})
		case m.Phase == PhaseDual && r.Unwanted(m), m.Phase == PhaseBack:
			steps = append(steps, StepTo{m.Partition, StepAbort})
		case m.Phase == PhaseDual:
			steps = append(steps, StepTo{m.Partition, StepReadNew})
		case m.Phase == PhaseReadNew && r.Unwanted(m):
			steps = append(steps, StepTo{m.Partition, StepBack})
		case m.Phase == PhaseReadNew:
			steps = append(steps, StepTo{m.Partition, StepDone})
		}
	}
	if len(steps) == 0 {
		return nil
	}
	steps = rapid.Permutation(steps).Draw(t, "steps")
	return steps[:rapid.IntRange(1, len(steps)).Draw(t, "how many")]
}

// drawChange draws something that an operator may want now.
func drawChange(t *rapid.T, r *Record, fresh int) (string, *Record, error) {
	who := r.Members[rapid.IntRange(0, len(r.Members)-1).Draw(t, "who")]
	m := drawMember(t, fresh, 4, 3)
	switch rapid.IntRange(0, 8).Draw(t, "change") {
	case 0:
		next, err := r.WithJoin(m)
		return "join", next, err
	case 1:
		next, err := r.WithLeave(who.ID)
		return "leave", next, err
	case 2:
		next, err := r.WithRemoval(who.ID)
		return "removal", next, err
	case 3:
		next, err := r.WithSuccessor(who.ID, m)
		return "successor", next, err
	case 4:
		next, err := r.WithWeight(who.ID, uint16(rapid.IntRange(1, 4).Draw(t, "weight")))
		return "weight", next, err
	case 5:
		next, err := r.WithRetreat(who.ID)
		return "retreat", next, err
	case 6, 7:
		next, err := r.WithReplicas(rapid.IntRange(1, 5).Draw(t, "replicas"))
		return "replicas", next, err
	}
	next, err := r.WithStandby(m)
	return "standby", next, err
}

// Changes of the membership come whenever they like, also while moves are under way.
// In the end nobody has slots but active members, everybody has the share of Plan,
// and no two moves of one partition were ever under way.
func TestChangesUnderWayComeToTheirEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		replicas := rapid.IntRange(1, 4).Draw(t, "replicas")
		members := drawMembers(t, replicas, replicas+5, 3, 3)
		r := found(t, members, 1<<rapid.IntRange(0, 4).Draw(t, "partitions"), replicas)
		pace := Pace{In: rapid.IntRange(0, 3).Draw(t, "in"), Out: rapid.IntRange(0, 3).Draw(t, "out"), All: rapid.IntRange(0, 8).Draw(t, "all")}
		for fresh := range rapid.IntRange(1, 8).Draw(t, "changes") {
			what, next, err := drawChange(t, r, 1000+fresh)
			if err == nil && next != r {
				if err := next.Follows(r); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				r = next
			}
			for range rapid.IntRange(0, 5).Draw(t, "meanwhile") {
				if steps := drawSteps(t, r, pace); len(steps) > 0 {
					r = must(t)(r.WithSteps(steps))
				}
			}
		}
		if len(slices.DeleteFunc(slices.Clone(r.Members), func(m Member) bool { return m.State != Active })) < r.Replicas {
			return // nobody can take over
		}
		r = driven(t, r, pace, nil)
		plan := planned(t, r, r.Members, r.Replicas)
		if len(plan.Moves) > 0 {
			t.Fatalf("%d moves are left to be planned", len(plan.Moves))
		}
		checkPlan(t, r, plan)
		for _, m := range r.Members {
			if m.State != Active && r.HomeCount(m.ID) > 0 {
				t.Fatalf("%v member has %d slots", m.State, r.HomeCount(m.ID))
			}
			if m.State == Leaving || m.State == Lost {
				r = must(t)(r.WithoutMember(m.ID))
				if r.Member(m.ID) != nil || !r.IsBanned(m.ID) {
					t.Fatal("it is there still, or may come back")
				}
			}
		}
	})
}

func TestAJoinAndALeaveMoveNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(4, 12).Draw(t, "members")
		r := found(t, testMembers(n), 256, 3)
		grown := must(t)(r.WithJoin(testMember(50)))
		if most := (256*3 + n) / (n + 1); len(grown.Moves) > most {
			t.Fatalf("a join of an equal member queues %d moves, at most %d are needed", len(grown.Moves), most)
		}
		for i := range grown.Moves {
			if grown.Moves[i].To != testID(50) {
				t.Fatalf("%v is not to the newcomer", &grown.Moves[i])
			}
		}
		if !slices.Equal(grown.Since, r.Since) {
			t.Fatal("a fence rose")
		}
		who := r.Members[rapid.IntRange(0, n-1).Draw(t, "who")].ID
		left := must(t)(r.WithLeave(who))
		if len(left.Moves) != r.HomeCount(who) {
			t.Fatalf("%d moves for %d slots", len(left.Moves), r.HomeCount(who))
		}
		for i := range left.Moves {
			if left.Moves[i].From != who {
				t.Fatalf("%v is not from the leaver", &left.Moves[i])
			}
		}
		if left.IsKeeper(who) {
			t.Fatal("a leaver is a keeper")
		}
	})
}

// Old's slots, all of them and no others, go to the one in its place.
func TestASuccessorGetsExactlyTheSlotsOfTheOldOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(3, 9).Draw(t, "members")
		r := found(t, drawMembers(t, n, n, 1, 3), 128, 3)
		old := r.Members[rapid.IntRange(0, n-1).Draw(t, "old")]
		if rapid.Bool().Draw(t, "lost") {
			r = lost(t, r, old.ID)
		}
		m := testMember(900)
		m.Zone = old.Zone
		next := must(t)(r.WithSuccessor(old.ID, m))
		if len(next.Moves) != r.HomeCount(old.ID) {
			t.Fatalf("%d moves for %d slots", len(next.Moves), r.HomeCount(old.ID))
		}
		for i := range next.Moves {
			if move := &next.Moves[i]; move.From != old.ID || move.To != m.ID {
				t.Fatalf("%v is not from the old one to the new one", move)
			}
		}
		if again := must(t)(next.WithQueue()); again != next {
			t.Fatal("the queue was planned otherwise once more")
		}
	})
}

func TestARemovalFencesAndQueuesInOneRecord(t *testing.T) {
	r := found(t, testMembers(5), 32, 3)
	old := r.Members[2].ID
	next := must(t)(r.WithRemoval(old))
	if next.Epoch != r.Epoch+1 || next.Member(old).State != Lost || len(next.Moves) != r.HomeCount(old) || next.IsKeeper(old) {
		t.Fatalf("epoch %d, %v, %d moves for %d slots", next.Epoch, next.Member(old).State, len(next.Moves), r.HomeCount(old))
	}
	for p := range Partition(32) {
		if rises := next.Since[p] == next.Epoch; rises != (r.HomeIndex(p, old) >= 0) {
			t.Errorf("partition %d: fence %d", p, next.Since[p])
		}
	}
	if again := must(t)(next.WithRemoval(old)); again != next {
		t.Error("the same removal twice are two records")
	}
}

func TestChangesThatStandAlreadyAreTheRecordItself(t *testing.T) {
	r := found(t, testMembers(4), 16, 3)
	left := must(t)(r.WithLeave(r.Members[1].ID))
	for name, again := range map[string]func() (*Record, error){
		"join":   func() (*Record, error) { return r.WithJoin(r.Members[0]) },
		"leave":  func() (*Record, error) { return left.WithLeave(r.Members[1].ID) },
		"weight": func() (*Record, error) { return r.WithWeight(r.Members[0].ID, 1) },
		"queue":  r.WithQueue,
	} {
		if next, err := again(); err != nil || next != r && next != left {
			t.Errorf("%s: %v, %v", name, next, err)
		}
	}
	if back := must(t)(left.WithJoin(Member{ID: r.Members[1].ID})); len(back.Moves) != 0 || back.Members[1].State != Active {
		t.Errorf("a leave that was taken back leaves %d moves", len(back.Moves))
	}
}

func TestChangesAreRefusedByName(t *testing.T) {
	members := testMembers(4)
	r := found(t, members, 16, 3)
	gone := lost(t, r, members[2].ID)
	banned := altered(r, func(r *Record) { r.Banned = []NodeID{testID(9)} })
	stranger := testID(77)
	dual := must(t)(must(t)(r.WithJoin(testMember(8))).WithSteps([]StepTo{{must(t)(r.WithJoin(testMember(8))).Moves[0].Partition, StepDual}}))
	p := dual.Moves[slices.IndexFunc(dual.Moves, func(m Move) bool { return m.Phase == PhaseDual })].Partition
	for want, try := range map[string]func() error{
		"join member " + testID(9).Short() + ": member was removed": func() error { return onlyErr(banned.WithJoin(testMember(9))) },
		"already a member, and lost":                                func() error { return onlyErr(gone.WithJoin(members[2])) },
		"not founded yet":                                           func() error { return onlyErr(unfounded(t).WithJoin(testMember(5))) },
		"leave of member " + stranger.Short():                       func() error { return onlyErr(r.WithLeave(stranger)) },
		"it is lost":                                                func() error { return onlyErr(gone.WithLeave(members[2].ID)) },
		"3 replicas need at least as many active members, got 2": func() error {
			return onlyErr(must(t)(r.WithLeave(members[0].ID)).WithLeave(members[1].ID))
		},
		"remove member " + members[1].ID.Short() + ": 3 replicas": func() error { return onlyErr(gone.WithRemoval(members[1].ID)) },
		"give up member " + stranger.Short():                      func() error { return onlyErr(r.WithRemoval(stranger)) },
		"is not a member":                                         func() error { return onlyErr(r.WithSuccessor(stranger, testMember(8))) },
		"already a member, and active":                            func() error { return onlyErr(r.WithSuccessor(members[0].ID, members[1])) },
		"there is nothing to take": func() error {
			return onlyErr(must(t)(r.WithStandby(testMember(7))).WithSuccessor(testID(7), testMember(8)))
		},
		"weight of member " + stranger.Short(): func() error { return onlyErr(r.WithWeight(stranger, 1)) },
		"weight 0":                             func() error { return onlyErr(r.WithWeight(members[0].ID, 0)) },
		"take out member " + stranger.Short():  func() error { return onlyErr(r.WithoutMember(stranger)) },
		"it still has 12 slots":                func() error { return onlyErr(r.WithoutMember(members[0].ID)) },
		"must end first":                       func() error { return onlyErr(dual.WithoutMember(testID(8))) },
		"no steps":                             func() error { return onlyErr(r.WithSteps(nil)) },
		"no move is under way":                 func() error { return onlyErr(r.WithSteps([]StepTo{{0, StepDual}})) },
		"it cannot become done":                func() error { return onlyErr(dual.WithSteps([]StepTo{{p, StepDone}})) },
		"two steps at once":                    func() error { return onlyErr(dual.WithSteps([]StepTo{{p, StepReadNew}, {p, StepReadNew}})) },
		"no such slot":                         func() error { return onlyErr(r.WithMoves([]Move{{Partition: 16}})) },
		"the partition has one under way":      func() error { return onlyErr(dual.WithMoves([]Move{{Partition: p, To: testID(8)}})) },
		"is a home already":                    func() error { return onlyErr(r.WithMoves([]Move{{To: r.Homes(0)[1]}})) },
		"is lost and takes no slots": func() error {
			return onlyErr(gone.WithMoves([]Move{{Partition: outside(gone, members[2].ID), To: members[2].ID}}))
		},
		testID(8).Short() + " is not a member": func() error { return onlyErr(r.WithMoves([]Move{{To: testID(8)}})) },
		"it cannot become step 9":              func() error { return onlyErr(dual.WithSteps([]StepTo{{p, 9}})) },
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if _, err := banned.WithJoin(testMember(9)); !errors.Is(err, ErrBanned) {
		t.Error(err)
	}
	if _, err := r.WithSuccessor(members[0].ID, members[1]); !errors.Is(err, ErrKnown) {
		t.Error(err)
	}
}

func outside(r *Record, id NodeID) Partition { return Partition(outOf(r, id)) }

func TestPaceBoundsWhatIsUnderWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := found(t, testMembers(4), 16, 3)
		r = must(t)(r.WithJoin(testMember(20)))
		r = must(t)(r.WithJoin(testMember(21)))
		pace := Pace{In: rapid.IntRange(0, 3).Draw(t, "in"), Out: rapid.IntRange(0, 3).Draw(t, "out"), All: rapid.IntRange(0, 8).Draw(t, "all")}
		driven(t, r, pace, func(_, next *Record) {
			in, out, all := map[NodeID]int{}, map[NodeID]int{}, 0
			for _, m := range next.Moves {
				if m.Phase > PhasePlan {
					in[m.To]++
					out[m.From]++
					all++
				}
			}
			over := func(n, bound int) bool { return bound > 0 && n > bound }
			for _, m := range next.Members {
				if over(in[m.ID], pace.In) || over(out[m.ID], pace.Out) || over(all, pace.All) {
					t.Fatalf("%d in, %d out, %d in all, with the pace %+v", in[m.ID], out[m.ID], all, pace)
				}
			}
		})
	})
}

func TestSlotsOfTheLostStartFirst(t *testing.T) {
	r := found(t, testMembers(6), 64, 3)
	r = must(t)(r.WithJoin(testMember(20)))
	r = must(t)(r.WithLeave(r.Members[1].ID))
	r = must(t)(r.WithRemoval(r.Members[3].ID))
	last := 0
	for _, p := range r.Startable(Pace{}) {
		if urgency := r.urgency(r.MoveOf(p)); urgency < last {
			t.Fatalf("a move of urgency %d after one of %d", urgency, last)
		} else {
			last = urgency
		}
	}
	if got := r.Startable(Pace{All: 1}); len(got) != 1 || r.urgency(r.MoveOf(got[0])) != 0 {
		t.Errorf("the first of all is %v", got)
	}
	for _, m := range r.Moves {
		if strings.Contains(fmt.Sprint(m.Phase), "phase") {
			t.Error(m)
		}
	}
}
