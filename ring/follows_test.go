package ring

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// altered is a copy of r that was changed by hand.
func altered(r *Record, change func(r *Record)) *Record {
	c := r.successor()
	c.Epoch = r.Epoch
	change(c)
	sealable := true
	for _, home := range c.table {
		sealable = sealable && int(home) < len(c.Members)
	}
	if sealable {
		c.seal()
	}
	return c
}

// moving is a founded record of five members with a move of partition 3 in a phase.
func moving(t rapid.TB, phase Phase) *Record {
	r := found(t, testMembers(5), 8, 3)
	return altered(r, func(r *Record) {
		r.Moves = []Move{{Partition: 3, Slot: 1, From: r.Members[r.row(3)[1]].ID, To: outsider(r, 3), Phase: phase}}
	})
}

// outsider is a member that is no home of the partition.
func outsider(r *Record, p int) NodeID {
	for i := range r.Members {
		if !slices.Contains(r.row(p), uint16(i)) {
			return r.Members[i].ID
		}
	}
	panic("everyone is a home")
}

func TestValidateNamesTheBrokenRule(t *testing.T) {
	base := moving(t, PhaseDual)
	if err := base.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, breakIt := range map[string]func(r *Record){
		"epoch 0":                               func(r *Record) { r.Epoch = 0 },
		"zero cluster ID":                       func(r *Record) { r.Cluster = ClusterID{} },
		"cluster without a name":                func(r *Record) { r.Name = "" },
		"9 partitions, want a power of two":     func(r *Record) { r.Partitions = 9 },
		"8 replicas, want 1 to 7":               func(r *Record) { r.Replicas = 8 },
		"0 members":                             func(r *Record) { r.Members = nil },
		"zero ID":                               func(r *Record) { r.Members[0].ID = NodeID{} },
		"not sorted by ID":                      func(r *Record) { r.Members[0], r.Members[1] = r.Members[1], r.Members[0] },
		"twice there":                           func(r *Record) { r.Members[1].ID = r.Members[0].ID },
		"weight 0":                              func(r *Record) { r.Members[2].Weight = 0 },
		"unknown state 0":                       func(r *Record) { r.Members[2].State = 0 },
		"unknown state 6":                       func(r *Record) { r.Members[2].State = 6 },
		"name: 65 bytes, at most 64":            func(r *Record) { r.Members[2].Name = strings.Repeat("x", 65) },
		"zone: \"\\x00\"":                       func(r *Record) { r.Members[2].Zone = "\x00" },
		"0 keepers":                             func(r *Record) { r.Keepers = nil },
		"8 keepers, want 1 to 7":                func(r *Record) { r.Keepers = make([]NodeID, 8) },
		"keeper " + testID(77).Short() + " is":  func(r *Record) { r.Keepers = []NodeID{testID(77)} },
		"or not sorted by ID":                   func(r *Record) { slices.Reverse(r.Keepers) },
		"16385 banned IDs":                      func(r *Record) { r.Banned = make([]NodeID, BannedMax+1) },
		"banned ID " + testID(9).Short():        func(r *Record) { r.Banned = []NodeID{testID(9), testID(9)} },
		"is banned":                             func(r *Record) { r.Banned = []NodeID{r.Members[3].ID} },
		"7 fences for 8 partitions":             func(r *Record) { r.Since = r.Since[:7] },
		"partition 2 changed at epoch 3":        func(r *Record) { r.Since[2] = 3 },
		"partition 2 changed at epoch 0":        func(r *Record) { r.Since[2] = 0 },
		"table of 23 homes, want 24":            func(r *Record) { r.table = r.table[:23] },
		"home 5 of 5 members":                   func(r *Record) { r.table[7] = 5 },
		"is twice there":                        func(r *Record) { r.table[7] = r.table[6] },
		"is on standby":                         func(r *Record) { r.Members[r.table[0]].State = Standby },
		"phase 0: unknown phase":                func(r *Record) { r.Moves[0].Phase = 0 },
		"phase 5: unknown phase":                func(r *Record) { r.Moves[0].Phase = 5 },
		"partition 8 slot 1 from":               func(r *Record) { r.Moves[0].Partition = 8 },
		"slot 3 from":                           func(r *Record) { r.Moves[0].Slot = 3 },
		"the home is":                           func(r *Record) { r.Moves[0].From = testID(77) },
		testID(77).Short() + " is not a member": func(r *Record) { r.Moves[0].To = testID(77) },
		"is a home already":                     func(r *Record) { r.Moves[0].To = r.Members[r.row(3)[0]].ID },
		"partition 3 has two moves": func(r *Record) {
			r.Moves = append(r.Moves, Move{Partition: 3, Slot: 0, From: r.Members[r.row(3)[0]].ID, To: r.Moves[0].To, Phase: PhasePlan})
		},
	} {
		broken := base.successor()
		broken.Epoch = base.Epoch
		breakIt(broken)
		if err := broken.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func TestFollowsNamesTheBrokenRule(t *testing.T) {
	base := found(t, testMembers(5), 8, 3)
	next := func(change func(r *Record)) *Record {
		return altered(base, func(r *Record) { r.Epoch++; change(r) })
	}
	for want, r := range map[string]*Record{
		"epoch 2 after 2: not the next epoch": base,
		"epoch 4 after 2: not the next epoch": next(func(r *Record) { r.Epoch++ }),
		"cluster " + testCluster.String():     next(func(r *Record) { r.Cluster = ClusterID{9} }),
		"name \"kith\" became \"kin\"":        next(func(r *Record) { r.Name = "kin" }),
		"8 partitions became 4":               next(func(r *Record) { r.Partitions, r.Since, r.table = 4, r.Since[:4], r.table[:12] }),
		"3 replicas became 4":                 next(func(r *Record) { r.Replicas, r.table = 4, nil }),
		"the table is gone":                   next(func(r *Record) { r.table = nil }),
		"partition 2: fence 3, want 2":        next(func(r *Record) { r.Since[2] = 3 }),
		"partition 2: fence 1, want 2":        next(func(r *Record) { r.Since[2] = 1 }),
		"partition 2: homes changed without": next(func(r *Record) {
			r.table[7] = uint16(r.index(outsider(r, 2)))
			r.Since[2] = 3
		}),
		"partition 0: homes changed without": next(func(r *Record) {
			r.table[0], r.table[1] = r.table[1], r.table[0]
			r.Since[0] = 3
		}),
	} {
		if err := r.Follows(base); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if err := next(func(*Record) {}).Follows(base); err != nil {
		t.Errorf("no change but the epoch: %v", err)
	}
	if err := next(func(r *Record) { r.Keepers = r.Keepers[:1] }).Follows(base); err != nil {
		t.Errorf("other keepers: %v", err)
	}
	if err := next(func(r *Record) { r.Epoch = 0 }).Follows(base); err == nil || !strings.Contains(err.Error(), "epoch 0") {
		t.Errorf("an invalid record: %v", err)
	}
}

func TestMembersLeaveOnlyAsBanned(t *testing.T) {
	standby, err := found(t, testMembers(3), 8, 3).WithStandby(testMember(9))
	if err != nil {
		t.Fatal(err)
	}
	without := func(ban bool) *Record {
		return altered(standby, func(r *Record) {
			r.Epoch++
			at := r.index(testID(9))
			r.Members = slices.Delete(r.Members, at, at+1)
			for i, home := range r.table {
				if int(home) > at {
					r.table[i]--
				}
			}
			if ban {
				r.Banned = []NodeID{testID(9)}
			}
		})
	}
	if err := without(false).Follows(standby); err == nil || !strings.Contains(err.Error(), "removed but not banned") {
		t.Errorf("removed and not banned: %v", err)
	}
	removed := without(true)
	if err := removed.Follows(standby); err != nil {
		t.Errorf("removed and banned: %v", err)
	}
	if _, err := removed.WithStandby(testMember(9)); err == nil {
		t.Error("a removed member came back")
	}
	forgiving := altered(removed, func(r *Record) { r.Epoch++; r.Banned = nil })
	if err := forgiving.Follows(removed); err == nil || !strings.Contains(err.Error(), "no longer banned") {
		t.Errorf("a ban forgotten: %v", err)
	}
}

// Every step between two phases, and the two ends, as DESIGN's table has them.
func TestMovesGoThroughTheirPhases(t *testing.T) {
	const none, done = Phase(0), Phase(100)
	legal := map[[2]Phase]bool{
		{none, PhasePlan}: true, {PhasePlan, PhaseDual}: true, {PhaseDual, PhaseReadNew}: true,
		{PhaseReadNew, PhaseBack}: true, {PhaseReadNew, done}: true,
		{PhasePlan, none}: true, {PhaseDual, none}: true, {PhaseBack, none}: true,
		{none, none}: true, {PhasePlan, PhasePlan}: true, {PhaseDual, PhaseDual}: true,
		{PhaseReadNew, PhaseReadNew}: true, {PhaseBack, PhaseBack}: true,
	}
	for from := none; from <= PhaseBack; from++ {
		base := moving(t, from)
		move := base.Moves[0]
		if from == none {
			base = altered(base, func(r *Record) { r.Moves = nil })
		}
		for _, to := range []Phase{none, PhasePlan, PhaseDual, PhaseReadNew, PhaseBack, done} {
			next := altered(base, func(r *Record) {
				r.Epoch++
				r.Moves = nil
				switch to {
				case none:
				case done:
					r.table[3*3+1] = uint16(r.index(move.To))
				default:
					r.Moves = []Move{move}
					r.Moves[0].Phase = to
				}
				if rises := from != to && (from > PhasePlan || to > PhasePlan); rises {
					r.Since[3] = r.Epoch
				}
			})
			if err := next.Follows(base); (err == nil) != legal[[2]Phase{from, to}] {
				t.Errorf("from %v to %v: %v", from, to, err)
			}
			other := altered(next, func(r *Record) { r.Since[3] = base.Since[3] + r.Epoch - next.Since[3] })
			if other.Follows(base) == nil {
				t.Errorf("from %v to %v with the fence %d instead of %d", from, to, other.Since[3], next.Since[3])
			}
		}
	}
}

func TestAMoveKeepsItsEnds(t *testing.T) {
	base := moving(t, PhasePlan)
	for name, change := range map[string]func(m *Move, r *Record){
		"another target": func(m *Move, r *Record) {
			for i := range r.Members {
				if id := r.Members[i].ID; id != m.To && !slices.Contains(r.row(3), uint16(i)) {
					m.To = id
					return
				}
			}
			panic("no other target")
		},
		"another slot": func(m *Move, r *Record) { m.Slot, m.From = 0, r.Members[r.row(3)[0]].ID },
	} {
		next := altered(base, func(r *Record) {
			r.Epoch++
			r.Since[3] = r.Epoch
			r.Moves[0].Phase = PhaseDual
			change(&r.Moves[0], r)
		})
		if err := next.Follows(base); err == nil || !strings.Contains(err.Error(), "became") {
			t.Errorf("%s: %v", name, err)
		}
	}
	finished := altered(moving(t, PhaseReadNew), func(r *Record) {
		r.Epoch++
		r.Since[3] = r.Epoch
		r.Moves = nil
		r.table[3*3] = uint16(r.index(outsider(r, 3)))
	})
	if err := finished.Follows(moving(t, PhaseReadNew)); err == nil || !strings.Contains(err.Error(), "ended with other homes") {
		t.Errorf("another slot changed: %v", err)
	}
	atOnce := altered(moving(t, PhaseReadNew), func(r *Record) {
		r.Epoch++
		r.Since[3] = r.Epoch
		r.table[3*3+1] = uint16(r.index(r.Moves[0].To))
		r.Moves = []Move{{Partition: 3, Slot: 2, From: r.Members[r.row(3)[2]].ID, To: outsider(r, 3), Phase: PhasePlan}}
	})
	if err := atOnce.Follows(moving(t, PhaseReadNew)); err == nil || !strings.Contains(err.Error(), "without a finished move") {
		t.Errorf("the end of a move and the next one in one step: %v", err)
	}
}

// A plan, driven slot by slot through all phases and made anew at each step, comes
// to its end in as many moves as it had, by records that each follow the one
// before.
func TestPlanIsReachedByLegalSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := found(t, testMembers(5), 16, 3)
		members := slices.Clone(r.Members)
		if rapid.Bool().Draw(t, "leave") {
			members[rapid.IntRange(0, 4).Draw(t, "who")].State = Leaving
		} else {
			standby, err := r.WithStandby(testMember(9))
			if err != nil {
				t.Fatal(err)
			}
			r = standby
			members = slices.Clone(r.Members)
			members[r.index(testID(9))].State = Active
		}
		plan := planned(t, r, members, 3)
		step := func(change func(r *Record)) {
			next := altered(r, func(r *Record) { r.Epoch++; change(r) })
			if err := next.Follows(r); err != nil {
				t.Fatal(err)
			}
			decoded, err := Decode(next.Encode())
			if err != nil {
				t.Fatal(err)
			}
			r = decoded
		}
		step(func(r *Record) { r.Members = members })
		for left := len(plan.Moves); left > 0; left-- {
			m := rapid.SampledFrom(plan.Moves).Draw(t, "move")
			for phase := PhasePlan; phase <= PhaseReadNew; phase++ {
				step(func(r *Record) {
					r.Moves = []Move{m}
					r.Moves[0].Phase = phase
					if phase > PhasePlan {
						r.Since[m.Partition] = r.Epoch
					}
				})
				plan = planned(t, r, members, 3)
				if len(plan.Moves) != left-1 || plan.Homes(m.Partition)[m.Slot] != m.To {
					t.Fatalf("%d moves left, with one under way the plan has %d more", left, len(plan.Moves))
				}
			}
			step(func(r *Record) {
				r.Moves = nil
				r.table[int(m.Partition)*3+int(m.Slot)] = uint16(r.index(m.To))
				r.Since[m.Partition] = r.Epoch
			})
		}
		checkPlan(t, r, planned(t, r, members, 3))
		if plan := planned(t, r, members, 3); len(plan.Moves) > 0 {
			t.Fatalf("%d moves are left at the end", len(plan.Moves))
		}
	})
}

