package ring

import (
	"cmp"
	"slices"
)

// fraction is num/den, exact, so that every node rounds alike. Both stay below
// 2^40: slots below 2^17, weights below 2^16, members below 2^10.
type fraction struct{ num, den int64 }

func (f fraction) compare(g fraction) int { return cmp.Compare(f.num*g.den, g.num*f.den) }
func (f fraction) floor() int             { return int(f.num / f.den) }
func (f fraction) ceil() int              { return int((f.num + f.den - 1) / f.den) }
func (f fraction) float() float64         { return float64(f.num) / float64(f.den) }

// fairShares gives every member's fair share of the q*n slots of a table: in
// proportion to its weight, as far as two bounds allow. No member holds more
// than q slots, since the homes of a partition are distinct; no group holds
// less than q*lo or more than q*hi, since zones come before weights. What a
// bounded member or group cannot take, or must take beyond its weight, the
// others share by weight. Where nothing is bounded the share is q*n*w/sum(w).
//
// There is always a table in which every load is its share rounded up or down:
// share/q, as the chance of being home of any one partition, satisfies all the
// bounds of a partition, and flows with whole bounds have whole solutions.
func fairShares(members []Member, gs []group, q, n int) []fraction {
	all := make([]vessel, len(gs))
	for i, g := range gs {
		all[i] = newVessel(members, g, q)
	}
	level := fillAll(all, int64(q*n))
	shares := make([]fraction, len(members))
	for i := range all {
		v := &all[i]
		own := level
		if v.least.compare(level) > 0 {
			own = v.least
		} else if v.most.compare(level) < 0 {
			own = v.most
		}
		for _, m := range gs[i].members {
			w := int64(members[m].Weight)
			shares[m] = fraction{own.num * w, own.den}
			if shares[m].compare(fraction{int64(q), 1}) > 0 {
				shares[m] = fraction{int64(q), 1}
			}
		}
	}
	return shares
}

// vessel is a group whose members are filled to a common level of slots per
// weight, each to q at most.
type vessel struct {
	weights     []int64 // largest first
	q           int64
	lo, hi      int64    // bounds of the group's slots
	least, most fraction // the levels at which it holds lo and hi slots
}

func newVessel(members []Member, g group, q int) vessel {
	v := vessel{q: int64(q), lo: int64(q * g.lo), hi: int64(q * min(g.hi, len(g.members)))}
	for _, m := range g.members {
		v.weights = append(v.weights, int64(members[m].Weight))
	}
	slices.SortFunc(v.weights, func(a, b int64) int { return cmp.Compare(b, a) })
	v.least, v.most = v.levelFor(v.lo), v.levelFor(v.hi)
	return v
}

// levelFor is the lowest level at which the members hold the slots together.
func (v *vessel) levelFor(slots int64) fraction {
	var rest int64
	for _, w := range v.weights {
		rest += w
	}
	for _, w := range v.weights {
		level := fraction{slots, rest}
		if level.num*w <= v.q*level.den {
			return level
		}
		slots -= v.q // the heaviest is full; share the remainder among the others
		rest -= w
	}
	panic("ring: more slots than the members can hold")
}

// at is what the group holds at a level, in slots/level.den.
func (v *vessel) at(level fraction) int64 {
	var sum int64
	for _, w := range v.weights {
		sum += min(level.num*w, v.q*level.den)
	}
	return min(max(sum, v.lo*level.den), v.hi*level.den)
}

// fillAll is the common level at which all vessels together hold the slots.
func fillAll(all []vessel, slots int64) fraction {
	// What they hold grows with the level, in straight pieces. The pieces end
	// where a member is full or a group reaches a bound.
	var bends []fraction
	for i := range all {
		v := &all[i]
		bends = append(bends, v.least, v.most)
		for _, w := range v.weights {
			bends = append(bends, fraction{v.q, w})
		}
	}
	slices.SortFunc(bends, fraction.compare)
	end, _ := slices.BinarySearchFunc(bends, slots, func(level fraction, slots int64) int {
		var sum int64
		for i := range all {
			sum += all[i].at(level)
		}
		return cmp.Compare(sum, slots*level.den)
	})
	// On the piece that ends there, fixed slots do not depend on the level and
	// free weights take the level times themselves.
	fixed, free := int64(0), int64(0)
	for i := range all {
		v := &all[i]
		switch {
		case v.least.compare(bends[end]) >= 0:
			fixed += v.lo
		case v.most.compare(bends[end]) < 0:
			fixed += v.hi
		default:
			for _, w := range v.weights {
				if (fraction{v.q, w}).compare(bends[end]) < 0 {
					fixed += v.q
				} else {
					free += w
				}
			}
		}
	}
	if free == 0 {
		return bends[end]
	}
	return fraction{slots - fixed, free}
}
