package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// testRing is a founded ring of members a, b, c and so on, one for each zone that is
// given.
func testRing(t *testing.T, partitions, replicas int, zones ...string) *ring.Record {
	t.Helper()
	var members []ring.Member
	for i, zone := range zones {
		members = append(members, ring.Member{ID: ring.NodeID{byte(i + 1)}, Name: string(rune('a' + i)), Zone: zone})
	}
	r, err := ring.Found(ring.ClusterID{9}, "test", members[0], partitions, replicas)
	if err == nil {
		r, err = r.WithTable(members)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// then is a change of a record that must be possible.
func then(t *testing.T) func(*ring.Record, error) *ring.Record {
	return func(r *ring.Record, err error) *ring.Record {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

// moved takes all moves of a record to their end.
func moved(t *testing.T, r *ring.Record) *ring.Record {
	t.Helper()
	for len(r.Moves) > 0 {
		for _, step := range []ring.Step{ring.StepDual, ring.StepReadNew, ring.StepDone} {
			var steps []ring.StepTo
			for _, m := range r.Moves {
				steps = append(steps, ring.StepTo{Partition: m.Partition, Step: step})
			}
			r = then(t)(r.WithSteps(steps))
		}
		r = then(t)(r.WithQueue())
	}
	return r
}

func TestMembersAreFoundAsPeopleCallThem(t *testing.T) {
	r := testRing(t, 8, 1, "", "", "")
	r = then(t)(r.WithStandby(ring.Member{ID: ring.NodeID{1, 2, 3, 4, 5}, Name: "b"}))
	for _, tc := range []struct {
		text string
		want byte // first of the ID; 0 is nobody
	}{
		{"a", 1}, {"c", 3}, {"03000000", 3}, {ring.NodeID{2}.String(), 2}, {"01020304", 1}, {"0300000", 0}, {"d", 0},
	} {
		m, err := memberOf(r, tc.text)
		switch {
		case err != nil:
			t.Errorf("%q: %v", tc.text, err)
		case tc.want == 0 && m != nil || tc.want != 0 && (m == nil || m.ID[0] != tc.want):
			t.Errorf("%q is %v, want the member of %d", tc.text, m, tc.want)
		}
	}
	var usage *usageError
	if _, err := memberOf(r, "b"); !errors.As(err, &usage) || !strings.Contains(err.Error(), "01020304") || !strings.Contains(err.Error(), "02000000") {
		t.Errorf("two members have the name, and it says: %v", err)
	}
}

func TestCompletionOffersWhoFits(t *testing.T) {
	r := testRing(t, 8, 1, "", "", "")
	r = then(t)(r.WithStandby(ring.Member{ID: ring.NodeID{7}, Name: "b"}))
	if got := strings.Join(namesThat(r, inState(ring.Standby), ""), "|"); got != "07000000\tstandby, 0 slots" {
		t.Errorf("on standby: %q", got)
	}
	if got := strings.Join(namesThat(r, anyMember, "a"), "|"); !strings.HasPrefix(got, "a\tactive, ") || strings.Contains(got, "|") {
		t.Errorf("beginning with a: %q", got)
	}
}

// What is waited for ends when all is where it should be, and not before; what
// somebody else takes back is an error and no endless wait.
func TestWaitsForChangesEnd(t *testing.T) {
	r := testRing(t, 16, 2, "", "", "", "")
	name := func(m byte) string { return ring.NodeID{m}.String() }
	d := ring.Member{ID: ring.NodeID{8}, Name: "d8"}
	standby := then(t)(r.WithStandby(d))
	joins := then(t)(standby.WithJoin(d))
	leaves := then(t)(r.WithLeave(ring.NodeID{2}))
	gone := then(t)(moved(t, leaves).WithoutMember(ring.NodeID{2}))
	replaced := then(t)(standby.WithSuccessor(ring.NodeID{2}, d))
	removed := then(t)(r.WithRemoval(ring.NodeID{2}))
	heavier := then(t)(r.WithWeight(ring.NodeID{1}, 3))
	for _, tc := range []struct {
		verb   client.RingVerb
		member byte
		with   byte
		weight int
		before *ring.Record
		now    *ring.Record
		over   bool
		undone bool
	}{
		{verb: client.RingJoin, member: 8, before: standby, now: joins},
		{verb: client.RingJoin, member: 8, before: standby, now: moved(t, joins), over: true},
		{verb: client.RingJoin, member: 8, before: standby, now: standby, undone: true},
		{verb: client.RingLeave, member: 2, before: r, now: leaves},
		{verb: client.RingLeave, member: 2, before: r, now: moved(t, leaves)},
		{verb: client.RingLeave, member: 2, before: r, now: gone, over: true},
		{verb: client.RingLeave, member: 2, before: r, now: r, undone: true},
		{verb: client.RingReplace, member: 2, with: 8, before: standby, now: replaced},
		{verb: client.RingReplace, member: 2, with: 8, before: standby, now: then(t)(moved(t, replaced).WithoutMember(ring.NodeID{2})), over: true},
		{verb: client.RingReplace, member: 2, with: 8, before: standby, now: standby, undone: true},
		{verb: client.RingReplace, member: 2, with: 8, before: standby, now: leaves, undone: true},
		{verb: client.RingRemove, member: 2, before: r, now: removed},
		{verb: client.RingRemove, member: 2, before: r, now: then(t)(moved(t, removed).WithoutMember(ring.NodeID{2})), over: true},
		{verb: client.RingWeight, member: 1, weight: 3, before: r, now: heavier},
		{verb: client.RingWeight, member: 1, weight: 3, before: r, now: moved(t, heavier), over: true},
		{verb: client.RingWeight, member: 1, weight: 3, before: r, now: r, undone: true},
	} {
		req := &client.RingRequest{Verb: tc.verb, Member: name(tc.member), Number: tc.weight}
		if tc.with > 0 {
			req.With = name(tc.with)
		}
		over, err := (&change{verb: tc.verb}).ended(tc.before, tc.now, req)
		var broken *exitError
		if over != tc.over || (err != nil) != tc.undone || tc.undone && (!errors.As(err, &broken) || broken.status != exitBroken) {
			t.Errorf("%v of %d, of what is now %v: over %v, %v", tc.verb, tc.member, tc.now.Changes(tc.before), over, err)
		}
	}
}

func TestProgressOfMovesCountsWhatIsLeft(t *testing.T) {
	moves := &client.RingMoves{Queued: 30, Running: 2, Bytes: 3 << 20, Rate: 1 << 20, Seconds: 12, Moves: []client.RingMove{{}, {Waits: "n3 is away"}, {Waits: "x"}}}
	want := "40 slots to move, 2 under way, 3.0 MiB moved at 1.0 MiB/s, about 12.00s left, 2 wait: n3 is away"
	if got := movesLine(moves, 40); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := movesLine(moves, -1); !strings.HasPrefix(got, "32 slots to move") {
		t.Errorf("what is left is not known, and it says %q", got)
	}
	// What is in the queue waits for its turn; what else it is that holds moves up says more.
	turn := client.RingMove{Waits: "waits for its turn"}
	moves.Moves = []client.RingMove{turn, {Waits: "n3 is away"}, turn}
	if got := movesLine(moves, 40); !strings.HasSuffix(got, ", 3 wait: n3 is away") {
		t.Errorf("it does not say what holds moves up: %q", got)
	}
	moves.Moves = []client.RingMove{turn}
	if got := movesLine(moves, 40); !strings.HasSuffix(got, ", 1 wait: for its turn") {
		t.Errorf("one waits for its turn, and it says %q", got)
	}
	m := &moving{left: 10, most: 40, moves: moves}
	if _, done := m.line(); done != 0.75 {
		t.Errorf("%v done, want 0.75", done)
	}
	if text, done := (&moving{left: -1}).line(); done >= 0 || text == "" {
		t.Errorf("nobody has answered, and progress is %q, %v", text, done)
	}
}

// A failed disk gives every move a reason of its own: a few are shown, and how many
// more there are.
func TestMovesShowFewOfManyReasons(t *testing.T) {
	r := testRing(t, 8, 1, "", "")
	moves := &client.RingMoves{Queued: 5}
	for i := range 5 {
		moves.Moves = append(moves.Moves, client.RingMove{Partition: ring.Partition(i), Phase: ring.PhasePlan.String(), Waits: fmt.Sprint("no room for ", i)})
	}
	for all, want := range map[bool]int{false: 3, true: 5} {
		var out bytes.Buffer
		a := &app{out: &out, errs: &out, format: formatTable}
		if err := a.printMoves(&movesFlags{all: all}, r, moves); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(out.String(), " waits: no room for "); got != want || strings.Contains(out.String(), "for 2 more reasons") == all {
			t.Errorf("all %v: %d reasons\n%s", all, got, &out)
		}
	}
}

func TestBoundsHoldOfEveryPlanAndNotOfWhatIsUnderWay(t *testing.T) {
	r := testRing(t, 32, 3, "x", "x", "y", "y", "z")
	check := func(what string, r *ring.Record, settled bool) {
		t.Helper()
		b := boundsOf(r)
		if !b.Distinct || b.Balanced != settled || (b.Slots == 0) != settled || (b.JoinSlots > 0) != settled || settled && (b.ZonesUneven > 0 || b.FarthestSlots >= 1) {
			t.Errorf("%s: %+v", what, b)
		}
	}
	check("founded", r, true)
	joined := then(t)(r.WithJoin(ring.Member{ID: ring.NodeID{9}, Name: "j", Zone: "z"}))
	check("a join is queued", joined, false)
	check("a join is done", moved(t, joined), true)
	check("a removal is queued", then(t)(r.WithRemoval(ring.NodeID{3})), false)
	same := boundsOf(testRing(t, 64, 2, "", "", ""))
	if same.JoinSlots != same.JoinBound || same.JoinBound != 32 {
		t.Errorf("a fourth equal member would get %d slots, the bound is %d, want a quarter of 128", same.JoinSlots, same.JoinBound)
	}
	if b := boundsOf(r); b.JoinBound != 0 {
		t.Errorf("zones bind, and a bound of %d is told", b.JoinBound)
	}
}

func TestZonesAreUnevenWhereHomesCouldBeFartherApart(t *testing.T) {
	s := zoneSpread(testRing(t, 8, 3, "x", "x", "x", "y", "z"))
	for _, tc := range []struct {
		homes map[string]int
		even  bool
	}{
		{map[string]int{"x": 1, "y": 1, "z": 1}, true},
		{map[string]int{"x": 2, "y": 1}, false},
		{map[string]int{"x": 3}, false},
	} {
		if s.even(tc.homes) != tc.even {
			t.Errorf("%v: even %v", tc.homes, !tc.even)
		}
	}
	s = zoneSpread(testRing(t, 8, 3, "x", "x", "y")) // the second home of x is needed
	if !s.even(map[string]int{"x": 2, "y": 1}) || s.even(map[string]int{"x": 3}) {
		t.Errorf("three homes in two zones: %+v", s)
	}
}

func TestPlansTellHowFarWhoIsFromTheQuota(t *testing.T) {
	plan := &client.RingPlan{Epoch: 7, Slots: 3, Least: 2, Bytes: 2048, Seconds: 90}
	plan.Members = append(plan.Members, planned(10, 7, 7.5), planned(0, 3, 2.5))
	var out, errs bytes.Buffer
	a := &app{out: &out, errs: &errs, format: formatTable}
	if err := a.printPlan(&client.RingRequest{Verb: client.RingJoin}, plan); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"3 slots change hands, the least for these quotas is 2; 2.0 KiB to move, for about 90.00s", "farthest from its quota: 2.5 slots now, 0.5 then"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &out)
		}
	}
	if errs.String() != "nothing was changed\n" {
		t.Errorf("behind the plan: %q", &errs)
	}
}

// What will happen is said with its size, and how to look at it.
func TestChangesSayWhatFollows(t *testing.T) {
	r := testRing(t, 8, 1, "", "", "")
	plan := &client.RingPlan{Slots: 3, Bytes: 4096, Seconds: 2}
	for i := range changes {
		ch := &changes[i]
		text := ch.follows(r, &client.RingRequest{Verb: ch.verb, Member: ring.NodeID{1}.String(), With: ring.NodeID{2}.String(), Number: 2}, plan, false)
		for _, want := range []string{"3 slots move, 4.0 KiB, about 2.00s", "kith ring moves --watch"} {
			if !strings.Contains(text, want) {
				t.Errorf("%v does not say %q: %s", ch.verb, want, text)
			}
		}
		if back := ch.verb != client.RingRemove && ch.verb != client.RingWeight; strings.Contains(text, "kith ring abort") != back {
			t.Errorf("%v can be taken back: %v, and it says: %s", ch.verb, back, text)
		}
	}
}

// Who has the only copy of something is not given up, dead or not; others may be.
func TestTheOnlyCopyIsNotGivenUp(t *testing.T) {
	one, two := testRing(t, 8, 1, "", ""), testRing(t, 8, 2, "", "", "")
	lost := then(t)(two.WithLost(ring.NodeID{1}))
	for _, tc := range []struct {
		what  string
		r     *ring.Record
		alive bool
		verb  client.RingVerb
		only  bool
	}{
		{"one copy of each", one, false, client.RingRemove, true},
		{"one copy of each, and a node has not noticed yet", one, true, client.RingRemove, true},
		{"one copy of each", one, false, client.RingReplace, true},
		{"it is there and moves by itself", one, true, client.RingReplace, false},
		{"it leaves by itself", one, false, client.RingLeave, false},
		{"two copies of each", two, false, client.RingRemove, false},
		{"the other copies are lost", lost, false, client.RingRemove, true},
	} {
		view := client.RingView{Record: tc.r}
		view.Members = append(view.Members, api.MemberAddress{ID: ring.NodeID{2}, Alive: tc.alive})
		err := (&change{verb: tc.verb}).spares(view, &client.RingRequest{Verb: tc.verb, Member: "b"})
		var refused *exitError
		if (err != nil) != tc.only || err != nil && (!errors.As(err, &refused) || refused.status != exitRefused) {
			t.Errorf("%v where %s: %v", tc.verb, tc.what, err)
		}
	}
}