// One member leaves, the only other one takes over the only slot.
func TestPlanCountsMovesOnTheirWayBackAsUndone(t *testing.T) {
	r := found(t, testMembers(2), 1, 1)
	from, to := r.Homes(0)[0], outsider(r, 0)
	for phase, want := range map[Phase]int{PhasePlan: 0, PhaseDual: 0, PhaseReadNew: 0, PhaseBack: 1} {
		move := Move{From: from, To: to, Phase: phase}
		under := altered(r, func(r *Record) {
			r.Members[r.index(from)].State = Leaving
			r.Moves = []Move{move}
		})
		plan := planned(t, under, under.Members, 1)
		if plan.Homes(0)[0] != to || len(plan.Moves) != want {
			t.Errorf("with a move in %v: planned for %s, %d moves, want %d", phase, plan.Homes(0)[0].Short(), len(plan.Moves), want)
		}
	}
	// Nobody leaves: what moves ends where it goes, what goes back stays.
	for phase, want := range map[Phase]NodeID{PhaseReadNew: to, PhaseBack: from} {
		under := altered(r, func(r *Record) { r.Moves = []Move{{From: from, To: to, Phase: phase}} })
		if plan := planned(t, under, under.Members, 1); plan.Homes(0)[0] != want || len(plan.Moves) != 0 {
			t.Errorf("with a move in %v: planned for %s, %d moves", phase, plan.Homes(0)[0].Short(), len(plan.Moves))
		}
	}
}

// A target that is gone from the members is none: its slot is planned anew.
func TestPlanForgetsMovesToMembersThatAreGone(t *testing.T) {
	base := moving(t, PhaseDual)
	gone := base.Moves[0].To
	rest := slices.DeleteFunc(slices.Clone(base.Members), func(m Member) bool { return m.ID == gone })
	plan := planned(t, base, rest, 3)
	if got := plan.Homes(3)[1]; got != base.Moves[0].From {
		t.Errorf("slot 1 is planned for %s, want its home %s", got.Short(), base.Moves[0].From.Short())
	}
}
