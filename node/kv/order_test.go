package kv

import (
	"slices"
	"testing"

	"github.com/kithdb/kith/ring"
)

func TestStandInsAreTheFirstUsableOnesBehindTheHomes(t *testing.T) {
	table := func(n int) *ring.Record {
		var members []ring.Member
		for i := range n {
			members = append(members, ring.Member{ID: ring.NodeID{0: byte(i + 1), 15: 1}, Weight: 1, State: ring.Active})
		}
		first, err := ring.Found(ring.ClusterID{1}, "test", members[0], 64, 3)
		if err != nil {
			t.Fatal(err)
		}
		r, err := first.WithTable(members)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	all := func(ring.NodeID) bool { return true }
	c := new(Coordinator)
	firsts := map[ring.NodeID]bool{}
	for _, n := range []int{3, 4, 40, 200} {
		r := table(n)
		for p := range ring.Partition(r.Partitions) {
			got := c.standIns(r, p, all)
			if want := min(n-3, standInsMax); len(got) != want || !slices.Equal(got, r.Order(p)[3:3+want]) {
				t.Fatalf("%d members, partition %d: %v", n, p, got)
			}
			for _, home := range r.Homes(p) {
				if slices.Contains(got, home) {
					t.Fatalf("partition %d: a home stands in", p)
				}
			}
			if n != 40 {
				continue
			}
			firsts[got[0]] = true
			if rest := c.standIns(r, p, func(id ring.NodeID) bool { return id != got[0] }); !slices.Equal(rest, r.Order(p)[4:4+standInsMax]) {
				t.Fatalf("partition %d without its first: %v", p, rest)
			}
			if none := c.standIns(r, p, func(ring.NodeID) bool { return false }); len(none) != 0 {
				t.Fatalf("nobody is usable, and there are %v", none)
			}
		}
	}
	if len(firsts) < 20 {
		t.Errorf("only %d of 40 members are the first to stand in for 64 partitions", len(firsts))
	}
}
