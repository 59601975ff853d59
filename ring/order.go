package ring

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// Order is the partition's order of members: its homes by slot, then all other
// active members. The rest of the order is fixed by partition and ID alone, so
// that members who come and go do not change it for the others; from it the
// stand-ins are taken. The slice is the caller's.
func (r *Record) Order(p Partition) []NodeID {
	homes := r.Homes(p)
	order := make([]NodeID, len(homes), len(r.Members))
	copy(order, homes)
	for i := range r.Members {
		m := &r.Members[i]
		if m.State == Active && !slices.Contains(homes, m.ID) {
			order = append(order, m.ID)
		}
	}
	slices.SortFunc(order[len(homes):], func(a, b NodeID) int {
		return cmp.Or(cmp.Compare(chance(p, a), chance(p, b)), a.Compare(b))
	})
	return order
}

// chance is a number that looks random and depends on nothing but its input.
func chance(p Partition, id NodeID) uint64 {
	x := binary.LittleEndian.Uint64(id[:8])
	x = scramble(x ^ 0x9e3779b97f4a7c15*(uint64(p)+1))
	return scramble(x ^ binary.LittleEndian.Uint64(id[8:]))
}

// scramble is a bijection in which every input bit changes half of the output
// (the finalizer of SplitMix64).
func scramble(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
