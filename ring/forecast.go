package ring

import "slices"

// Forecast is where a record leads: how many slots will have moved when all that it
// asks for is done, and what everybody has then. It is what a dry run shows.
type Forecast struct {
	// Slots is how many will change hands, those under way included; Least is
	// how many would have to, whatever the plan, for the loads alone: more of
	// them are moved only where zones or distinct homes ask for it.
	Slots, Least int
	// Members are in the order of the record's.
	Members []MemberForecast
}

// MemberForecast is one member's part.
type MemberForecast struct {
	Member Member
	// Now and Then are its slots before and after; In and Out those that it
	// gets and gives. Who gets an odd slot is decided again while moves end:
	// it may have one more or less.
	Now, Then, In, Out int
	// Share is what it should have, before rounding.
	Share float64
}

// Forecast plans to the end. A record whose active members are fewer than the
// replicas has none.
func (r *Record) Forecast() (*Forecast, error) {
	next := r.successor()
	if err := next.requeue(nil); err != nil {
		return nil, err
	}
	next.seal()
	plan, err := next.plan(next.Members, next.Replicas, nil)
	if err != nil {
		return nil, err
	}
	f := &Forecast{Members: make([]MemberForecast, len(r.Members))}
	var active []Member
	var places []int
	for i, m := range r.Members {
		f.Members[i] = MemberForecast{Member: m, Now: r.HomeCount(m.ID)}
		if m.State == Active {
			active, places = append(active, m), append(places, i)
		}
	}
	for p := range Partition(r.Partitions) {
		now, then := r.Homes(p), plan.Homes(p)
		for _, id := range then {
			m := &f.Members[r.index(id)]
			m.Then++
			if r.HomeIndex(p, id) < 0 {
				m.In++
				f.Slots++
			}
		}
		for _, id := range now {
			if !slices.Contains(then, id) {
				f.Members[r.index(id)].Out++
			}
		}
	}
	shares := fairShares(active, groups(active, r.Replicas), r.Partitions, r.Replicas)
	for i, share := range shares {
		f.Members[places[i]].Share = share.float()
	}
	f.Least = leastMoved(r, active, shares)
	return f, nil
}

// leastMoved is how many slots must change hands for the loads alone: with fewer,
// somebody has more or less than the share allows.
func leastMoved(r *Record, active []Member, shares []fraction) int {
	missing, staying := 0, 0
	for i, m := range active {
		load := r.HomeCount(m.ID)
		missing += max(0, shares[i].floor()-load)
		staying += min(load, shares[i].ceil())
	}
	return max(missing, r.Partitions*r.Replicas-staying)
}
