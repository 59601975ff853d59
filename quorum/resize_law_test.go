package quorum

import (
	"fmt"
	"slices"
	"testing"

	"github.com/kithdb/kith/ring"
)

// resizeOf is a course in which a slot is added to n homes, for the last of the zones,
// or slot 0 of them is taken away. A member is its seat: the homes by slot, then who is
// no home.
func resizeOf(t testing.TB, zones []string, grows bool) *course {
	t.Helper()
	ok := func(r *ring.Record, err error) *ring.Record {
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	var members []ring.Member
	for i, zone := range zones {
		members = append(members, ring.Member{ID: ring.NodeID{byte(i + 1)}, Zone: zone})
	}
	c := &course{n: len(zones)}
	if grows {
		c.n--
	}
	r := ok(ring.Found(ring.ClusterID{1}, "law", members[0], 1, c.n))
	r = ok(r.WithTable(members[:c.n]))
	c.members = slices.Clone(r.Homes(0))
	move := ring.Move{}
	if grows {
		r = ok(r.WithJoin(members[c.n]))
		c.members = append(c.members, members[c.n].ID)
		r = ok(r.WithReplicas(c.n + 1))
		move = ring.Move{Slot: uint8(c.n), To: members[c.n].ID}
	} else {
		r = ok(r.WithReplicas(c.n - 1))
	}
	for _, id := range c.members {
		c.zones = append(c.zones, r.Member(id).Zone)
	}
	step := func(r *ring.Record, s ring.Step) *ring.Record {
		return ok(r.WithSteps([]ring.StepTo{{Partition: 0, Step: s}}))
	}
	c.idle = ok(r.WithMoves([]ring.Move{move}))
	c.dual = step(c.idle, ring.StepDual)
	last := c.dual
	if grows {
		c.readNew = step(c.dual, ring.StepReadNew)
		last = c.readNew
	} else {
		for slot := 1; slot < c.n; slot++ {
			last = step(last, ring.StepGot+ring.Step(slot))
		}
	}
	c.done, c.aborted = step(last, ring.StepDone), step(last, ring.StepAbort)
	if len(c.done.Homes(0)) == c.n || len(c.aborted.Homes(0)) != c.n {
		t.Fatalf("homes are %d, then %d or %d", c.n, len(c.done.Homes(0)), len(c.aborted.Homes(0)))
	}
	return c
}

// pulling is what is known at the end of a move: who has pulled, each from all of some
// others, who so have adopted the move.
type pulling struct{ by, from uint8 }

// pullings are the least that must be known before a move ends.
func (c *course) pullings(t testing.TB) (all []pulling) {
	if c.readNew == nil {
		for _, by := range leastSets(len(c.members), func(set uint8) bool {
			if set&1 != 0 || set == 0 {
				return false
			}
			r := c.dual
			for slot := 1; slot < c.n; slot++ {
				if set&(1<<slot) == 0 {
					continue
				}
				var err error
				if r, err = r.WithSteps([]ring.StepTo{{Partition: 0, Step: ring.StepGot + ring.Step(slot)}}); err != nil {
					t.Fatal(err)
				}
			}
			_, err := r.WithSteps([]ring.StepTo{{Partition: 0, Step: ring.StepDone}})
			return err == nil
		}) {
			all = append(all, pulling{by, by | 1})
		}
	} else {
		for _, from := range c.pulled(t, c.readNew, ring.StepDone) {
			all = append(all, pulling{1 << c.n, from})
		}
		if first := c.pulled(t, c.dual, ring.StepReadNew); !slices.Equal(first, c.pulled(t, c.readNew, ring.StepDone)) {
			t.Fatal("the first pull is from others than the second one")
		}
	}
	if len(all) == 0 {
		t.Fatal("the move cannot end")
	}
	return all
}

// checkResize goes through all pairs of records that may be used at the same time.
func (c *course) checkResize(t *testing.T, p strict) (sum meeting) {
	grows := c.readNew != nil
	w := func(r *ring.Record) []uint8 { return c.least(r, p.w, p.wZone, true) }
	r := func(r *ring.Record) []uint8 { return c.least(r, p.r, p.rZone, false) }
	add := func(m meeting) { sum.direct, sum.helped = sum.direct+m.direct, sum.helped+m.helped }
	name := func(what string) string { return fmt.Sprintf("grows %v: %s", grows, what) }
	meets := map[string][2][]uint8{
		"idle, idle": {w(c.idle), r(c.idle)}, "idle, dual": {w(c.idle), r(c.dual)}, "dual, idle": {w(c.dual), r(c.idle)},
		"dual, dual": {w(c.dual), r(c.dual)}, "dual, done": {w(c.dual), r(c.done)}, "done, done": {w(c.done), r(c.done)},
		"dual, aborted": {w(c.dual), r(c.aborted)}, "aborted, dual": {w(c.aborted), r(c.dual)},
	}
	last := c.dual
	if grows {
		last = c.readNew
		for what, sets := range map[string][2][]uint8{
			"idle, read-new": {w(c.idle), r(last)}, "read-new, idle": {w(last), r(c.idle)}, "dual, read-new": {w(c.dual), r(last)}, "read-new, dual": {w(last), r(c.dual)},
			"read-new, read-new": {w(last), r(last)}, "read-new, done": {w(last), r(c.done)}, "aborted, read-new": {w(c.aborted), r(last)}, "read-new, aborted": {w(last), r(c.aborted)},
		} {
			meets[what] = sets
		}
	}
	meets["done, last"] = [2][]uint8{w(c.done), r(last)}
	for what, sets := range meets {
		add(c.law(t, name(what), p, sets[0], sets[1], nil))
	}
	early := []*ring.Record{c.idle}
	if grows {
		early = append(early, c.dual)
	}
	for _, pull := range c.pullings(t) {
		// What was written before, who pulls has got; and who was pulled from answers
		// nothing that is older.
		got := func(a, b uint8) bool { return b&pull.by != 0 && a&pull.from != 0 }
		fenced := func(a, b uint8) bool { return b&pull.from != 0 }
		for _, before := range early {
			add(c.law(t, name("early, done"), p, w(before), r(c.done), got))
			add(c.law(t, name("done, early"), p, w(c.done), r(before), fenced))
		}
	}
	return sum
}

// checkKept says that what a write or a read at a level had in any record, it has in the
// one after the move, and in the one after an abort, as if it had been made there: what
// comes next can rely on it.
func (c *course) checkKept(t *testing.T, level uint8, zone string) {
	if c.readNew == nil && level == levelLocal && c.alone(0, zone) {
		return // its quorum goes
	}
	after := func(r *ring.Record) func(set uint8) bool {
		least := c.least(r, level, zone, false)
		return func(set uint8) bool {
			return len(least) == 0 || slices.ContainsFunc(least, func(l uint8) bool { return set&l == l })
		}
	}
	done, aborted := after(c.done), after(c.aborted)
	gone := uint8(1) // who drops at the end, and who does at an abort
	dropped := uint8(0)
	records := []*ring.Record{c.idle, c.dual}
	if c.readNew != nil {
		gone, dropped = 0, 1<<c.n
		records = append(records, c.readNew)
	}
	for phase, r := range records {
		for _, write := range []bool{true, false} {
			for _, set := range c.least(r, level, zone, write) {
				if !aborted(set &^ dropped) {
					t.Fatalf("zones %q, level %d in %q, phase %d, write %v: what %03b have is not kept after an abort", c.zones, level, zone, phase, write, set)
				}
				for _, pull := range c.pullings(t) {
					kept := set
					if set&pull.from != 0 {
						kept |= pull.by
					}
					if !done(kept &^ gone) {
						t.Fatalf("zones %q, level %d in %q, phase %d, write %v: what %03b have is not kept, pulled %+v", c.zones, level, zone, phase, write, set, pull)
					}
				}
			}
		}
	}
}

// alone says that a member is the only one in a zone.
func (c *course) alone(seat int, zone string) bool {
	for i, other := range c.zones {
		if i != seat && other == zone {
			return false
		}
	}
	return c.zones[seat] == zone
}

// strictResizes is a pair of levels of which every read meets every write, with either
// number of homes.
func (c *course) strictResizes() (pairs []strict) {
	n := max(len(c.idle.Homes(0)), len(c.done.Homes(0)))
	for w := 1; w <= n; w++ {
		for r := n - w + 1; r <= n; r++ {
			pairs = append(pairs, strict{w: uint8(w), r: uint8(r)})
		}
	}
	seen := map[string]bool{}
	for _, zone := range c.zones {
		if seen[zone] {
			continue
		}
		seen[zone] = true
		for _, other := range []uint8{levelLocal, levelEach, levelAll} {
			in := ""
			if other == levelLocal {
				in = zone
			}
			pairs = append(pairs, strict{other, levelLocal, in, zone}, strict{levelLocal, other, zone, in})
		}
	}
	for _, level := range []uint8{levelQuorum, levelEach, levelAll} {
		pairs = append(pairs, strict{w: level, r: levelQuorum}, strict{w: level, r: levelEach}, strict{w: level, r: levelAll})
	}
	return append(pairs, strict{w: 1, r: levelAll}, strict{w: levelAll, r: 1})
}

// Every read that begins after a write was acknowledged, at whatever record either
// uses, meets it in a home that may answer for it, while a slot is added or taken away.
// All numbers of homes to five, all phases, all levels that promise it with both
// numbers, all zones of the members (with five, a part of them); but for a zone that loses its only home, whose
// quorum has the writes, of which reads then ask no home any more.
func TestEveryReadMeetsEveryWriteWhileTheNumberOfHomesChanges(t *testing.T) {
	for n := 2; n <= homesMost; n++ {
		for _, grows := range []bool{true, false} {
			var sum meeting
			courses, zones := 0, make([]int, n)
			for more := true; more; more = nextZones(zones) {
				var names []string
				for _, z := range zones {
					names = append(names, fmt.Sprintf("z%d", z))
				}
				courses++
				if n == 5 && courses%5 != 1 && !long() {
					continue // of the most homes, some of the ways to lie in zones
				}
				c := resizeOf(t, names, grows)
				for _, p := range c.strictResizes() {
					if !grows && p.w == levelLocal && p.r == levelEach && c.alone(0, p.wZone) {
						continue
					}
					m := c.checkResize(t, p)
					sum.direct, sum.helped = sum.direct+m.direct, sum.helped+m.helped
				}
				c.checkKept(t, levelQuorum, "")
				c.checkKept(t, levelEach, "")
				for _, zone := range names {
					c.checkKept(t, levelLocal, zone)
				}
			}
			if sum.direct == 0 || sum.helped == 0 {
				t.Errorf("%d homes, grows %v: met %+v", n, grows, sum)
			}
			t.Logf("%d homes at most, grows %v: %d courses, %+v", n, grows, courses, sum)
		}
	}
}

// What a call asks for while a slot is added or taken away: of each row its own
// majority, and explicit numbers that both rows have.
func TestACallAsksBothRowsWhileTheNumberOfHomesChanges(t *testing.T) {
	five := []string{"", "", "", "", ""}
	for _, c := range []struct {
		zones  []string
		grows  bool
		phase  string
		level  uint8
		write  bool
		asks   string
		counts int // acknowledgements of seats 0.. that it takes
	}{
		{five[:4], true, "dual", levelQuorum, true, "", 3},
		{five[:4], true, "dual", levelQuorum, false, "", 2},
		{five[:4], true, "read-new", levelQuorum, false, "", 3},
		{five[:4], true, "dual", levelAll, true, "", 4},
		{five[:4], true, "dual", 4, true, "4 of 3 homes", 0},
		{five[:4], true, "read-new", 4, false, "4 of 3 homes", 0},
		{five[:4], true, "read-new", 1, false, "", 2},
		{five[:4], true, "read-new", levelAll, false, "", 4},
		{five[:4], true, "done", 4, true, "", 4},
		{five[:4], false, "dual", levelQuorum, false, "", 3},
		{five[:4], false, "dual", 4, true, "4 of 3 homes", 0},
		{five[:4], false, "dual", 4, false, "4 of 3 homes", 0},
		{five[:4], false, "dual", 3, true, "", 3},
		{five[:4], false, "done", levelQuorum, true, "", 2},
	} {
		course := resizeOf(t, c.zones, c.grows)
		r := map[string]*ring.Record{"dual": course.dual, "read-new": course.readNew, "done": course.done}[c.phase]
		s := SeatsOf(r, 0)
		tally, err := s.Read(c.level, "")
		if c.write {
			tally, err = s.Write(c.level, "")
		}
		if got := fmt.Sprint(err); err != nil && got != c.asks || err == nil && c.asks != "" {
			t.Errorf("%+v: %v", c, err)
		}
		if err != nil {
			continue
		}
		took, seats := 0, s.Len()
		for seat := seats - 1; seat >= 0 && tally.Result() != Met; seat-- {
			if tally.Wants(seat) {
				tally.Ack(seat)
				took++
			}
		}
		if tally.Result() != Met || took != c.counts {
			t.Errorf("%+v: %v after %d", c, tally.Result(), took)
		}
		readers := 0
		for seat := range seats {
			if s.Reads(seat) {
				readers++
			}
		}
		if readers != s.Readers() || len(s.Members()) != seats {
			t.Errorf("%+v: %d readers of %d seats, told are %d of %v", c, readers, seats, s.Readers(), s.Members())
		}
	}
}
