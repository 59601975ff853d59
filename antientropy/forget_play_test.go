package antientropy

import (
	"maps"
	"slices"

	"github.com/kithdb/kith/store/version"
)

// What happens in a history of the model, and how it ends.

// deadBy is what is dead for sure by a home's clock.
func (m *forgetModel) deadBy(h *modelHome) uint64 { return uint64(max(0, int64(m.now)+h.skew-4)) }

// forget goes one step: a home begins to drive, or another one confirms, or all have
// and purge.
func (m *forgetModel) forget() {
	if m.noConfirm {
		h, key := m.home(), modelKeys[m.r.IntN(len(modelKeys))]
		if rec, ok := h.disk[key]; ok {
			m.purge(h, key, rec.Leaf())
		}
		return
	}
	if m.driving == nil {
		h, key := m.home(), modelKeys[m.r.IntN(len(modelKeys))]
		if rec, ok := h.disk[key]; ok && isDead(&rec, m.deadBy(h)) {
			m.driving = &driven{deadKey{[]byte(key), rec.Leaf(), rec.Seen}, map[*modelHome]bool{}}
		}
		return
	}
	d := m.driving
	for _, h := range m.homes {
		if d.confirmed[h] {
			continue
		}
		rec := m.at(h.disk, string(d.Key))
		base := h.clock.Bases()
		if m.noStable {
			base = rec.Seen.Union(d.Seen)
		}
		answer := confirm(&rec, rec.Leaf(), &d.deadKey, base, !h.lossy, m.deadBy(h))
		switch {
		case answer.Word != deadConfirmed:
			m.driving = nil
		case answer.Seen != nil:
			d.Seen = d.Seen.Union(answer.Seen)
			clear(d.confirmed)
		default:
			d.confirmed[h] = true
		}
		return
	}
	m.driving = nil
	for _, h := range m.homes {
		at := func() { m.purge(h, string(d.Key), d.Leaf) }
		switch m.r.IntN(4) {
		case 0:
			m.letters = append(m.letters, at)
		case 1: // lost
		default:
			at()
		}
	}
}

// purge removes a record from a disk under the conditions of Store.Purge.
func (m *forgetModel) purge(h *modelHome, key string, leaf version.Digest) {
	for _, u := range h.unsynced {
		if u.key == key {
			return
		}
	}
	rec, ok := h.disk[key]
	if !ok || rec.Leaf() != leaf || !isDead(&rec, m.deadBy(h)) || !m.noStable && !stable(rec.Seen, h.clock.Bases()) {
		return
	}
	delete(h.mem, key)
	delete(h.disk, key)
	if !m.staleClock {
		h.kept = h.clock.Clone()
	}
	m.forgotten++
}

// goHome sends a record that is kept for a home; it is dropped once that home has it
// on disk.
func (m *forgetModel) goHome() {
	if len(m.away) == 0 {
		return
	}
	i := m.r.IntN(len(m.away))
	s := m.away[i]
	if m.r.IntN(4) > 0 {
		m.away = slices.Delete(m.away, i, i+1)
	}
	m.mergeAt(s.home, s.key, s.rec, nil, func() { m.stored(s.w, s.home, m.writes[s.w].life == m.writes[s.w].by.life) })
	m.sync(s.home)
}

// open reads a letter. Some come again later.
func (m *forgetModel) open() {
	if len(m.letters) == 0 {
		return
	}
	i := m.r.IntN(len(m.letters))
	l := m.letters[i]
	if m.r.IntN(10) < 7 {
		m.letters = slices.Delete(m.letters, i, i+1)
	}
	l()
}

