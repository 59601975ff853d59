package ring

import (
	"slices"
	"testing"
)

// pairsOf counts the partitions that each two members share, and gives the least
// and the most of all pairs.
func pairsOf(r *Record) (least, most int) {
	count := map[[2]NodeID]int{}
	for p := range r.Partitions {
		homes := r.Homes(Partition(p))
		for i, a := range homes {
			for _, b := range homes[i+1:] {
				count[[2]NodeID{a, b}]++
				count[[2]NodeID{b, a}]++
			}
		}
	}
	least = r.Partitions
	for i := range r.Members {
		for j := range i {
			n := count[[2]NodeID{r.Members[i].ID, r.Members[j].ID}]
			least, most = min(least, n), max(most, n)
		}
	}
	return least, most
}

// What a member leaves behind is then taken over by all others alike.
func TestAnyTwoMembersShareAboutAsManyPartitions(t *testing.T) {
	check := func(r *Record) {
		s := len(r.Members)
		even := r.Partitions * r.Replicas * (r.Replicas - 1) / (s * (s - 1))
		if least, most := pairsOf(r); least < even*8/10 || most > even*13/10 {
			t.Errorf("%d members: two share %d to %d partitions, evenly it were %d", s, least, most, even)
		}
	}
	for s := 4; s <= 12; s++ {
		check(found(t, testMembers(s), PartitionsDefault, 3))
	}
	for seed := range lives() {
		life(t, int64(seed), PartitionsDefault, 3, 5, 12, 1, 40, func(_, next *Record, _ *Plan, _ Member, _ bool) { check(next) })
	}
}

func TestMembersAreFirstHomesAboutEquallyOften(t *testing.T) {
	for _, replicas := range []int{1, 2, 3, 5, 7} {
		for _, s := range []int{7, 8, 13, 40} {
			r := found(t, testMembers(s), PartitionsDefault, replicas)
			even := float64(PartitionsDefault) / float64(s)
			for _, b := range r.Balance() {
				if f := float64(b.First); f < even*0.8-2 || f > even*1.2+2 {
					t.Errorf("%d members, %d replicas: first home %d times, evenly it were %v", s, replicas, b.First, even)
				}
			}
		}
	}
}

func TestBalanceCountsSlotsAndShares(t *testing.T) {
	members := testMembers(6)
	members[2].Weight = 2
	r := found(t, members, 256, 3)
	slots, firsts := 0, map[NodeID]int{}
	for p := range Partition(256) {
		firsts[r.Homes(p)[0]]++
	}
	for i, b := range r.Balance() {
		want := 256.0 * 3 / 7
		if b.Member.ID == members[2].ID {
			want *= 2
		}
		if b.Share < want-1e-9 || b.Share > want+1e-9 {
			t.Errorf("share %v, want %v", b.Share, want)
		}
		if b.Member != r.Members[i] || b.Homes != r.HomeCount(b.Member.ID) || b.First != firsts[b.Member.ID] {
			t.Errorf("%+v is not member %d, first home %d times", b, i, firsts[b.Member.ID])
		}
		slots += b.Homes
	}
	if slots != 256*3 {
		t.Errorf("%d slots", slots)
	}
	standby, err := r.WithStandby(testMember(77))
	if err != nil {
		t.Fatal(err)
	}
	at := standby.index(testID(77))
	if b := standby.Balance()[at]; b.Homes != 0 || b.Share != 0 || b.First != 0 {
		t.Errorf("a member on standby: %+v", b)
	}
	if b := blank(8).Balance(); len(b) != 1 || b[0].Homes != 0 || b[0].Share != 0 {
		t.Errorf("before the founding: %+v", b)
	}
}

func TestOrderIsHomesThenEveryOtherActiveMember(t *testing.T) {
	r := found(t, testMembers(9), 64, 3)
	more, err := r.WithStandby(testMember(50))
	if err != nil {
		t.Fatal(err)
	}
	starts := map[NodeID]bool{}
	for p := range Partition(64) {
		order := more.Order(p)
		if len(order) != 9 || !slices.Equal(order[:3], more.Homes(p)) {
			t.Fatalf("partition %d: order %v, homes %v", p, order, more.Homes(p))
		}
		sorted := slices.Clone(order)
		slices.SortFunc(sorted, NodeID.Compare)
		for i, id := range sorted {
			if id != r.Members[i].ID {
				t.Fatalf("partition %d: order has %s, not every member once", p, id.Short())
			}
		}
		starts[order[3]] = true
	}
	if len(starts) < 7 {
		t.Errorf("only %d members are ever the first stand-in", len(starts))
	}
}

// A member that is gone leaves a gap in the order, and nobody else moves.
func TestOrderOfTheOthersDoesNotDependOnWhoIsThere(t *testing.T) {
	all := found(t, testMembers(12), 64, 3)
	gone := testID(5)
	fewer := settled(all, planned(t, all, slices.DeleteFunc(slices.Clone(all.Members), func(m Member) bool { return m.ID == gone }), 3))
	for p := range Partition(64) {
		homes := append(slices.Clone(all.Homes(p)), fewer.Homes(p)...)
		rest := func(r *Record) []NodeID {
			return slices.DeleteFunc(r.Order(p), func(id NodeID) bool { return id == gone || slices.Contains(homes, id) })
		}
		if !slices.Equal(rest(all), rest(fewer)) {
			t.Fatalf("partition %d: %v became %v", p, rest(all), rest(fewer))
		}
	}
}
