package sim

import (
	"testing"

	"github.com/kithdb/kith/ring"
)

// widths is a course of the only partition's homes: from three to four, and back by the
// slot of somebody else, and then to two and to one.
type widths struct {
	rings *Rings

	three, grows, asked, four      uint64 // d is added
	shrinks, half, enough, another uint64 // the slot of gone is taken away
	gone                           ring.NodeID
	stay                           []ring.NodeID // without gone
	two, one                       uint64
	last, before                   ring.NodeID // of the two, who has the only slot in the end, and who not

	a, b, c, d ring.NodeID
}

func widthsOf(t *testing.T) *widths {
	t.Helper()
	ok := func(r *ring.Record, err error) *ring.Record {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	var members []ring.Member
	for i := range 4 {
		members = append(members, ring.Member{ID: ring.NodeID{byte(i + 1)}})
	}
	r := ok(ring.Found(ring.ClusterID{1}, "widths", members[0], 1, 3))
	r = ok(r.WithTable(members))
	w := &widths{rings: NewRings()}
	enter := func(next *ring.Record, err error) uint64 {
		t.Helper()
		r = ok(next, err)
		w.rings.Saw(r)
		return r.Epoch
	}
	step := func(s ring.Step) uint64 { t.Helper(); return enter(r.WithSteps([]ring.StepTo{{Step: s}})) }
	w.three = enter(r.WithReplicas(4))
	w.a, w.b, w.c, w.d = r.Homes(0)[0], r.Homes(0)[1], r.Homes(0)[2], r.Moves[0].To
	w.grows, w.asked, w.four = step(ring.StepDual), step(ring.StepReadNew), step(ring.StepDone)
	less := func(n int) (gone ring.NodeID, stay []ring.NodeID, began, got, end uint64) {
		t.Helper()
		enter(r.WithReplicas(n))
		gone, began = r.Moves[0].From, step(ring.StepDual)
		for slot, id := range r.Homes(0) {
			if id != gone {
				stay = append(stay, id)
				if len(stay) <= n/2+1 {
					got = step(ring.StepGot + ring.Step(slot))
				}
			}
		}
		return gone, stay, began, got, step(ring.StepDone)
	}
	w.gone, w.stay, w.shrinks, w.enough, w.another = less(3)
	w.half = w.enough - 1
	_, _, _, _, w.two = less(2)
	w.before, _, _, _, w.one = less(1)
	w.last = r.Homes(0)[0]
	if err := w.rings.Err(); err != nil {
		t.Fatal(err)
	}
	return w
}

// needs sets of how many the receipt tells.
func needs(o *Op, n int) { o.Receipt.Need = n }

// Rows of different lengths need a majority each.
func TestQuorumsOfRowsOfDifferentLengthsAreHeldToEach(t *testing.T) {
	w := widthsOf(t)
	a, b, c, d, gone, stay := w.a, w.b, w.c, w.d, w.gone, w.stay
	const apart = "nobody of these had part"
	for name, test := range map[string]struct {
		play func(s *script)
		want string
	}{
		"three as they were":                {func(s *script) { s.wrote(w.three, a, b); s.read(w.three, b, c) }, ""},
		"both rows while one is added":      {func(s *script) { s.wrote(w.grows, a, b, d) }, ""},
		"told of the longer row":            {func(s *script) { needs(s.wrote(w.grows, a, b, d), 3) }, ""},
		"the old row alone":                 {func(s *script) { s.wrote(w.grows, a, b) }, "2 have answered of those that count, 3 must"},
		"one of the old row":                {func(s *script) { s.wrote(w.grows, a, d) }, "1 have answered of those that count, 2 must"},
		"a read before it answers":          {func(s *script) { s.read(w.grows, a, b) }, ""},
		"a read of it before it answers":    {func(s *script) { s.read(w.grows, a, b, d) }, "has no part in it"},
		"a read when it answers":            {func(s *script) { s.read(w.asked, a, b, d) }, ""},
		"without it":                        {func(s *script) { s.read(w.asked, a, b, c) }, ""},
		"two when it answers":               {func(s *script) { s.read(w.asked, a, b) }, "2 have answered of those that count, 3 must"},
		"four":                              {func(s *script) { needs(s.wrote(w.four, a, c, d), 3) }, ""},
		"two of four":                       {func(s *script) { needs(s.wrote(w.four, c, d), 2) }, "2 have answered of those that count, 3 must"},
		"one home of a write that asks one": {func(s *script) { o := s.wrote(w.grows, d); o.Strict, o.Receipt.Need = false, 1 }, "0 have answered"},
		"both rows while one is taken away": {func(s *script) { s.wrote(w.shrinks, gone, stay[0], stay[1]); s.read(w.shrinks, gone, stay[1], stay[2]) }, ""},
		"the one that goes, and one more":   {func(s *script) { s.read(w.shrinks, gone, stay[0]) }, "2 have answered of those that count, 3 must"},
		"one that stays":                    {func(s *script) { s.read(w.shrinks, gone, stay[0], stay[0]) }, "is counted twice"},
		"the one that is gone":              {func(s *script) { s.read(w.another, gone, stay[0]) }, "has no part in it"},
		"one home":                          {func(s *script) { needs(s.wrote(w.one, w.last), 1); needs(s.read(w.one, w.last), 1) }, ""},

		// What four had is with those that are left.
		"from four to one":           {func(s *script) { needs(s.wrote(w.four, a, b, d), 3); needs(s.read(w.one, w.last), 1) }, ""},
		"pulled by the last":         {func(s *script) { s.wrote(w.another, stay[0], stay[1]); needs(s.read(w.one, w.last), 1) }, ""},
		"not with the last":          {func(s *script) { needs(s.wrote(w.one, w.last), 1); s.read(w.two, w.before, w.before) }, "counted twice"},
		"a reader behind its fence":  {func(s *script) { needs(s.wrote(w.one, w.last), 1); s.read(w.three, others(w, w.last)...) }, apart},
		"a reader before that began": {func(s *script) { s.read(w.three, others(w, w.last)...); needs(s.wrote(w.one, w.last), 1) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			test.play(s)
			breaks(t, CheckQuorums(s.History, w.rings), Intersect, test.want)
		})
	}
}

// others are two of the first three homes without one.
func others(w *widths, but ring.NodeID) (out []ring.NodeID) {
	for _, id := range []ring.NodeID{w.a, w.b, w.c} {
		if id != but && len(out) < 2 {
			out = append(out, id)
		}
	}
	return out
}

// A slot is a home's only when it has answered reads beside the others, and gone only
// when a majority of those that stay have pulled from it.
func TestSlotsThatComeAndGoTooEarlyAreFound(t *testing.T) {
	w := widthsOf(t)
	for name, test := range map[string]struct {
		prev, next uint64
		want       string
	}{
		"added":                     {w.asked, w.four, ""},
		"added before it was asked": {w.grows, w.four, "has answered no read before"},
		"taken away":                {w.enough, w.another, ""},
		"with one that pulled":      {w.half, w.another, "1 of the 3 homes that stay have pulled"},
		"with none":                 {w.shrinks, w.another, "0 of the 3 homes that stay have pulled"},
		"not yet":                   {w.shrinks, w.half, ""},
	} {
		t.Run(name, func(t *testing.T) { errorIs(t, readersEnd(w.rings.At(test.prev), w.rings.At(test.next)), test.want) })
	}
}

// Slots come and go behind a fence: of one that is added, homes that are in every
// majority hold the record of its phase; of one that is taken away, who had it does.
func TestSlotsThatComeAndGoBeforeTheirFenceAreFound(t *testing.T) {
	const early = "did not hold epoch"
	for name, test := range map[string]struct {
		phase, next func(w *widths) uint64
		who         func(w *widths) []ring.NodeID
		want        string
	}{
		"asked behind two of three":  {growsOf, askedOf, func(w *widths) []ring.NodeID { return []ring.NodeID{w.a, w.b, w.d} }, ""},
		"asked behind one of three":  {growsOf, askedOf, func(w *widths) []ring.NodeID { return []ring.NodeID{w.c, w.d} }, early},
		"added behind two of three":  {askedOf, fourOf, func(w *widths) []ring.NodeID { return []ring.NodeID{w.b, w.c, w.d} }, ""},
		"added behind none":          {askedOf, fourOf, func(w *widths) []ring.NodeID { return []ring.NodeID{w.d} }, early},
		"gone behind who had it":     {enoughOf, anotherOf, func(w *widths) []ring.NodeID { return []ring.NodeID{w.gone} }, ""},
		"gone behind two that stay":  {enoughOf, anotherOf, func(w *widths) []ring.NodeID { return w.stay[:2] }, ""},
		"gone behind one that stays": {enoughOf, anotherOf, func(w *widths) []ring.NodeID { return w.stay[:1] }, early},
	} {
		t.Run(name, func(t *testing.T) {
			w := widthsOf(t)
			k := course{rings: w.rings, a: w.a, b: w.b, c: w.c, d: w.d}
			breaks(t, k.stepped(w.three, test.phase(w), test.next(w), test.who(w)), Handed, test.want)
		})
	}
}

func growsOf(w *widths) uint64   { return w.grows }
func askedOf(w *widths) uint64   { return w.asked }
func fourOf(w *widths) uint64    { return w.four }
func enoughOf(w *widths) uint64  { return w.enough }
func anotherOf(w *widths) uint64 { return w.another }
