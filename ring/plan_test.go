package ring

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// manyMembers is how large random memberships become.
func manyMembers() int {
	if os.Getenv("KITH_LONG") != "" {
		return 200
	}
	return 40
}

// drawMembers draws active members of some zones and weights.
func drawMembers(t *rapid.T, least, most, zones, weightMax int) []Member {
	n := rapid.IntRange(least, most).Draw(t, "members")
	zones = rapid.IntRange(1, min(zones, n)).Draw(t, "zones")
	members := make([]Member, n)
	for i := range members {
		members[i] = drawMember(t, i, zones, weightMax)
	}
	return members
}

func drawMember(t *rapid.T, i, zones, weightMax int) Member {
	m := testMember(i)
	m.State = Active
	m.Zone = fmt.Sprintf("z%d", rapid.IntRange(0, zones-1).Draw(t, "zone"))
	m.Weight = uint16(rapid.IntRange(1, weightMax).Draw(t, "weight"))
	return m
}

// settled is the record that stands when all moves of a plan are done. It is no
// successor; Follows has its own tests.
func settled(r *Record, plan *Plan) *Record {
	next := r.successor()
	next.Members = slices.Clone(plan.Members)
	next.Replicas = plan.Replicas
	next.Keepers = chooseKeepers(next.Members, nil)
	next.Moves = nil
	next.table = slices.Clone(plan.table)
	next.seal()
	return next
}

func planned(t rapid.TB, r *Record, members []Member, replicas int) *Plan {
	t.Helper()
	plan, err := r.Plan(members, replicas)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// blank is a record without a table.
func blank(partitions int) *Record {
	r, err := Found(testCluster, "kith", testMember(0), partitions, 1)
	if err != nil {
		panic(err)
	}
	return r
}

// checkPlan checks the bounds that every plan keeps.
func checkPlan(t rapid.TB, r *Record, plan *Plan) {
	t.Helper()
	next := settled(r, plan)
	if err := next.Validate(); err != nil {
		t.Fatal(err)
	}
	zoneSize := map[string]int{}
	for _, m := range plan.Members {
		if m.State == Active {
			zoneSize[m.Zone]++
		} else if next.HomeCount(m.ID) > 0 {
			t.Fatalf("%v member has homes", m.State)
		}
	}
	level := 1
	for sum := 0; ; level++ {
		for _, size := range zoneSize {
			sum += min(size, level)
		}
		if sum >= plan.Replicas {
			break
		}
		sum = 0
	}
	for p := range r.Partitions {
		count := map[string]int{}
		for _, id := range next.Homes(Partition(p)) {
			count[next.Member(id).Zone]++
		}
		for zone, size := range zoneSize {
			if n := count[zone]; n > level || n < min(size, level-1) {
				t.Fatalf("partition %d has %d homes in zone %q of %d members, level %d", p, n, zone, size, level)
			}
		}
	}
	shares := exactShares(plan.Members, r.Partitions, plan.Replicas)
	for i, m := range plan.Members {
		if load := float64(next.HomeCount(m.ID)); load <= shares[i]-1-1e-6 || load >= shares[i]+1+1e-6 {
			t.Fatalf("member %d has %v slots, its share is %v", i, load, shares[i])
		}
	}
}

// exactShares finds the shares by halving, from their definition.
func exactShares(members []Member, q, n int) []float64 {
	zones := map[string][]int{}
	for i, m := range members {
		if m.State == Active {
			zones[m.Zone] = append(zones[m.Zone], i)
		}
	}
	level, sum := 0, 0
	for sum < n {
		level, sum = level+1, 0
		for _, zone := range zones {
			sum += min(len(zone), level)
		}
	}
	held := func(zone []int, fill float64) (sum float64) {
		for _, i := range zone {
			sum += min(float64(q), fill*float64(members[i].Weight))
		}
		return sum
	}
	bounds := func(zone []int) (lo, hi float64) {
		return float64(q * min(len(zone), level-1)), float64(q * min(len(zone), level))
	}
	halve := func(f func(fill float64) bool) float64 {
		lo, hi := 0.0, float64(q+1)
		for range 100 {
			if mid := (lo + hi) / 2; f(mid) {
				hi = mid
			} else {
				lo = mid
			}
		}
		return hi
	}
	fill := halve(func(fill float64) bool {
		sum := 0.0
		for _, zone := range zones {
			lo, hi := bounds(zone)
			sum += min(max(held(zone, fill), lo), hi)
		}
		return sum >= float64(q*n)-1e-9
	})
	shares := make([]float64, len(members))
	for _, zone := range zones {
		lo, hi := bounds(zone)
		total := min(max(held(zone, fill), lo), hi)
		own := halve(func(fill float64) bool { return held(zone, fill) >= total-1e-9 })
		for _, i := range zone {
			shares[i] = min(float64(q), own*float64(members[i].Weight))
		}
	}
	return shares
}

func TestPlanKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		replicas := rapid.IntRange(1, ReplicasMax).Draw(t, "replicas")
		members := drawMembers(t, replicas, max(replicas, manyMembers()), 12, rapid.SampledFrom([]int{1, 4, 1000, 65535}).Draw(t, "weight max"))
		r := blank(1 << rapid.IntRange(0, 8).Draw(t, "partitions"))
		for step := 0; ; step++ {
			plan := planned(t, r, members, replicas)
			checkPlan(t, r, plan)
			checkMoves(t, r, plan)
			r = settled(r, plan)
			if step == 4 {
				return
			}
			members = changed(t, members, step)
			replicas = min(replicas, len(members))
		}
	})
}

