package ring

import "slices"

// flow finds the table that is nearest to the one before: among all tables that
// keep the bounds (n distinct homes for every partition, every group within its
// bounds in every partition, every member's load within its bounds) one that
// keeps the most homes. It is a minimum-cost flow:
//
//	row (a partition; supplies n) -> cell (a partition's part of a group; lo to hi)
//	cell -> member (0 or 1; costs 1 unless it was a home before)
//	member -> sink (floor to ceil)
//
// It starts from all the homes there were, which cost nothing, break no more
// than the balance of some nodes, and are optimal for what they carry. Then it
// sends what is too much at one node to a node that lacks it, along a cheapest
// path of changes, until nothing is left. Cheapest paths keep the flow optimal
// (successive shortest paths with potentials), so that the end is, too.
//
// Among equally cheap changes it prefers members that are least full, then
// those that share the fewest partitions with the homes that stay: so any two
// members share about as many partitions as any others, and what one leaves
// behind can be spread over all.
type flow struct {
	q, n        int
	groups      []group
	groupOf     []int32
	floor, ceil []int32 // by member

	before [][]int32 // by row: members that were homes and can stay
	rows   [][]int32 // by row: members that are homes now
	in     [][]int32 // by member: rows of which it is a home
	pairs  []int32   // by two members: how many rows they share

	taken []int8  // by cell: flow from its row
	given []int32 // by member: flow to the sink

	excess    []int32 // by node: what it gets more than it passes on
	potential []int32 // by node
	search    search
}

// newFlow takes the homes before, by row, as indices of members. Bounds that no
// table can keep are the caller's bug.
func newFlow(q, n int, gs []group, shares []fraction, before [][]int32) *flow {
	members := len(shares)
	nodes := q + members + 1 + q*len(gs)
	f := &flow{
		q: q, n: n, groups: gs, groupOf: make([]int32, members),
		floor: make([]int32, members), ceil: make([]int32, members),
		before: before, rows: make([][]int32, q), in: make([][]int32, members), pairs: make([]int32, members*members),
		taken: make([]int8, q*len(gs)), given: make([]int32, members),
		excess: make([]int32, nodes), potential: make([]int32, nodes),
	}
	f.search.init(nodes)
	for g := range gs {
		for _, m := range gs[g].members {
			f.groupOf[m] = int32(g)
		}
	}
	for m, share := range shares {
		f.floor[m], f.ceil[m] = int32(share.floor()), int32(share.ceil())
	}
	f.start()
	return f
}

// start keeps all homes of before and books what does not fit as excess.
func (f *flow) start() {
	for p, homes := range f.before {
		for _, m := range homes {
			f.add(int32(p), m)
		}
		count := make([]int, len(f.groups))
		for _, m := range homes {
			count[f.groupOf[m]]++
		}
		taken := 0
		for g := range f.groups {
			y := min(max(count[g], f.groups[g].lo), f.groups[g].hi)
			cell := f.cell(int32(p), int32(g))
			f.taken[cell-f.cell(0, 0)] = int8(y)
			f.excess[cell] = int32(y - count[g])
			taken += y
		}
		f.excess[p] = int32(f.n - taken)
	}
	sink := f.sink()
	f.excess[sink] = int32(-f.q * f.n)
	for m := range f.given {
		load := int32(len(f.in[m]))
		f.given[m] = min(max(load, f.floor[m]), f.ceil[m])
		f.excess[f.member(int32(m))] = load - f.given[m]
		f.excess[sink] += f.given[m]
	}
}

// solve makes the flow whole.
func (f *flow) solve() {
	for node := range f.excess {
		for f.excess[node] > 0 {
			end := f.cheapest(int32(node))
			f.push(int32(node), end)
		}
	}
}

// The nodes are numbered: rows, members, the sink, cells.

func (f *flow) member(m int32) int32  { return int32(f.q) + m }
func (f *flow) sink() int32           { return int32(f.q + len(f.in)) }
func (f *flow) cell(p, g int32) int32 { return f.sink() + 1 + p*int32(len(f.groups)) + g }

// cellOf is the row and the group of a cell.
func (f *flow) cellOf(node int32) (p, g int32) {
	i := node - f.sink() - 1
	return i / int32(len(f.groups)), i % int32(len(f.groups))
}

// push sends one unit from start to end along the path that was found.
func (f *flow) push(start, end int32) {
	for to := end; to != start; to = f.search.from[to] {
		f.step(f.search.from[to], to)
	}
	f.excess[start]--
	f.excess[end]++
}

// step sends one unit from a node to the next.
func (f *flow) step(from, to int32) {
	q, sink := int32(f.q), f.sink()
	switch {
	case from < q:
		f.taken[to-sink-1]++
	case to < q:
		f.taken[from-sink-1]--
	case to == sink:
		f.given[from-q]++
	case from == sink:
		f.given[to-q]--
	case from > sink:
		p, _ := f.cellOf(from)
		f.add(p, to-q)
	default:
		p, _ := f.cellOf(to)
		f.remove(p, from-q)
	}
}

func (f *flow) add(p, m int32) {
	for _, other := range f.rows[p] {
		f.pair(m, other, 1)
	}
	f.rows[p] = append(f.rows[p], m)
	f.in[m] = append(f.in[m], p)
}

func (f *flow) remove(p, m int32) {
	f.rows[p] = without(f.rows[p], m)
	f.in[m] = without(f.in[m], p)
	for _, other := range f.rows[p] {
		f.pair(m, other, -1)
	}
}

func (f *flow) pair(a, b, by int32) {
	f.pairs[int(a)*len(f.in)+int(b)] += by
	f.pairs[int(b)*len(f.in)+int(a)] += by
}

// without takes x out of list, putting the last in its place.
func without(list []int32, x int32) []int32 {
	i, last := slices.Index(list, x), len(list)-1
	list[i] = list[last]
	return list[:last]
}

// cost of making m a home of row p.
func (f *flow) cost(p, m int32) int32 {
	if slices.Contains(f.before[p], m) {
		return 0
	}
	return 1
}
