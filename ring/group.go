package ring

// group is a zone as the plan sees it: members that must not crowd together.
// Every partition takes at least lo and at most hi of its homes from it.
type group struct {
	members []int // indices of the planned members
	lo, hi  int
}

// groups splits members (by their zones) into groups, with bounds that spread n
// homes over the zones as far as they go. They are the bounds of filling vessels
// with water: with K the least number such that sum(min(size, K)) >= n, a zone
// takes K or K-1 homes of each partition, or all its members if they are fewer.
//
// Where a zone may give one home and need not (K is 1), a zone of one member
// bounds nothing that distinct homes do not; such zones share one group, which
// keeps the plan small when every member is a zone of its own.
func groups(members []Member, n int) []group {
	var zones []group
	place := map[string]int{}
	for i := range members {
		z, ok := place[members[i].Zone]
		if !ok {
			z = len(zones)
			place[members[i].Zone] = z
			zones = append(zones, group{})
		}
		zones[z].members = append(zones[z].members, i)
	}
	level := waterLevel(zones, n)
	for z := range zones {
		size := len(zones[z].members)
		zones[z].lo, zones[z].hi = min(size, level-1), min(size, level)
	}
	if level > 1 {
		return zones
	}
	var merged []group
	single := group{hi: n}
	for _, z := range zones {
		if len(z.members) == 1 {
			single.members = append(single.members, z.members[0])
		} else {
			merged = append(merged, z)
		}
	}
	if len(single.members) > 0 {
		merged = append(merged, single)
	}
	return merged
}

// waterLevel is K. The zones have at least n members.
func waterLevel(zones []group, n int) int {
	for level := 1; ; level++ {
		sum := 0
		for z := range zones {
			sum += min(len(zones[z].members), level)
		}
		if sum >= n {
			return level
		}
	}
}
