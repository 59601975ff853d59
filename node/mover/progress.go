package mover

import (
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

const (
	// rateOver is the time over which rates are taken.
	rateOver = 10 * time.Second
	// sampleEvery is the least time between two samples.
	sampleEvery = 500 * time.Millisecond
)

// progress is what the loop has seen, for people.
type progress struct {
	seen    *ring.Record // the newest one
	done    int          // moves that ended
	samples []sample     // oldest first, over rateOver
	waits   map[ring.Partition]string
	owes    string // why this node cannot go yet
}

// sample is how far everything was at one time.
type sample struct {
	at    time.Time
	bytes uint64
	done  int
}

// observe keeps what Status tells.
func (m *Mover) observe(r *ring.Record) {
	waits := make(map[ring.Partition]string, len(m.failures))
	for p, f := range m.failures {
		waits[p] = f.why
	}
	now, bytes := time.Now(), m.cfg.Bytes()
	m.mu.Lock()
	defer m.mu.Unlock()
	h := &m.how
	if h.seen != nil && h.seen != r {
		h.done += ended(h.seen, r)
	}
	h.seen, h.waits, h.owes = r, waits, ""
	if n := len(h.samples); n == 0 || now.Sub(h.samples[n-1].at) >= sampleEvery {
		h.samples = append(h.samples, sample{now, bytes, h.done})
	}
	// One sample is older than the time over which the rate is taken.
	for len(h.samples) > 2 && now.Sub(h.samples[1].at) >= rateOver {
		h.samples = slices.Delete(h.samples, 0, 1)
	}
}

// say keeps why this node cannot go yet.
func (m *Mover) say(why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.how.owes = why
}

// Owes says what this node, which leaves and has no slots any more, still has to do
// before it is no member; empty for nothing.
func (m *Mover) Owes() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.how.owes
}

// ended counts the moves that were under way in one record and are not any more in
// a later one.
func ended(prev, r *ring.Record) (n int) {
	for i := range prev.Moves {
		was := &prev.Moves[i]
		if was.Phase == ring.PhasePlan {
			continue
		}
		is := r.MoveOf(was.Partition)
		if is == nil || is.Phase == ring.PhasePlan || is.Slot != was.Slot || is.From != was.From || is.To != was.To {
			n++
		}
	}
	return n
}

// Status says how far the moves are, and of those that this node drives, more. Any
// goroutine may call it.
func (m *Mover) Status() api.MovesResponse {
	r := m.cfg.Rings.Current()
	if r == nil {
		return api.MovesResponse{}
	}
	under := map[ring.Partition]Progress{}
	for _, p := range m.cfg.Progress() {
		under[p.Partition] = p
	}
	resp := api.MovesResponse{Epoch: r.Epoch, Bytes: m.cfg.Bytes()}
	m.mu.Lock()
	waits := m.how.waits
	var slots float64
	resp.Done = m.how.done
	resp.Rate, slots = m.rates()
	m.mu.Unlock()
	startable := r.Startable(m.cfg.Pace)
	slices.Sort(startable)
	for i := range r.Moves {
		move := &r.Moves[i]
		s := api.MoveStatus{Partition: move.Partition, Slot: move.Slot, From: move.From, To: move.To, Phase: move.Phase.String()}
		if move.Phase == ring.PhasePlan {
			resp.Queued++
		} else {
			resp.Running++
		}
		if r.Driver(move.Partition) == m.cfg.Self {
			p := under[move.Partition]
			s.Keys, s.Bytes, s.Of = p.Keys, p.Bytes, p.Of
		}
		if s.Waits = m.obstacle(r, move, startable); s.Waits == "" {
			s.Waits = waits[move.Partition]
		}
		resp.Moves = append(resp.Moves, s)
	}
	if slots > 0 {
		resp.Seconds = float64(len(r.Moves)) / slots
	}
	return resp
}

// rates are bytes and moves a second, lately; m.mu is held.
func (m *Mover) rates() (bytes uint64, moves float64) {
	s := m.how.samples
	if len(s) < 2 {
		return 0, 0
	}
	first, last := s[0], s[len(s)-1]
	if time.Since(last.at) > rateOver {
		return 0, 0
	}
	seconds := last.at.Sub(first.at).Seconds()
	return uint64(float64(last.bytes-first.bytes) / seconds), float64(last.done-first.done) / seconds
}

// obstacle says why a move does not go on, as far as this node can see; empty if it
// does.
func (m *Mover) obstacle(r *ring.Record, move *ring.Move, startable []ring.Partition) string {
	away := func(id ring.NodeID) bool { return id != m.cfg.Self && !id.IsZero() && m.cfg.Absent(id) }
	driver := r.Driver(move.Partition)
	if move.Shrinks() {
		return m.obstacleToLess(r, move, startable, away)
	}
	if move.Phase == ring.PhasePlan {
		_, begins := slices.BinarySearch(startable, move.Partition)
		switch {
		case away(move.To):
			return "its target " + nameOf(r, move.To) + " cannot be reached"
		case !begins:
			return "waits for its turn"
		}
		return ""
	}
	step := ring.StepReadNew
	switch {
	case move.Phase == ring.PhaseReadNew:
		step = ring.StepDone
	case move.Phase == ring.PhaseBack, r.Unwanted(move):
		return ""
	}
	if away(driver) {
		return nameOf(r, driver) + ", which drives it, cannot be reached"
	}
	if driver != m.cfg.Self {
		return ""
	}
	c, err := r.Condition(move.Partition, step)
	if err != nil {
		return ""
	}
	sources := c.Sources(m.cfg.Noted(move.Partition))
	if len(sources) > 0 && !slices.ContainsFunc(sources, func(id ring.NodeID) bool { return !away(id) }) {
		return "nobody can be reached to pull from: it needs " + c.String()
	}
	return ""
}

// obstacleToLess says why a slot is not taken away, as far as this node can see.
func (m *Mover) obstacleToLess(r *ring.Record, move *ring.Move, startable []ring.Partition, away func(ring.NodeID) bool) string {
	_, begins := slices.BinarySearch(startable, move.Partition)
	switch lost := r.Member(move.From).State == ring.Lost; {
	case r.Unwanted(move):
		return ""
	case !lost && away(move.From):
		return nameOf(r, move.From) + ", whose slot is taken away, cannot be reached, and may have what nobody else has"
	case move.Phase == ring.PhasePlan && !begins:
		return "waits for its turn"
	}
	for _, id := range r.Homes(move.Partition) {
		if id != move.From && away(id) {
			return nameOf(r, id) + ", which keeps its slot, cannot be reached"
		}
	}
	return ""
}

// nameOf is a member's name for people.
func nameOf(r *ring.Record, id ring.NodeID) string {
	if is := r.Member(id); is != nil && is.Name != "" {
		return is.Name
	}
	return id.Short()
}
