package sim

import (
	"testing"

	"github.com/kithdb/kith/ring"
)

// What only those had who are gone may be gone, from then on, and nothing else: not what
// a survivor had, nor what one has acknowledged since, nor what was told again.
func TestWhatOnlyTheGivenUpHadMayBeGone(t *testing.T) {
	k := courseOf(t)
	for name, c := range map[string]struct {
		before func(s *script) // two writes that know nothing of each other: a and b
		left   []string        // that the survivor shows
		after  func(s *script)
		final  []string
		want   string
	}{
		"nobody had it":              {left: []string{"b"}, final: []string{"b"}},
		"it comes late":              {left: []string{"b"}, final: []string{"a", "b"}},
		"a survivor had it":          {left: []string{"b"}, final: []string{"a"}, want: "acknowledged b is lost"},
		"a read after it":            {left: []string{"b"}, after: func(s *script) { s.get("b") }, final: []string{"b"}},
		"a read that misses more":    {left: []string{"b"}, after: func(s *script) { s.get("a") }, final: []string{"a", "b"}, want: "went backwards: b"},
		"a read before it":           {before: func(s *script) { s.get("b") }, left: []string{"b"}, final: []string{"b"}, want: "went backwards: a"},
		"told again, and gone":       {left: []string{"b"}, after: func(s *script) { s.get("a", "b"); s.get("b") }, final: []string{"a", "b"}, want: "went backwards: a"},
		"a later one is no other's":  {left: []string{"b"}, after: func(s *script) { s.put("c", nil, Done) }, final: []string{"b"}, want: "acknowledged c is lost"},
		"acknowledged by a survivor": {before: func(s *script) { s.wroteLate(k.a) }, left: []string{"b"}, final: []string{"b"}, want: "acknowledged late is lost"},
		"acknowledged by the dead":   {before: func(s *script) { s.wroteLate(k.b) }, left: []string{"b"}, final: []string{"b"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			first := s.get()
			s.put("a", first, Done)
			s.put("b", first, Done)
			if c.before != nil {
				c.before(s)
			}
			r := &Remains{at: s.at, by: map[ring.NodeID]bool{k.a: true}, ring: k.rings.At(k.idle),
				keys: map[string][]remnant{"k": {{values: c.left}}}}
			s.GaveUp(r)
			s.at = s.at.Add(1) // what begins then is not given up
			if c.after != nil {
				c.after(s)
			}
			errorIs(t, Check(s.History, map[string][]string{"k": c.final}), c.want)
		})
	}
}

// wroteLate is a write that is under way when machines are given up, and is acknowledged by
// one member.
func (s *script) wroteLate(by ring.NodeID) {
	o := s.put("late", s.ops[0], Done)
	o.Ended = s.at.Add(1)
	o.Receipt = &Receipt{Answered: []ring.NodeID{by}}
}