// changed draws another membership: some leave, join, change weight or zone.
func changed(t *rapid.T, members []Member, step int) []Member {
	members = slices.Clone(members)
	for range rapid.IntRange(1, 4).Draw(t, "changes") {
		i := rapid.IntRange(0, len(members)-1).Draw(t, "who")
		switch rapid.IntRange(0, 3).Draw(t, "what") {
		case 0:
			if len(members) > 1 {
				members = slices.Delete(members, i, i+1)
			}
		case 1:
			members = append(members, drawMember(t, 1000*(step+1)+len(members), 12, 4))
		case 2:
			members[i] = drawMember(t, i, 12, 4)
			members[i].ID = testID(500_000 + 1000*step + len(members))
		case 3:
			members[i].Weight = uint16(rapid.IntRange(1, 4).Draw(t, "weight"))
		}
	}
	seen := map[NodeID]bool{}
	return slices.DeleteFunc(members, func(m Member) bool {
		twice := seen[m.ID]
		seen[m.ID] = true
		return twice
	})
}

// checkMoves checks that the moves lead from the record's table to the plan's.
func checkMoves(t rapid.TB, r *Record, plan *Plan) {
	t.Helper()
	at := 0
	for p := range r.Partitions {
		now, then := r.Homes(Partition(p)), plan.Homes(Partition(p))
		for s := range max(len(now), len(then)) {
			var from, to NodeID
			if s < len(now) {
				from = now[s]
			}
			if s < len(then) {
				to = then[s]
			}
			if from == to {
				continue
			}
			want := Move{Partition: Partition(p), Slot: uint8(s), From: from, To: to, Phase: PhasePlan}
			if at == len(plan.Moves) || plan.Moves[at] != want {
				t.Fatalf("%v is not the next move", &want)
			}
			at++
		}
	}
	if at != len(plan.Moves) {
		t.Fatalf("%d moves, want %d", len(plan.Moves), at)
	}
}

func TestPlanIgnoresTheOrderOfMembers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := drawMembers(t, 3, manyMembers(), 5, 4)
		r := settled(blank(64), planned(t, blank(64), members[:3+len(members)/2-1], 3))
		a := planned(t, r, members, 3)
		b := planned(t, r, rapid.Permutation(members).Draw(t, "order"), 3)
		if !slices.Equal(a.table, b.table) || !slices.Equal(a.Moves, b.Moves) || !slices.Equal(a.Members, b.Members) {
			t.Fatal("another order gave another plan")
		}
	})
}

func TestPlanOfNoChangeMovesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		replicas := rapid.IntRange(1, ReplicasMax).Draw(t, "replicas")
		members := drawMembers(t, replicas, manyMembers(), 6, 5)
		r := settled(blank(128), planned(t, blank(128), members, replicas))
		if plan := planned(t, r, members, replicas); len(plan.Moves) > 0 {
			t.Fatalf("%d moves", len(plan.Moves))
		}
	})
}

// changes counts the homes that a plan newly gives, apart from their slots.
func changes(r *Record, plan *Plan) (n int) {
	for p := range r.Partitions {
		before := r.Homes(Partition(p))
		for _, id := range plan.Homes(Partition(p)) {
			if !slices.Contains(before, id) {
				n++
			}
		}
	}
	return n
}
