package ring

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// course leads the move of slot 1 of partition 3 to a phase, through its steps.
func course(t rapid.TB, zones []string, phase Phase) (*Record, *Move) {
	members := testMembers(len(zones))
	for i := range members {
		members[i].Zone = zones[i]
	}
	r := must(t)(found(t, members[:len(zones)-1], 8, 3).WithStandby(members[len(zones)-1]))
	r = must(t)(r.WithJoin(members[len(zones)-1]))
	var queued []StepTo
	for i := range r.Moves {
		queued = append(queued, StepTo{r.Moves[i].Partition, StepAbort})
	}
	if len(queued) > 0 {
		r = must(t)(r.WithSteps(queued))
	}
	r = must(t)(r.WithMoves([]Move{{Partition: 3, Slot: 1, To: outsider(r, 3)}}))
	for _, s := range map[Phase][]Step{PhaseDual: {StepDual}, PhaseReadNew: {StepDual, StepReadNew}, PhaseBack: {StepDual, StepReadNew, StepBack}}[phase] {
		r = must(t)(r.WithSteps([]StepTo{{3, s}}))
	}
	return r, r.MoveOf(3)
}

func condition(t rapid.TB, r *Record, s Step) Condition {
	c, err := r.Condition(3, s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var oneZone = []string{"", "", "", ""}

func TestEachStepAsksForWhatItNeeds(t *testing.T) {
	for _, c := range []struct {
		phase Phase
		step  Step
		by    string // the end that must have pulled
	}{
		{PhasePlan, StepDual, ""}, {PhasePlan, StepAbort, ""}, {PhaseDual, StepAbort, ""}, {PhaseReadNew, StepBack, ""},
		{PhaseDual, StepReadNew, "to"}, {PhaseReadNew, StepDone, "to"}, {PhaseBack, StepAbort, "from"},
	} {
		r, m := course(t, oneZone, c.phase)
		cond := condition(t, r, c.step)
		if c.by == "" {
			if !cond.Met(Pulled{}) || len(cond.Sources(Pulled{})) > 0 || cond.String() != "nothing" {
				t.Errorf("%v of a move in %v asks for %v", c.step, c.phase, &cond)
			}
			continue
		}
		by, before := m.To, m.From
		if c.by == "from" {
			by, before = m.From, m.To
		}
		var others []NodeID
		for s, id := range r.Homes(3) {
			if s != 1 {
				others = append(others, id)
			}
		}
		for name, known := range map[string]struct {
			Pulled
			met bool
		}{
			"nothing":               {Pulled{By: by, Since: r.Since[3]}, false},
			"the one before":        {Pulled{by, r.Since[3], []NodeID{before}}, true},
			"one other":             {Pulled{by, r.Since[3], others[:1]}, false},
			"both others":           {Pulled{by, r.Since[3], others}, true},
			"an older epoch":        {Pulled{by, r.Since[3] - 1, append(others, before)}, false},
			"somebody else's pulls": {Pulled{others[0], r.Since[3], append(others, before)}, false},
		} {
			if cond.Met(known.Pulled) != known.met {
				t.Errorf("%v of a move in %v, with %s: met is %v", c.step, c.phase, name, !known.met)
			}
			if helps := len(cond.Sources(known.Pulled)) > 0; helps == known.met {
				t.Errorf("%v of a move in %v, with %s: more help is %v", c.step, c.phase, name, helps)
			}
		}
	}
}

func TestStepsOutOfOrderHaveNoCondition(t *testing.T) {
	r, _ := course(t, oneZone, PhaseReadNew)
	for p, want := range map[Partition]string{3: "it cannot become abort", 4: "no move is under way"} {
		if _, err := r.Condition(p, StepAbort); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A lost source is not pulled from, and those that are gone with it are not waited
// for; one that lives is, however many others are gone.
func TestLostMembersAreNoSources(t *testing.T) {
	r, m := course(t, []string{"", "", "", "", ""}, PhaseDual)
	var others []NodeID
	for s, id := range r.Homes(3) {
		if s != 1 {
			others = append(others, id)
		}
	}
	known := func(r *Record, from ...NodeID) Pulled { return Pulled{m.To, r.Since[3], from} }
	dead := must(t)(r.WithLost(m.From))
	if c := condition(t, dead, StepReadNew); c.Met(known(dead, m.From)) || c.Met(known(dead, others[0])) || !c.Met(known(dead, others...)) {
		t.Errorf("of a lost source: %v", &c)
	}
	twice := must(t)(dead.WithLost(others[0]))
	if c := condition(t, twice, StepReadNew); !c.Met(known(twice, others[1])) || c.Met(known(twice, others[0])) {
		t.Errorf("of two that are lost: %v", &c)
	}
	other := must(t)(r.WithLost(others[0]))
	if c := condition(t, other, StepReadNew); c.Met(known(other, others...)) || !c.Met(known(other, m.From)) {
		t.Errorf("of a source that lives: %v", &c)
	}
	back, m := course(t, oneZone, PhaseBack)
	back = must(t)(back.WithLost(m.From))
	if c := condition(t, back, StepAbort); !c.By.IsZero() || !c.Met(Pulled{By: m.To, Since: back.Since[3], From: []NodeID{m.To}}) || back.Driver(3) != m.To {
		t.Errorf("on its way back to a lost home: %v", &c)
	}
}

func TestNobodyAnswersBeforeItHasPulled(t *testing.T) {
	for _, phase := range []Phase{0, PhasePlan, PhaseDual, PhaseReadNew, PhaseBack} {
		r, m := course(t, oneZone, max(phase, PhasePlan))
		from, to := m.From, m.To
		if phase == 0 {
			r = must(t)(r.WithSteps([]StepTo{{3, StepAbort}}))
		}
		reader, before := from, to
		if phase == PhaseReadNew {
			reader, before = to, from
		}
		full := Pulled{reader, r.Since[3], []NodeID{before}}
		for s, id := range r.Homes(3) {
			if s != 1 && !r.Answers(3, id, Pulled{}) {
				t.Errorf("%v: a home of another slot does not answer", phase)
			}
		}
		if r.Answers(3, before, full) {
			t.Errorf("%v: both ends answer", phase)
		}
		if waits := phase > PhaseDual; r.Answers(3, reader, Pulled{}) == waits || !r.Answers(3, reader, full) {
			t.Errorf("%v: it answers with nothing pulled: %v, with all: %v", phase, r.Answers(3, reader, Pulled{}), r.Answers(3, reader, full))
		}
		late := full
		late.Since--
		if phase > PhaseDual && r.Answers(3, reader, late) {
			t.Errorf("%v: what was pulled in the phase before counts", phase)
		}
	}
}

// Whoever keeps a partition through a change keeps its data, and nobody else: against
// the records on the way, which a member may never have seen.
func TestDataIsDroppedExactlyWithItsTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, _ := course(t, []string{"", "", "", "", "", ""}, PhasePlan)
		history := []*Record{r}
		for range rapid.IntRange(1, 12).Draw(t, "records") {
			r = drawMoveRecord(t, r)
			history = append(history, r)
		}
		for _, m := range r.Members {
			// time is which time of the member's holding the partition it is in:
			// it begins with a DUAL and ends when it holds it no more.
			time, times := 0, make([]int, len(history))
			for i, h := range history {
				if began := i > 0 && h.Holds(3, m.ID) && !history[i-1].Holds(3, m.ID); began {
					time++
				}
				if h.Holds(3, m.ID) {
					times[i] = time + 1
				}
			}
			for i := range history {
				for j := i; j < len(history); j++ {
					move := history[j].MoveOf(3)
					begins := move != nil && move.To == m.ID && move.Phase == PhaseDual
					if times[i] > 0 && times[j] > 0 && times[i] != times[j] && !begins {
						continue // it cannot come so far without having adopted its DUAL
					}
					if drops := history[j].Drops(history[i], 3, m.ID); drops != (times[i] > 0 && times[i] != times[j]) {
						t.Fatalf("%s from record %d to %d, times %v: drops %v", m.Name, i, j, times, drops)
					}
				}
			}
		}
	})
}

// drawMoveRecord draws the next record about partition 3, by steps that follow.
func drawMoveRecord(t *rapid.T, r *Record) *Record {
	m := r.MoveOf(3)
	if m == nil {
		slot := rapid.IntRange(0, 2).Draw(t, "slot")
		var free []NodeID
		for _, x := range r.Members {
			if x.State == Active && r.HomeIndex(3, x.ID) < 0 {
				free = append(free, x.ID)
			}
		}
		return must(t)(r.WithMoves([]Move{{Partition: 3, Slot: uint8(slot), To: rapid.SampledFrom(free).Draw(t, "to")}}))
	}
	steps := map[Phase][]Step{
		PhasePlan: {StepDual, StepDual, StepAbort}, PhaseDual: {StepReadNew, StepReadNew, StepAbort},
		PhaseReadNew: {StepDone, StepBack}, PhaseBack: {StepAbort},
	}[m.Phase]
	return must(t)(r.WithSteps([]StepTo{{3, rapid.SampledFrom(steps).Draw(t, "step")}}))
}

func TestOnlyHomesMintAndTargetsHold(t *testing.T) {
	for _, phase := range []Phase{PhasePlan, PhaseDual, PhaseReadNew, PhaseBack} {
		r, m := course(t, oneZone, phase)
		if r.Mints(3, m.To) || !r.Mints(3, m.From) || !r.Holds(3, m.From) || r.Holds(3, m.To) != (phase > PhasePlan) {
			t.Errorf("%v: the target mints %v and holds %v", phase, r.Mints(3, m.To), r.Holds(3, m.To))
		}
		if want := map[bool]NodeID{true: m.From, false: m.To}[phase == PhaseBack]; r.Driver(3) != want || !r.Driver(4).IsZero() {
			t.Errorf("%v: %s drives it", phase, r.Driver(3).Short())
		}
	}
}

func TestZonesAskForSourcesOfTheirOwn(t *testing.T) {
	for _, c := range []struct {
		zones []string // of the homes of slots 1, 0, 2 and of the target
		want  string   // how many besides the home before, and of how many
	}{
		{[]string{"a", "a", "a", "a"}, ""}, {[]string{"a", "b", "c", "a"}, ""},
		{[]string{"a", "b", "c", "b"}, "1 of 1"}, {[]string{"a", "b", "b", "b"}, "1 of 2"},
		{[]string{"a", "b", "c", "d"}, ""}, {[]string{"a", "a", "a", "d"}, "2 of 3"}, {[]string{"a", "a", "b", "d"}, "1 of 2"},
	} {
		r, m := course(t, oneZone, PhaseDual)
		zone := map[NodeID]string{m.From: c.zones[0], r.Homes(3)[0]: c.zones[1], r.Homes(3)[2]: c.zones[2], m.To: c.zones[3]}
		r = altered(r, func(r *Record) {
			for i := range r.Members {
				r.Members[i].Zone = zone[r.Members[i].ID]
			}
		})
		cond := condition(t, r, StepReadNew)
		got, direct := "", cond.Any[0]
		if !slices.Equal(direct[0].Of, []NodeID{m.From}) {
			t.Fatalf("%q: %v", c.zones, &cond)
		}
		if len(direct) > 1 {
			got = strings.Join(strings.Fields((&Condition{Any: [][]Quota{direct[1:]}}).String())[:2], " ")
			got += " " + string(rune('0'+len(direct[1].Of)))
		}
		if got != c.want {
			t.Errorf("%q: besides the home before, %q, want %q", c.zones, got, c.want)
		}
	}
}
