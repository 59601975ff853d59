package heal

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
)

// Policy says when a member that is away is given up.
type Policy struct {
	// After is for how long it must be away.
	After time.Duration
	// Pause is how long it must be since the member before it was given up, by
	// anybody, as far as this node has seen it.
	Pause time.Duration
}

// Sight is what one node sees of the members at one moment.
type Sight struct {
	Now  time.Time
	Self ring.NodeID
	// Away says since when a member cannot be reached; false for one that can.
	Away func(ring.NodeID) (time.Time, bool)
	// Gave is when a member was given up last; zero for never.
	Gave time.Time
}

// Decision is what a policy has come to.
type Decision struct {
	// Dead is the member to be given up now; zero for none.
	Dead ring.NodeID
	// Successor is the standby that is to get its slots; zero if all others share
	// them.
	Successor ring.NodeID
	// Since is when Dead was there last.
	Since time.Time
	// Over says that it was given up before and has nothing any more: it is to be no
	// member any longer.
	Over bool
	// Waits says what keeps it from giving up a member that has been away for long
	// enough; empty if there is no such member, or nothing does.
	Waits string
}

// dead are the members that have been away for long enough and have slots, the longest
// first, and of equal ones the one with the lower ID.
func (p Policy) dead(r *ring.Record, s Sight) (dead []ring.Member) {
	var since []time.Time
	for _, m := range r.Members {
		at, away := s.Away(m.ID)
		if m.ID == s.Self || m.State != ring.Active || !away || s.Now.Sub(at) < p.After || r.HomeCount(m.ID) == 0 {
			continue
		}
		i := len(dead)
		for i > 0 && at.Before(since[i-1]) {
			i--
		}
		dead = append(dead[:i], append([]ring.Member{m}, dead[i:]...)...)
		since = append(since[:i], append([]time.Time{at}, since[i:]...)...)
	}
	return dead
}

// over is a member that is to leave, has nothing any more, and has been away for long
// enough: it will not take itself out. Zero if there is none.
func (p Policy) over(r *ring.Record, s Sight) ring.NodeID {
	for _, m := range r.Members {
		at, away := s.Away(m.ID)
		if m.ID != s.Self && m.State == ring.Leaving && away && s.Now.Sub(at) >= p.After && hasNothing(r, m.ID) {
			return m.ID
		}
	}
	return ring.NodeID{}
}

// hasNothing says that a member has no slots, and gets or gives none.
func hasNothing(r *ring.Record, id ring.NodeID) bool {
	return r.HomeCount(id) == 0 && !slices.ContainsFunc(r.Moves, func(m ring.Move) bool { return m.From == id || m.To == id })
}

// Decide finds the member to be given up, if there is one. It is a pure function.
func (p Policy) Decide(r *ring.Record, s Sight) Decision {
	if !r.Founded() {
		return Decision{}
	}
	var d Decision
	if over := p.over(r, s); !over.IsZero() {
		d = Decision{Dead: over, Over: true}
	} else if dead := p.dead(r, s); len(dead) > 0 {
		// Who has what nobody else has must not keep others from being given up.
		i := slices.IndexFunc(dead, func(m ring.Member) bool { return onlyCopies(r, m.ID, s.Away) == 0 })
		d.Dead = dead[max(i, 0)].ID
	} else {
		return d
	}
	d.Since, _ = s.Away(d.Dead)
	wait := func(format string, args ...any) Decision { return Decision{Waits: fmt.Sprintf(format, args...)} }
	if self := r.Member(s.Self); self == nil || self.State == ring.Lost {
		return wait("this node is no member")
	}
	if m := given(r, s.Away); m != nil && !d.Over {
		return wait("member %s was given up, and still has %d slots: one at a time", name(*m), r.HomeCount(m.ID))
	}
	there, all, active := 0, 0, 0
	for _, m := range r.Members {
		if m.State == ring.Lost {
			continue
		}
		all++
		if _, away := s.Away(m.ID); away && m.ID != s.Self {
			continue
		}
		there++
		switch {
		case m.State == ring.Active:
			active++
		case m.State == ring.Standby && d.Successor.IsZero() && !d.Over:
			d.Successor = m.ID
		}
	}
	if 2*there <= all {
		return wait("only %d of %d members can be reached from here, which is no majority", there, all)
	}
	if d.Over {
		return d
	}
	if n := onlyCopies(r, d.Dead, s.Away); n > 0 {
		return wait("%s has the only copy of %d of %d partitions that is left: it is not given up unless somebody does so by hand (kith remove)", name(*r.Member(d.Dead)), n, r.Partitions)
	}
	if !d.Successor.IsZero() {
		active++
	}
	if active < r.Replicas {
		return wait("%d members could take slots, and each partition has %d homes: start another server", active, r.Replicas)
	}
	if left := p.Pause - s.Now.Sub(s.Gave); !s.Gave.IsZero() && left > 0 {
		return wait("another member was given up %v ago: the next one may be in %v", s.Now.Sub(s.Gave).Round(time.Second), left.Round(time.Second))
	}
	return d
}

// given is a member that is away, was given up, and still has slots; nil if there is none.
func given(r *ring.Record, away func(ring.NodeID) (time.Time, bool)) *ring.Member {
	for _, m := range r.Members {
		_, gone := away(m.ID)
		if (m.State == ring.Lost || m.State == ring.Leaving && gone) && r.HomeCount(m.ID) > 0 {
			return r.Member(m.ID)
		}
	}
	return nil
}

// onlyCopies counts the partitions of which only that member has a copy that can be had:
// all other homes are away, or lost.
func onlyCopies(r *ring.Record, id ring.NodeID, away func(ring.NodeID) (time.Time, bool)) (n int) {
	for p := range ring.Partition(r.Partitions) {
		homes := r.Homes(p)
		if slices.Contains(homes, id) && !slices.ContainsFunc(homes, func(other ring.NodeID) bool {
			_, gone := away(other)
			return other != id && !gone && r.Member(other).State != ring.Lost
		}) {
			n++
		}
	}
	return n
}

// errBack says that a member came back while its giving up was on its way.
var errBack = errors.New("the member is back")

// errOther says that another member was given up while a decision was on its way.
var errOther = errors.New("another member has been given up meanwhile")

// change lets the slots of the member go to others, if nothing has happened since that
// forbids it. The member leaves, as one that is there would: it is not declared Lost, so
// that it can help if it comes back before all has moved.
func (d Decision) change(r *ring.Record, away func(ring.NodeID) (time.Time, bool)) (*ring.Record, error) {
	m := r.Member(d.Dead)
	if since, gone := away(d.Dead); !gone || !since.Equal(d.Since) {
		return nil, errBack
	}
	switch {
	case m == nil:
		return r, nil
	case d.Over:
		if m.State != ring.Leaving || !hasNothing(r, d.Dead) {
			return r, nil
		}
		return r.WithLost(d.Dead) // whoever is Lost and has nothing is taken out
	case m.State != ring.Active:
		return r, nil
	}
	if given(r, away) != nil {
		return nil, errOther
	}
	if next := r.Member(d.Successor); next != nil && next.State == ring.Standby {
		return r.WithSuccessor(d.Dead, *next)
	}
	return r.WithLeave(d.Dead)
}

// name is what people call a member.
func name(m ring.Member) string {
	if m.Name == "" {
		return m.ID.Short()
	}
	return fmt.Sprintf("%s (%s)", m.Name, m.ID.Short())
}
