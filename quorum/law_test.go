package quorum

import (
	"fmt"
	"slices"
	"testing"

	"github.com/kithdb/kith/ring"
)

// course is one move of slot 0 of the only partition, with a record for each of its
// stations. A member is its seat: the homes by slot, then the target.
type course struct {
	n       int
	members []ring.NodeID
	zones   []string
	idle    *ring.Record // also with the move in the queue
	dual    *ring.Record
	readNew *ring.Record
	done    *ring.Record
	back    *ring.Record
	aborted *ring.Record
}

func courseOf(t testing.TB, zones []string) *course {
	t.Helper()
	ok := func(r *ring.Record, err error) *ring.Record {
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	c := &course{n: len(zones) - 1, zones: zones}
	var members []ring.Member
	for i, zone := range zones {
		members = append(members, ring.Member{ID: ring.NodeID{byte(i + 1)}, Zone: zone})
	}
	r := ok(ring.Found(ring.ClusterID{1}, "law", members[0], 1, c.n))
	r = ok(r.WithTable(members[:c.n]))
	r = ok(r.WithJoin(members[c.n]))
	c.members = append(slices.Clone(r.Homes(0)), members[c.n].ID)
	// Seats follow the table's order, and zones the seats.
	c.zones = nil
	for _, id := range c.members {
		c.zones = append(c.zones, r.Member(id).Zone)
	}
	step := func(r *ring.Record, s ring.Step) *ring.Record {
		return ok(r.WithSteps([]ring.StepTo{{Partition: 0, Step: s}}))
	}
	c.idle = ok(r.WithMoves([]ring.Move{{To: members[c.n].ID}}))
	c.dual = step(c.idle, ring.StepDual)
	c.readNew = step(c.dual, ring.StepReadNew)
	c.done = step(c.readNew, ring.StepDone)
	c.back = step(c.readNew, ring.StepBack)
	c.aborted = step(c.back, ring.StepAbort)
	return c
}

// seatOf is a member's seat in the course.
func (c *course) seatOf(id ring.NodeID) int {
	for i, m := range c.members {
		if m == id {
			return i
		}
	}
	panic("no such member")
}

// least are the sets of members, each a bit for a seat of the course, with which a
// tally is met but without any one of them is not; nil if the level is refused.
func (c *course) least(r *ring.Record, level uint8, zone string, write bool) (sets []uint8) {
	s := SeatsOf(r, 0)
	tally, err := s.Read(level, zone)
	if write {
		tally, err = s.Write(level, zone)
	}
	if err != nil {
		return nil
	}
	return leastSets(len(c.members), func(set uint8) bool {
		t := tally
		for seat := range s.Len() {
			if set&(1<<c.seatOf(s.Member(seat))) != 0 {
				t.Ack(seat)
			}
		}
		return t.Result() == Met
	})
}

// pulled are the least sets of sources with which a step may be taken.
func (c *course) pulled(t testing.TB, r *ring.Record, s ring.Step) []uint8 {
	cond, err := r.Condition(0, s)
	if err != nil {
		t.Fatal(err)
	}
	return leastSets(len(c.members), func(set uint8) bool {
		known := ring.Pulled{By: cond.By, Since: cond.Since}
		for i, id := range c.members {
			if set&(1<<i) != 0 {
				known.From = append(known.From, id)
			}
		}
		return cond.Met(known)
	})
}

func leastSets(n int, met func(uint8) bool) (sets []uint8) {
next:
	for set := range uint8(1 << n) {
		if !met(set) {
			continue
		}
		for i := range n {
			if set&(1<<i) != 0 && met(set&^(1<<i)) {
				continue next
			}
		}
		sets = append(sets, set)
	}
	return sets
}

// strict is a pair of levels of which every read meets every write.
type strict struct {
	w, r         uint8
	wZone, rZone string
}

func (c *course) strictPairs() (pairs []strict) {
	for w := 1; w <= c.n; w++ {
		for r := c.n - w + 1; r <= c.n; r++ {
			pairs = append(pairs, strict{w: uint8(w), r: uint8(r)})
		}
	}
	seen := map[string]bool{}
	for _, zone := range c.zones {
		if !seen[zone] {
			seen[zone] = true
			pairs = append(pairs, strict{levelLocal, levelLocal, zone, zone}, strict{levelEach, levelLocal, "", zone}, strict{levelAll, levelLocal, "", zone})
			if c.n < 5 || long() {
				pairs = append(pairs, strict{levelLocal, levelEach, zone, ""}, strict{levelLocal, levelAll, zone, ""})
			}
		}
	}
	if c.n < 5 || long() {
		pairs = append(pairs, strict{w: levelQuorum, r: levelEach}, strict{w: levelEach, r: levelAll}, strict{w: levelAll, r: levelEach})
	}
	return append(pairs, strict{w: levelEach, r: levelEach}, strict{w: levelEach, r: levelQuorum}, strict{w: levelQuorum, r: levelQuorum})
}

// survives says that what these levels promise outlives an end of the move that is
// gone without having been pulled from: calls ask for a majority or more, and none
// in a zone where the slot is the only one.
func (c *course) survives(p strict, gone int) bool {
	alone := func(level uint8, zone string) bool {
		if level != levelLocal || zone != c.zones[gone] {
			return false
		}
		for _, other := range c.zones[1:c.n] {
			if other == zone {
				return false
			}
		}
		return true
	}
	fewer := func(level uint8) bool { return level <= ring.ReplicasMax && int(level) < Majority(c.n) }
	return !fewer(p.w) && !fewer(p.r) && !alone(p.w, p.wZone) && !alone(p.r, p.rZone)
}

// vacates says that the move takes the only home out of the zone whose quorum has the
// writes, of which reads then ask no home any more: no other zone owes it anything.
func (c *course) vacates(p strict) bool {
	if p.w != levelLocal || p.r != levelEach || c.zones[c.n] == p.wZone {
		return false
	}
	for seat, zone := range c.zones[:c.n] {
		if zone == p.wZone && seat != 0 {
			return false
		}
	}
	return c.zones[0] == p.wZone
}

// meeting counts how reads met writes.
type meeting struct{ direct, helped int }

// law checks that every read set of one record meets every set that a write, or an
// earlier read, of another one has: by a member of both, or by one of help. Each
// help is a set; it does if the sets meet it.
func (c *course) law(t *testing.T, what string, p strict, writes, reads []uint8, help func(a, b uint8) bool) (m meeting) {
	for _, a := range writes {
		for _, b := range reads {
			switch {
			case a&b != 0:
				m.direct++
			case help != nil && help(a, b):
				m.helped++
			default:
				t.Fatalf("%s: zones %q, levels %+v: what %03b have, %03b do not see", what, c.zones, p, a, b)
			}
		}
	}
	return m
}

// check goes through all pairs of records that may be used at the same time.
func (c *course) check(t *testing.T, p strict) (sum meeting) {
	from, to := uint8(1), uint8(1)<<c.n
	w := func(r *ring.Record) []uint8 { return c.least(r, p.w, p.wZone, true) }
	r := func(r *ring.Record) []uint8 { return c.least(r, p.r, p.rZone, false) }
	pairs := map[string][2][]uint8{
		"dual, idle": {w(c.dual), r(c.idle)}, "dual, dual": {w(c.dual), r(c.dual)}, "dual, read-new": {w(c.dual), r(c.readNew)},
		"read-new, dual": {w(c.readNew), r(c.dual)}, "read-new, read-new": {w(c.readNew), r(c.readNew)}, "read-new, done": {w(c.readNew), r(c.done)},
		"read-new, back": {w(c.readNew), r(c.back)}, "back, read-new": {w(c.back), r(c.readNew)}, "back, back": {w(c.back), r(c.back)},
		"back, aborted": {w(c.back), r(c.aborted)}, "dual, aborted": {w(c.dual), r(c.aborted)}, "read-new, aborted": {w(c.readNew), r(c.aborted)},
		"idle, dual": {w(c.idle), r(c.dual)}, "idle, back": {w(c.idle), r(c.back)}, "dual, done": {w(c.dual), r(c.done)}, "done, read-new": {w(c.done), r(c.readNew)},
	}
	add := func(m meeting) { sum.direct, sum.helped = sum.direct+m.direct, sum.helped+m.helped }
	for what, sets := range pairs {
		add(c.law(t, what, p, sets[0], sets[1], nil))
	}
	usable := func(sets []uint8, before uint8) (out []uint8) {
		for _, s := range sets {
			if s&before != 0 || c.survives(p, first(before)) {
				out = append(out, s)
			}
		}
		return out
	}
	for _, pull := range usable(c.pulled(t, c.dual, ring.StepReadNew), from) {
		// What was written before the move, the target has pulled.
		got := func(a, b uint8) bool { return b&to != 0 && a&pull != 0 }
		add(c.law(t, "idle, read-new", p, w(c.idle), r(c.readNew), got))
		add(c.law(t, "idle, done", p, w(c.idle), r(c.done), got))
	}
	for _, pull := range usable(c.pulled(t, c.readNew, ring.StepDone), from) {
		// Sources are fenced: they answer no read that is older.
		fenced := func(a, b uint8) bool { return b&pull != 0 }
		add(c.law(t, "done, dual", p, w(c.done), r(c.dual), fenced))
		add(c.law(t, "done, idle", p, w(c.done), r(c.idle), fenced))
		// What a read has shown, the target has pulled again before it answers.
		got := func(a, b uint8) bool { return b&to != 0 && a&pull != 0 }
		if c.sees(p) {
			add(c.law(t, "read in dual, read-new", p, r(c.dual), r(c.readNew), got))
			add(c.law(t, "read in idle, done", p, r(c.idle), r(c.done), got))
		}
	}
	for _, pull := range usable(c.pulled(t, c.back, ring.StepAbort), to) {
		fenced := func(a, b uint8) bool { return b&pull != 0 }
		add(c.law(t, "aborted, read-new", p, w(c.aborted), r(c.readNew), fenced))
		got := func(a, b uint8) bool { return b&from != 0 && a&pull != 0 }
		if c.sees(p) {
			add(c.law(t, "read in read-new, back", p, r(c.readNew), r(c.back), got))
			add(c.law(t, "read in read-new, aborted", p, r(c.readNew), r(c.aborted), got))
		}
	}
	return sum
}

// sees says that any two reads of that level meet: then they never go backwards.
func (c *course) sees(p strict) bool {
	return p.r == levelLocal || p.r == levelQuorum || p.r == levelEach || 2*int(p.r) > c.n
}

// Every read that begins after a write was acknowledged, at whatever record either
// uses, meets it in a home that may answer for it. All numbers of homes to five, all
// phases, all levels that promise it, all zones of the members; but for what vacates
// says.
func TestEveryReadMeetsEveryWriteInEveryPhase(t *testing.T) {
	for n := 1; n <= homesMost; n++ {
		var sum meeting
		courses, zones := 0, make([]int, n+1)
		for more := true; more; more = nextZones(zones) {
			var names []string
			for _, z := range zones {
				names = append(names, fmt.Sprintf("z%d", z))
			}
			c := courseOf(t, names)
			courses++
			for _, p := range c.strictPairs() {
				if c.vacates(p) {
					continue
				}
				m := c.check(t, p)
				sum.direct, sum.helped = sum.direct+m.direct, sum.helped+m.helped
			}
		}
		// The fences matter: without what was pulled, some would not meet.
		if sum.direct == 0 || sum.helped == 0 {
			t.Errorf("%d homes: met %+v", n, sum)
		}
		t.Logf("%d homes: %d courses, %+v", n, courses, sum)
	}
}

// nextZones counts through all ways to put members into up to three zones, where
// a zone's name does not matter: a new one is the least that is free.
func nextZones(zones []int) bool {
	for i := len(zones) - 1; i > 0; i-- {
		most := 0
		for _, z := range zones[:i] {
			most = max(most, z+1)
		}
		if zones[i] < min(most, 2) {
			zones[i]++
			clear(zones[i+1:])
			return true
		}
	}
	return false
}
