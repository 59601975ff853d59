package antientropy

// How homes of the model ask about what may have been lost without being noticed.

// aliveBy is the time by which a home takes a value for one that can be read.
func (m *forgetModel) aliveBy(h *modelHome) uint64 { return uint64(max(0, int64(m.now)+h.skew)) }

// disputed asks the third home about what two copies are in dispute about, and has
// a loss declared. It says whether they may be merged.
func (m *forgetModel) disputed(h, o *modelHome, key string) bool {
	mine, theirs := m.at(h.disk, key), m.at(o.disk, key)
	now := m.aliveBy(h)
	var claims []bool
	for _, d := range dotsOf(&mine) {
		claims = append(claims, o.clock.Has(d))
	}
	copied := &held{dots: dotsOf(&mine), alive: aliveIn(&mine, now), seen: mine.Seen}
	in := &dispute{key: []byte(key), values: disputedBy(copied, &h.clock, &theirs, claims, now)}
	var third *modelHome
	for _, x := range m.homes {
		if x != h && x != o {
			third = x
		}
	}
	if len(in.values) == 0 {
		return true
	}
	if m.r.IntN(10) == 0 {
		return false // it cannot be asked
	}
	w := &witness{counts: !third.lossy, items: map[int]fetchedKey{}}
	var got fetchedKey
	if rec, ok := third.disk[key]; ok {
		got.Record = rec.Append(nil)
	}
	for _, v := range in.values {
		got.Claims = append(got.Claims, third.clock.Has(v.dot))
	}
	w.items[0] = got
	merge := true
	for _, v := range in.values {
		switch rule([]word{w.says(in, v.dot)}, true) {
		case undecided:
			merge = false
		case lost:
			m.doubts++
			merge = false
		}
	}
	return merge
}
