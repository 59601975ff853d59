package ring

import (
	"math/rand"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// leastKept tries all tables of q rows and gives the most homes of before that
// one within the bounds keeps; -1 if there is no such table.
func leastKept(q, n int, gs []group, floor, ceil []int32, before [][]int32) int {
	members := len(floor)
	var choices [][]int32 // all rows that may be
	for set := range 1 << members {
		var row []int32
		for m := range members {
			if set>>m&1 == 1 {
				row = append(row, int32(m))
			}
		}
		ok := len(row) == n
		for _, g := range gs {
			count := 0
			for _, m := range g.members {
				if slices.Contains(row, int32(m)) {
					count++
				}
			}
			ok = ok && count >= g.lo && count <= g.hi
		}
		if ok {
			choices = append(choices, row)
		}
	}
	load := make([]int32, members)
	best := -1
	var try func(p, kept int)
	try = func(p, kept int) {
		if p == q {
			for m := range load {
				if load[m] < floor[m] {
					return
				}
			}
			best = max(best, kept)
			return
		}
		for _, row := range choices {
			same, fits := 0, true
			for _, m := range row {
				load[m]++
				fits = fits && load[m] <= ceil[m]
				if slices.Contains(before[p], m) {
					same++
				}
			}
			if fits {
				try(p+1, kept+same)
			}
			for _, m := range row {
				load[m]--
			}
		}
	}
	try(0, 0)
	return best
}

// Against all tables there are, from any table before, however uneven.
func TestPlanKeepsAsMuchAsAnyTableCould(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 3).Draw(t, "replicas")
		members := drawMembers(t, n, 5, 4, 5)
		q := rapid.IntRange(1, 4).Draw(t, "partitions")
		before := make([][]int32, q)
		for p := range before {
			for m := range members {
				if len(before[p]) < 4 && rapid.Bool().Draw(t, "home") {
					before[p] = append(before[p], int32(m))
				}
			}
		}
		gs := groups(members, n)
		f := newFlow(q, n, gs, fairShares(members, gs, q, n), before)
		want := leastKept(q, n, gs, f.floor, f.ceil, before)
		f.solve()
		kept := 0
		for p := range f.rows {
			for _, m := range f.rows[p] {
				if slices.Contains(before[p], m) {
					kept++
				}
			}
		}
		if kept != want {
			t.Fatalf("kept %d homes of %v, %d were possible: %v", kept, before, want, f.rows)
		}
	})
}

// demanded is how many slots must change for the loads alone: a table that
// changes fewer has somebody above or below the share.
func demanded(r *Record, members []Member, replicas int) int {
	shares := fairShares(members, groups(members, replicas), r.Partitions, replicas)
	missing, staying := 0, 0
	for i, m := range members {
		load := r.HomeCount(m.ID)
		missing += max(0, shares[i].floor()-load)
		staying += min(load, shares[i].ceil())
	}
	return max(missing, r.Partitions*replicas-staying)
}

// life lets members join and leave a cluster, one at a time, and gives each
// plan to check, with the member that came or went.
func life(t testing.TB, seed int64, q, replicas, least, most, weightMax, steps int, check func(r, next *Record, plan *Plan, who Member, joined bool)) {
	chance := rand.New(rand.NewSource(seed))
	var members []Member
	added := 0
	add := func() Member {
		m := testMember(added)
		m.State, m.Weight = Active, uint16(1+chance.Intn(weightMax))
		added++
		members = append(members, m)
		chance.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		return m
	}
	for range least + chance.Intn(most-least) {
		add()
	}
	r := settled(blank(q), planned(t, blank(q), members, replicas))
	for range steps {
		var who Member
		joined := len(members) <= least || len(members) < most && chance.Intn(2) == 0
		if joined {
			who = add()
		} else {
			i := chance.Intn(len(members))
			who = members[i]
			members = slices.Delete(slices.Clone(members), i, i+1)
		}
		plan := planned(t, r, members, replicas)
		next := settled(r, plan)
		check(r, next, plan, who, joined)
		r = next
	}
}

// lives is how many lives a property is checked over.
func lives() int {
	if os.Getenv("KITH_LONG") != "" {
		return 50
	}
	return 1
}

func TestJoinOfAnEqualMemberMovesItsShareAndLeaveItsSlots(t *testing.T) {
	for _, c := range []struct{ q, replicas, most int }{
		{8, 3, 8}, {64, 2, 20}, {256, 3, 30}, {1024, 3, 12}, {256, 5, 40}, {1024, 3, 200},
	} {
		for seed := range lives() {
			life(t, int64(seed), c.q, c.replicas, c.replicas, c.most, 1, stepsOfALife, func(r, next *Record, plan *Plan, who Member, joined bool) {
				got := changes(r, plan)
				if len(plan.Moves) != got {
					t.Fatalf("%+v seed %d: %d moves for %d changes", c, seed, len(plan.Moves), got)
				}
				if joined {
					after := len(plan.Members)
					if most := (c.q*c.replicas + after - 1) / after; got > most || got != next.HomeCount(who.ID) {
						t.Fatalf("%+v seed %d: join as member %d moves %d slots, holds %d, at most %d", c, seed, after, got, next.HomeCount(who.ID), most)
					}
				} else if want := r.HomeCount(who.ID); got != want {
					t.Fatalf("%+v seed %d: a leave moves %d slots, the leaver held %d", c, seed, got, want)
				}
			})
		}
	}
}

func TestWeightedPlanMovesNoMoreThanLoadsDemand(t *testing.T) {
	for _, c := range []struct{ q, replicas, least, most, weight int }{
		{256, 3, 12, 40, 3}, {1024, 3, 20, 60, 5}, {1024, 3, 150, 200, 4},
	} {
		for seed := range lives() {
			life(t, int64(seed), c.q, c.replicas, c.least, c.most, c.weight, stepsOfALife, func(r, next *Record, plan *Plan, who Member, joined bool) {
				if got, want := changes(r, plan), demanded(r, plan.Members, c.replicas); got != want {
					t.Errorf("%+v seed %d: moves %d slots, the loads demand %d (joined %v)", c, seed, got, want, joined)
				}
				if own := max(next.HomeCount(who.ID), r.HomeCount(who.ID)); len(plan.Moves) > own+len(plan.Members) {
					t.Errorf("%+v seed %d: moves %d slots for a member with %d", c, seed, len(plan.Moves), own)
				}
			})
		}
	}
}
