package ring

// Balance is how one member's part of the table compares with its fair share.
type Balance struct {
	Member Member
	// Homes is the number of slots that the member holds, First in how many
	// partitions it is the first home.
	Homes, First int
	// Share is the number of slots that Plan would give to it, before
	// rounding; 0 for members that are not active.
	Share float64
}

// Balance compares every member's slots with its share, in the order of Members.
// Before the founding all shares are 0.
func (r *Record) Balance() []Balance {
	out := make([]Balance, len(r.Members))
	var active []Member
	var places []int
	for i, m := range r.Members {
		out[i] = Balance{Member: m, Homes: r.HomeCount(m.ID)}
		if m.State == Active {
			active = append(active, m)
			places = append(places, i)
		}
	}
	if !r.Founded() {
		return out
	}
	for p := range r.Partitions {
		out[r.row(p)[0]].First++
	}
	if len(active) < r.Replicas {
		return out
	}
	for i, share := range fairShares(active, groups(active, r.Replicas), r.Partitions, r.Replicas) {
		out[places[i]].Share = share.float()
	}
	return out
}
