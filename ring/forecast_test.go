package ring

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What is forecast is what happens: in the number of slots that change hands on the
// way, and, but for who gets an odd slot, in the loads at the end.
func TestForecastIsWhatHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		replicas := rapid.IntRange(1, 3).Draw(t, "replicas")
		r := found(t, drawMembers(t, replicas+1, replicas+5, 3, 3), 16, replicas)
		_, next, err := drawChange(t, r, 1000)
		if err != nil {
			return
		}
		f, err := next.Forecast()
		if err != nil {
			t.Fatal(err)
		}
		if f.Slots < f.Least {
			t.Fatalf("%d slots move, at least %d must", f.Slots, f.Least)
		}
		moved := 0
		end := driven(t, next, Pace{}, func(prev, next *Record) {
			moved += newHomes(prev, next)
		})
		if moved != f.Slots {
			t.Fatalf("%d slots changed hands, %d were forecast", moved, f.Slots)
		}
		balance := end.Balance()
		for i, m := range f.Members {
			odd := m.Then - end.HomeCount(m.Member.ID) // the odd slot may go to another one
			if odd < -1 || odd > 1 || m.Now-m.Out+m.In != m.Then || m.Share != balance[i].Share {
				t.Fatalf("forecast %+v, it has %d slots and a share of %v", m, end.HomeCount(m.Member.ID), balance[i].Share)
			}
		}
	})
}

// The bounds of movement hold for whole changes, from the wish to the last move,
// also of 200 members.
func TestChangesMoveNoMoreThanTheyMust(t *testing.T) {
	for _, n := range []int{5, 30, 199} {
		r := found(t, testMembers(n), 1024, 3)
		slots := r.Partitions * r.Replicas
		who := r.Members[n/2].ID
		for name, c := range map[string]struct {
			next *Record
			most int
		}{
			"join":      {must(t)(r.WithJoin(testMember(5000))), (slots + n) / (n + 1)},
			"leave":     {must(t)(r.WithLeave(who)), r.HomeCount(who)},
			"removal":   {must(t)(r.WithRemoval(who)), r.HomeCount(who)},
			"successor": {must(t)(r.WithSuccessor(who, testMember(5000))), r.HomeCount(who)},
			"weight":    {must(t)(r.WithWeight(who, 2)), 2*slots/(n+1) - slots/n + 2},
		} {
			f, err := c.next.Forecast()
			if err != nil {
				t.Fatal(err)
			}
			if f.Slots > c.most || f.Slots < f.Least || f.Slots != len(c.next.Moves) {
				t.Errorf("%s among %d members: %d slots move, %d at once in the queue, at least %d must, at most %d may",
					name, n, f.Slots, len(c.next.Moves), f.Least, c.most)
			}
		}
	}
}

func TestForecastNeedsEnoughActiveMembers(t *testing.T) {
	r := altered(found(t, testMembers(3), 8, 3), func(r *Record) { r.Members[0].State = Leaving })
	if _, err := r.Forecast(); err == nil {
		t.Error("two active members are forecast to hold three homes")
	}
}

func TestChangesAreSaidInWords(t *testing.T) {
	members := testMembers(3)
	for i := range members {
		members[i].Name = []string{"a", "b", "c"}[i]
	}
	label := func(m Member) string { return m.Name + " " + m.ID.Short() }
	first, err := Found(testCluster, "kith", members[0], 4, 2)
	if err != nil {
		t.Fatal(err)
	}
	founded := must(t)(first.WithTable(members))
	d := Member{ID: testID(9), Name: "d", Zone: "west", Weight: 1}
	joined := must(t)(founded.WithJoin(d))
	p, from := joined.Moves[0].Partition, *joined.Member(joined.Moves[0].From)
	step := func(r *Record, s Step) *Record { return must(t)(r.WithSteps([]StepTo{{p, s}})) }
	dual := step(joined, StepDual)
	reading := step(dual, StepReadNew)
	back := step(reading, StepBack)
	alone := must(t)(founded.WithStandby(d))
	weighed := must(t)(founded.WithWeight(members[1].ID, 1000))
	lost := must(t)(founded.WithLost(members[1].ID))
	ends := "from " + label(from) + " to " + label(d)
	for _, c := range []struct {
		prev, next *Record
		want       string
	}{
		{first, founded, "the cluster is founded: 3 members, 4 partitions with 2 homes each"},
		{founded, joined, label(d) + ` is a new member, active, in zone "west"`},
		{founded, joined, "moves queued " + ends + ": "},
		{joined, dual, "moves now dual " + ends + ": partition "},
		{dual, reading, "moves now read-new " + ends},
		{reading, back, "moves now back " + ends},
		{reading, step(reading, StepDone), "moves done " + ends},
		{back, step(back, StepAbort), "moves aborted " + ends},
		{joined, step(joined, StepAbort), "moves taken out of the queue " + ends},
		{alone, must(t)(alone.WithoutMember(d.ID)), label(d) + " is no member any more"},
		{founded, weighed, label(members[1]) + " had weight 1 and has 1000"},
		{founded, lost, label(members[1]) + " was active and is lost"},
		{lost, must(t)(lost.WithReplacement(members[1].ID, d)), "slots handed over from " + label(members[1]) + " to " + label(d)},
		{founded, must(t)(founded.WithRemoval(members[1].ID)), "keepers are "},
		{founded, altered(founded, func(r *Record) { r.Members[0].Zone = "east" }), `was in zone "" and is in "east"`},
		{founded, altered(founded, func(r *Record) { r.Members[0].Name = "z" }), `was called "`},
	} {
		lines := c.next.Changes(c.prev)
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, c.want) }) {
			t.Errorf("%q is not among %q", c.want, lines)
		}
	}
	if lines := joined.Changes(joined); lines != nil {
		t.Errorf("nothing has changed: %q", lines)
	}
}

func TestManyPartitionsAreCountedNotListed(t *testing.T) {
	r := found(t, testMembers(4), 256, 3)
	for _, line := range must(t)(r.WithLeave(r.Members[0].ID)).Changes(r) {
		if len(line) > 200 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}
