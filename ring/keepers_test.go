package ring

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// inZones are active members, as many in each zone as stated.
func inZones(sizes ...int) (members []Member) {
	for z, size := range sizes {
		for range size {
			m := testMember(len(members))
			m.State, m.Zone = Active, fmt.Sprintf("z%d", z)
			members = append(members, m)
		}
	}
	return members
}

func TestKeepersAreAsManyAsSurviveTheLossOfAZone(t *testing.T) {
	for _, c := range []struct {
		sizes []int
		want  int
	}{
		{[]int{1}, 1}, {[]int{2}, 1}, {[]int{3}, 3}, {[]int{4}, 3}, {[]int{6}, 5}, {[]int{7}, 7}, {[]int{200}, 7},
		{[]int{1, 1}, 1}, {[]int{3, 3}, 5}, {[]int{9, 9}, 7}, // of two zones one always has a majority
		{[]int{1, 1, 1}, 3}, {[]int{3, 3, 3}, 7}, {[]int{2, 2, 1}, 5},
		{[]int{5, 1, 1}, 3}, {[]int{9, 2, 1}, 5}, {[]int{1, 1, 1, 1, 1, 1, 1}, 7},
	} {
		members := inZones(c.sizes...)
		keepers := chooseKeepers(members, nil)
		if len(keepers) != c.want {
			t.Errorf("zones of %v: %d keepers, want %d", c.sizes, len(keepers), c.want)
		}
	}
}

func TestKeepersAreOddSpreadAndStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := drawMembers(t, 1, 30, 6, 3)
		keepers := chooseKeepers(members, nil)
		if len(keepers)%2 == 0 || len(keepers) > KeepersMax {
			t.Fatalf("%d keepers", len(keepers))
		}
		count, size := map[string]int{}, map[string]int{}
		for _, m := range members {
			size[m.Zone]++
			if slices.Contains(keepers, m.ID) {
				count[m.Zone]++
			}
		}
		for a := range size {
			for b := range size {
				if count[a] > count[b]+1 && count[b] < size[b] {
					t.Fatalf("%d keepers in one zone, %d of %d in another", count[a], count[b], size[b])
				}
			}
		}
		if again := chooseKeepers(rapid.Permutation(members).Draw(t, "order"), nil); !slices.Equal(again, keepers) {
			t.Fatal("another order chose other keepers")
		}
		if again := chooseKeepers(members, keepers); !slices.Equal(again, keepers) {
			t.Fatalf("chosen again, %v became %v", keepers, again)
		}
		// One of them leaves: with the same number of keepers, at most one
		// place in each zone changes hands.
		gone := rapid.SampledFrom(keepers).Draw(t, "gone")
		for i := range members {
			if members[i].ID == gone {
				members[i].State = Leaving
			}
		}
		after := chooseKeepers(members, keepers)
		if slices.Contains(after, gone) && len(members) > votersMin {
			t.Fatal("a leaving member is still a keeper")
		}
		if len(after) != len(keepers) {
			return
		}
		kept := 0
		for _, id := range after {
			if slices.Contains(keepers, id) {
				kept++
			}
		}
		if kept < len(keepers)-len(size) {
			t.Fatalf("%d of %d keepers stayed, of %d zones", kept, len(keepers), len(size))
		}
	})
}

// Leavers stay keepers where fewer than three others are active, and nobody becomes one
// by leaving.
func TestLeaversVoteWhereFewWouldVoteWithoutThem(t *testing.T) {
	members := inZones(4)
	ids := func(at ...int) (out []NodeID) {
		for _, i := range at {
			out = append(out, members[i].ID)
		}
		slices.SortFunc(out, NodeID.Compare)
		return out
	}
	members[3].State = Standby
	keepers := ids(0, 1, 2)
	for _, leaver := range []int{2, 1} {
		members[leaver].State = Leaving
		if got := chooseKeepers(members, keepers); !slices.Equal(got, keepers) {
			t.Errorf("%d leaves: keepers %v, want %v", leaver, got, keepers)
		}
	}
	for _, c := range []struct{ prev, want []NodeID }{
		{ids(0), ids(0)},       // nobody of them votes yet
		{ids(1), ids(0)},       // of two the active one
		{ids(0, 1, 3), ids(0)}, // who stands by votes no more
	} {
		if got := chooseKeepers(members, c.prev); !slices.Equal(got, c.want) {
			t.Errorf("keepers %v became %v, want %v", c.prev, got, c.want)
		}
	}
	if got := chooseKeepers(append(members, inZones(7)[4:]...), keepers); slices.Contains(got, members[1].ID) || slices.Contains(got, members[2].ID) {
		t.Errorf("three more are active, and the keepers are %v", got)
	}
}

// With nobody active there is nobody to choose: the keepers stay.
func TestKeepersStayWhenNobodyIsActive(t *testing.T) {
	members := inZones(2)
	for i := range members {
		members[i].State = Leaving
	}
	prev := []NodeID{members[1].ID}
	if got := chooseKeepers(members, prev); !slices.Equal(got, prev) {
		t.Errorf("keepers %v, want %v", got, prev)
	}
}

func TestKeepersStayWhenMembersJoin(t *testing.T) {
	members := inZones(9, 9, 9)
	var prev []NodeID
	for _, i := range []int{8, 7, 6, 17, 16, 26, 25} {
		prev = append(prev, members[i].ID)
	}
	slices.SortFunc(prev, NodeID.Compare)
	if got := chooseKeepers(members, prev); !slices.Equal(got, prev) {
		t.Errorf("keepers %v became %v", prev, got)
	}
}
