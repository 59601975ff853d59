package ring

import "slices"

// search is the state of one search for a cheapest path. Costs are small whole
// numbers, so that the queue is a bucket for each distance.
type search struct {
	distance []int32 // by node; -1 where not reached
	from     []int32 // by node: the one before on the path
	done     []bool
	rank     []uint64 // by node: how good its path is among equally cheap ones; less is better
	reached  []int32
	buckets  [][]int32
}

const rankWorst = 1<<64 - 1

func (s *search) init(nodes int) {
	s.distance = slices.Repeat([]int32{-1}, nodes)
	s.from = make([]int32, nodes)
	s.done = make([]bool, nodes)
	s.rank = make([]uint64, nodes)
}

// reset forgets the last search, in time that it took, not that of all nodes.
func (s *search) reset() {
	for _, node := range s.reached {
		s.distance[node], s.done[node] = -1, false
	}
	s.reached = s.reached[:0]
	for i := range s.buckets {
		s.buckets[i] = s.buckets[i][:0]
	}
}

// reach notes that node can be reached from another at a distance. An equal
// distance counts if its rank is better and node is not done: what is done may
// already be part of the way to from.
func (s *search) reach(from, node, distance int32, rank uint64) {
	old := s.distance[node]
	if old >= 0 && (s.done[node] || distance > old) {
		return
	}
	if distance == old {
		if rank < s.rank[node] {
			s.from[node], s.rank[node] = from, rank
		}
		return
	}
	if old < 0 {
		s.reached = append(s.reached, node)
	}
	s.distance[node], s.from[node], s.rank[node] = distance, from, rank
	for int(distance) >= len(s.buckets) {
		s.buckets = append(s.buckets, nil)
	}
	s.buckets[distance] = append(s.buckets[distance], node)
}

// cheapest finds the cheapest path from start to a node that lacks something,
// the best ranked among those that are equally cheap, and keeps the potentials
// such that no arc costs less than nothing.
func (f *flow) cheapest(start int32) int32 {
	s := &f.search
	s.reset()
	s.reach(start, start, 0, rankWorst)
	for d := int32(0); int(d) < len(s.buckets); d++ {
		best := int32(-1)
		for i := 0; i < len(s.buckets[d]); i++ {
			node := s.buckets[d][i]
			if s.done[node] || s.distance[node] != d {
				continue
			}
			s.done[node] = true
			end := f.endAt(node)
			if end >= 0 && (best < 0 || s.rank[node] < s.rank[best]) {
				best = node
			}
			if best < 0 {
				f.expand(node, d)
			}
		}
		if best < 0 {
			continue
		}
		end := f.endAt(best)
		if end != best {
			s.from[end] = best
		}
		for _, node := range s.reached {
			if s.done[node] && s.distance[node] < d {
				f.potential[node] += s.distance[node] - d
			}
		}
		return end
	}
	panic("ring: no table keeps the bounds")
}

// endAt gives the node at which a path may end that reached node: itself, or the
// sink right behind a member at no further cost; -1 for neither.
func (f *flow) endAt(node int32) int32 {
	if f.excess[node] < 0 {
		return node
	}
	sink := f.sink()
	if node < int32(f.q) || node >= sink || f.excess[sink] >= 0 {
		return -1
	}
	m := node - int32(f.q)
	if f.given[m] < f.ceil[m] && f.potential[node] == f.potential[sink] {
		return sink
	}
	return -1
}

// expand reaches for all nodes to which one more unit can go from node.
func (f *flow) expand(node, d int32) {
	q, sink := int32(f.q), f.sink()
	arc := func(to, cost int32, rank uint64) {
		f.search.reach(node, to, d+cost+f.potential[node]-f.potential[to], rank)
	}
	switch {
	case node < q:
		for g := range f.groups {
			if cell := f.cell(node, int32(g)); int(f.taken[cell-sink-1]) < f.groups[g].hi {
				arc(cell, 0, rankWorst)
			}
		}
	case node < sink:
		m := node - q
		if f.given[m] < f.ceil[m] {
			arc(sink, 0, rankWorst)
		}
		for _, p := range f.in[m] {
			arc(f.cell(p, f.groupOf[m]), -f.cost(p, m), rankWorst)
		}
	case node == sink:
		for m := range f.given {
			if f.given[m] > f.floor[m] {
				arc(f.member(int32(m)), 0, rankWorst)
			}
		}
	default:
		p, g := f.cellOf(node)
		if int(f.taken[node-sink-1]) > f.groups[g].lo {
			arc(p, 0, rankWorst)
		}
		leaving := f.leaving(node)
		for _, m := range f.groups[g].members {
			m, to := int32(m), f.member(int32(m))
			if slices.Contains(f.rows[p], m) {
				continue
			}
			rank := uint64(rankWorst) // matters only where the path may end
			if f.endAt(to) >= 0 {
				rank = f.rankOf(p, m, leaving)
			}
			arc(to, f.cost(p, m), rank)
		}
	}
}

// leaving is the member whose place in the row is taken along the path to the
// cell; -1 if the row had a place free.
func (f *flow) leaving(cell int32) int32 {
	q, sink := int32(f.q), f.sink()
	from := f.search.from[cell]
	if from < q {
		from = f.search.from[from] // the row; before it another cell, or the row itself as the start
		if from > sink {
			from = f.search.from[from]
		}
	}
	if from < q || from >= sink {
		return -1
	}
	return from - q
}

// rankOf says how well m would do as a home of row p in place of leaving: first
// by how full it is, in sixteenths, then by how often it meets the other homes,
// and leaving met them, in relation to what is even; then by chance.
func (f *flow) rankOf(p, m, leaving int32) uint64 {
	full := min(uint64(len(f.in[m]))*16/uint64(max(f.ceil[m], 1)), 1<<10)
	met := int64(1) << 40
	for _, other := range f.rows[p] {
		if other == leaving {
			continue
		}
		met += f.met(m, other)
		if leaving >= 0 {
			met -= f.met(leaving, other)
		}
	}
	met = min(max(met, 0), 1<<41-1)
	return full<<53 | uint64(met)<<12 | scramble(uint64(p)<<32|uint64(m))>>52
}

// met is how many rows two members share, in relation to how many they would by
// chance.
func (f *flow) met(a, b int32) int64 {
	return int64(f.pairs[int(a)*len(f.in)+int(b)]) << 32 / (int64(max(f.ceil[a], 1)) * int64(max(f.ceil[b], 1)))
}