// kinds are what may happen in a history, and how often beside the others.
var kinds = []struct {
	name  string
	often int
	do    func(m *forgetModel, h *modelHome)
}{
	{"put", 24, func(m *forgetModel, _ *modelHome) { m.put() }},
	{"sync", 6, func(m *forgetModel, h *modelHome) { m.sync(h) }},
	{"pull", 12, func(m *forgetModel, h *modelHome) { m.pull(h, m.other(h)) }},
	{"audit", 8, func(m *forgetModel, h *modelHome) { m.audit(h, m.other(h), false) }},
	{"open", 10, func(m *forgetModel, _ *modelHome) { m.open() }},
	{"stand-in", 4, func(m *forgetModel, _ *modelHome) { m.goHome() }},
	{"crash", 2, func(m *forgetModel, h *modelHome) { m.crash(h) }},
	{"lose", 2, func(m *forgetModel, h *modelHome) { m.lose(h) }},
	{"refill", 4, func(m *forgetModel, h *modelHome) {
		if h.lossy {
			m.refill(h)
		}
	}},
	{"keep clock", 2, func(_ *forgetModel, h *modelHome) { h.kept = h.clock.Clone() }},
	{"back up", 4, func(_ *forgetModel, h *modelHome) { h.old = maps.Clone(h.disk) }},
	{"settle", 6, func(m *forgetModel, _ *modelHome) { m.settle() }},
	{"forget", 30, func(m *forgetModel, _ *modelHome) {
		for range 6 {
			m.forget()
		}
	}},
}

// step lets one thing happen. Each history has its own mixture: what is rare in one
// never comes in another, and often in a third.
func (m *forgetModel) step() {
	m.now += uint64(m.r.IntN(3))
	n := m.r.IntN(m.weights[len(m.weights)-1])
	for i, k := range kinds {
		if n < m.weights[i] {
			k.do(m, m.home())
			return
		}
	}
}

// historyEnd is what went wrong in a history: a value lost, one brought back, homes
// that differ at the end.
type historyEnd struct{ lost, back, differ bool }

func (e historyEnd) bad() bool { return e.lost || e.back || e.differ }

// run plays a history to its end, when everything under way arrives and all homes
// are compared with each other.
func (m *forgetModel) run() historyEnd {
	for range 80 {
		m.step()
	}
	for m.settle(); len(m.letters)+len(m.away) > 0; {
		m.open()
		m.goHome()
	}
	m.settle()
	m.now += 100 // whatever expires has
	var ends [3]map[version.Stamp]bool
	for i, h := range m.homes {
		ends[i] = map[version.Stamp]bool{}
		for _, rec := range h.disk {
			for j := range rec.Siblings {
				if s := &rec.Siblings[j]; !s.Tombstone && !s.Expired(m.now) {
					ends[i][s.Stamp] = true
				}
			}
		}
	}
	m.verdict(ends)
	return m.end
}

// settle makes all homes as equal as repair makes them.
func (m *forgetModel) settle() {
	for range 4 {
		for _, h := range m.homes {
			m.sync(h)
			for try := 0; h.lossy && try < 20; try++ { // others may have to catch up first
				m.refill(h)
			}
			for _, o := range m.homes {
				if o != h {
					for !m.pull(h, o) {
					}
					m.audit(h, o, true)
					m.sync(h)
					m.sync(o)
				}
			}
		}
	}
}

// verdict holds what the homes have at the end against what the oracle knows.
func (m *forgetModel) verdict(ends [3]map[version.Stamp]bool) {
	gone, maybe := map[version.Stamp]bool{}, map[version.Stamp]bool{}
	for _, w := range m.writes {
		if w.acked {
			maps.Copy(gone, w.buried)
		}
		if w.happened {
			maps.Copy(maybe, w.buried)
		}
	}
	for _, end := range ends {
		m.end.differ = m.end.differ || !maps.Equal(end, ends[0])
		for id := range end {
			m.end.back = m.end.back || gone[id]
		}
		for id, w := range m.writes {
			if w.acked && !w.tombstone && w.expiry == 0 && !maybe[id] && !end[id] {
				m.end.lost = true
			}
		}
	}
}
