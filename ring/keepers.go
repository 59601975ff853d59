package ring

import (
	"cmp"
	"slices"
)

// chooseKeepers picks keepers among the active members: an odd number up to
// KeepersMax, as even over the zones as they allow. With three zones or more it
// is the largest number of which no zone has a majority, so that the ring can
// still change when a zone is lost; if there is none above one, it is the
// largest. Members that are keepers already are preferred. The result is sorted
// by ID; with no active member it is prev.
//
// Where fewer than three are active, keepers that are leaving stay as long as they are
// there: else one member would vote alone while slots are moved, which may take
// hours, and its death would leave nobody who can change anything.
func chooseKeepers(members []Member, prev []NodeID) []NodeID {
	queue := keeperQueue(members, prev, Active)
	if len(queue) == 0 {
		return slices.Clone(prev)
	}
	if len(queue) < votersMin {
		leaving := slices.DeleteFunc(keeperQueue(members, prev, Leaving), func(m Member) bool { return !slices.Contains(prev, m.ID) })
		queue = append(queue, leaving[:min(len(leaving), votersMin-len(queue))]...)
	}
	most := min(len(queue), KeepersMax)
	most -= 1 - most%2
	count := most
	for count >= 3 && majorityInZone(queue[:count]) {
		count -= 2
	}
	if count < 3 {
		count = most
	}
	keepers := make([]NodeID, count)
	for i := range keepers {
		keepers[i] = queue[i].ID
	}
	slices.SortFunc(keepers, NodeID.Compare)
	return keepers
}

// votersMin is the least number of keepers that survive the death of one.
const votersMin = 3

// keeperQueue orders the members of a state so that every beginning of the queue is
// as even over the zones as can be: first one of each zone, then a second, and
// so on.
func keeperQueue(members []Member, prev []NodeID, state MemberState) []Member {
	type candidate struct {
		Member
		kept  bool
		round int // how many of its zone stand before it
		zone  int // how many keepers and members its zone has, to break ties
	}
	queue := make([]candidate, 0, len(members))
	kept, size := map[string]int{}, map[string]int{}
	for _, m := range members {
		if m.State != state {
			continue
		}
		c := candidate{Member: m, kept: slices.Contains(prev, m.ID)}
		if c.kept {
			kept[m.Zone]++
		}
		size[m.Zone]++
		queue = append(queue, c)
	}
	slices.SortFunc(queue, func(a, b candidate) int {
		return cmp.Or(keptFirst(a.kept, b.kept), a.ID.Compare(b.ID))
	})
	seen := map[string]int{}
	for i := range queue {
		c := &queue[i]
		c.round = seen[c.Zone]
		c.zone = kept[c.Zone]*(MembersMax+1) + size[c.Zone]
		seen[c.Zone]++
	}
	slices.SortStableFunc(queue, func(a, b candidate) int {
		return cmp.Or(a.round-b.round, keptFirst(a.kept, b.kept), b.zone-a.zone, a.ID.Compare(b.ID))
	})
	out := make([]Member, len(queue))
	for i := range queue {
		out[i] = queue[i].Member
	}
	return out
}

func keptFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// majorityInZone says that more than half of the members are in one zone.
func majorityInZone(members []Member) bool {
	count := map[string]int{}
	for i := range members {
		count[members[i].Zone]++
		if 2*count[members[i].Zone] > len(members) {
			return true
		}
	}
	return false
}
