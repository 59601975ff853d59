package main

import (
	"fmt"
	"math"

	"github.com/kithdb/kith/ring"
)

// boundsJSON says how a ring keeps to what is promised of every plan. Until nothing
// is left to move it need not.
type boundsJSON struct {
	// Distinct says that no partition has one member as home twice.
	Distinct bool `json:"distinct"`
	// Farthest is the member that is farthest from its quota, by so many slots;
	// Balanced says that everybody has the quota, rounded up or down.
	Farthest      string  `json:"farthest"`
	FarthestSlots float64 `json:"farthest_slots"`
	Balanced      bool    `json:"balanced"`
	// ZonesUneven is how many partitions have their homes in fewer zones, or
	// less evenly, than could be.
	ZonesUneven int `json:"zones_uneven"`
	// Slots change hands until all is as it should be, -1 is unknown; Least had
	// to whatever the plan.
	Slots int `json:"slots"`
	Least int `json:"least"`
	// A member more, of weight 1, would get JoinSlots; JoinBound is the most that
	// it may get, known where all weights are equal and there is one zone; 0 is
	// unknown, also while slots move.
	JoinSlots int `json:"join_slots"`
	JoinBound int `json:"join_bound"`
}

func boundsOf(r *ring.Record) boundsJSON {
	b := boundsJSON{Distinct: true, Balanced: true}
	if !r.Founded() {
		return b
	}
	for _, m := range r.Balance() {
		off := math.Abs(float64(m.Homes) - m.Share)
		if off >= b.FarthestSlots {
			b.FarthestSlots, b.Farthest = off, nameOf(r, m.Member.ID)
		}
		b.Balanced = b.Balanced && (off < 1 || m.Member.State == ring.Lost && m.Homes == 0)
	}
	spread := zoneSpread(r)
	for p := range ring.Partition(r.Partitions) {
		homes := map[ring.NodeID]bool{}
		zones := map[string]int{}
		for _, id := range r.Homes(p) {
			homes[id] = true
			zones[r.Member(id).Zone]++
		}
		b.Distinct = b.Distinct && len(homes) == len(r.Homes(p))
		if !spread.even(zones) {
			b.ZonesUneven++
		}
	}
	b.Slots = -1
	if f, err := r.Forecast(); err == nil {
		b.Slots, b.Least = f.Slots, f.Least
	}
	if settled(r) {
		b.JoinSlots, b.JoinBound = joinBound(r)
	}
	return b
}

// spread is how the homes of a partition lie over the zones at best.
type spread struct {
	size map[string]int // active members by zone
	most int            // homes in one zone
}

func zoneSpread(r *ring.Record) spread {
	s := spread{size: map[string]int{}}
	active := 0
	for _, m := range r.Members {
		if m.State == ring.Active {
			s.size[m.Zone]++
			active++
		}
	}
	for have := 0; have < min(r.Replicas, active); {
		s.most++
		have = 0
		for _, size := range s.size {
			have += min(size, s.most)
		}
	}
	return s
}

// even says that a partition with so many homes in each zone has them as far apart as
// they go.
func (s spread) even(homes map[string]int) bool {
	for zone, n := range homes {
		if n > min(s.size[zone], s.most) {
			return false
		}
	}
	for zone, size := range s.size {
		if homes[zone] < min(size, s.most-1) {
			return false
		}
	}
	return true
}

// joinBound is what a member more would get, and the most that it may: its share,
// rounded up.
func joinBound(r *ring.Record) (slots, bound int) {
	guest := ring.Member{Weight: ring.WeightDefault}
	active, equal := 0, true
	for _, m := range r.Members {
		if m.State != ring.Active {
			continue
		}
		if active == 0 {
			guest.Zone = m.Zone
		}
		active++
		equal = equal && m.Weight == guest.Weight && m.Zone == guest.Zone
	}
	for i := range guest.ID {
		guest.ID[i] = 0xff
	}
	next, err := r.WithJoin(guest)
	if err != nil {
		return 0, 0
	}
	f, err := next.Forecast()
	if err != nil {
		return 0, 0
	}
	if all := r.Partitions * r.Replicas; equal {
		bound = (all + active) / (active + 1)
	}
	return f.Slots, bound
}

// printBounds is how a ring keeps to its bounds, for people.
func (a *app) printBounds(b *boundsJSON) error {
	rows := [][]string{}
	row := func(name, format string, args ...any) {
		rows = append(rows, []string{name, fmt.Sprintf(format, args...)})
	}
	switch {
	case b.Balanced:
		row("balance", "every member has its quota, rounded up or down (farthest: %s, by %.2f slots)", b.Farthest, b.FarthestSlots)
	default:
		row("balance", "NOT EVEN: %s is %.1f slots from its quota", b.Farthest, b.FarthestSlots)
	}
	switch {
	case !b.Distinct:
		row("homes", "NOT DISTINCT: a partition has one member as home twice")
	case b.ZonesUneven > 0:
		row("homes", "NOT SPREAD: %d partitions could have their homes in more zones, or more evenly", b.ZonesUneven)
	default:
		row("homes", "all distinct, and as far apart as the zones go")
	}
	switch {
	case b.Slots < 0:
		row("moves", "UNKNOWN: fewer members take a share than a key has homes")
	case b.Slots > 0:
		row("moves", "%d slots are to change hands, the least for these quotas is %d: see kith ring moves", b.Slots, b.Least)
	default:
		row("moves", "nothing is left to move")
	}
	if b.JoinSlots > 0 {
		text := fmt.Sprintf("one more member of weight %d would be given %d slots", ring.WeightDefault, b.JoinSlots)
		if b.JoinBound > 0 {
			text += fmt.Sprintf(", the bound is %d", b.JoinBound)
		}
		row("join", "%s", text)
	}
	return a.table(rows)
}
