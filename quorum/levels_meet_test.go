package quorum

import (
	"fmt"
	"testing"
)

// ask is one level, of somebody in a zone.
type ask struct {
	level uint8
	zone  string
}

// kind is how the documents call a level.
func (a ask) kind() string {
	switch a.level {
	case levelLocal:
		return "local"
	case levelEach:
		return "each"
	case levelQuorum:
		return "quorum"
	case levelAll:
		return "all"
	}
	return "number"
}

// promised are the pairs of levels, one for writes and one for reads in either order, of
// which rpc/api and client say that reads see what was written.
func promised(a, b ask, zones []string) bool {
	in, majorities, n := map[string]int{}, 0, len(zones)
	for _, z := range zones {
		in[z]++
	}
	for _, homes := range in {
		majorities += Majority(homes)
	}
	// least is how many homes have it at the least.
	least := func(a ask) int {
		switch a.kind() {
		case "local":
			return Majority(in[a.zone])
		case "each":
			return majorities
		case "quorum":
			return Majority(n)
		case "all":
			return n
		}
		return int(a.level)
	}
	one := func(a, b ask) bool {
		switch a.kind() + " " + b.kind() {
		case "quorum quorum", "each each", "each quorum", "each local":
			return true
		case "local local":
			return a.zone == b.zone
		}
		counted := a.kind() == "number" || a.kind() == "all"
		return counted && least(a)+least(b) > n
	}
	return one(a, b) || one(b, a)
}

// The pairs of levels of which it is promised that reads see what was written are those
// of which they do: all numbers of homes to five, in up to three zones. Of every pair
// that is not promised there is a way to miss a write, but where the zones happen to be
// such that there is none.
func TestLevelsMeetExactlyWhereItIsPromised(t *testing.T) {
	lucky, pairs := map[string]int{}, map[string]int{}
	most := 5
	if long() {
		most = 6
	}
	for n := 1; n <= most; n++ {
		zones := make([]int, n+1)
		for more := true; more; more = nextZones(zones) {
			var names []string
			for _, z := range zones {
				names = append(names, fmt.Sprintf("z%d", z))
			}
			c := courseOf(t, names)
			homes := c.zones[:n]
			asks := asksOf(homes)
			for _, a := range asks {
				for _, b := range asks {
					w, r := c.least(c.idle, a.level, a.zone, true), c.least(c.idle, b.level, b.zone, false)
					if len(w) == 0 || len(r) == 0 {
						t.Fatalf("zones %q: %+v or %+v is refused", homes, a, b)
					}
					pair := a.kind() + " " + b.kind()
					switch meet := allMeet(w, r); {
					case promised(a, b, homes) && !meet:
						t.Fatalf("zones %q: reads at %+v miss writes at %+v", homes, b, a)
					case promised(a, b, homes):
					case meet:
						lucky[pair]++
					default:
						pairs[pair]++
					}
				}
			}
		}
	}
	for pair, times := range lucky {
		if pairs[pair] == 0 {
			t.Errorf("%s: met %d times, and never missed: it could be promised", pair, times)
		}
	}
}

// asksOf are all levels of some homes.
func asksOf(homes []string) (asks []ask) {
	for n := 1; n <= len(homes); n++ {
		asks = append(asks, ask{level: uint8(n)})
	}
	asks = append(asks, ask{level: levelQuorum}, ask{level: levelAll}, ask{level: levelEach})
	seen := map[string]bool{}
	for _, zone := range homes {
		if !seen[zone] {
			seen[zone] = true
			asks = append(asks, ask{levelLocal, zone})
		}
	}
	return asks
}

func allMeet(a, b []uint8) bool {
	for _, x := range a {
		for _, y := range b {
			if x&y == 0 {
				return false
			}
		}
	}
	return true
}

// A zone that is gone takes no quorum with it while what is left is one: with three
// homes in three zones, and never with two zones that have as many each.
func TestWhatIsLeftWithoutAZone(t *testing.T) {
	for _, c := range []struct {
		zones []string // of the homes
		gone  string
		done  map[uint8]bool // levels; local is of zone a
	}{
		{[]string{"a", "b", "c"}, "c", map[uint8]bool{levelQuorum: true, levelLocal: true, levelEach: false, 1: true, 2: true, 3: false}},
		{[]string{"a", "b", "c"}, "a", map[uint8]bool{levelQuorum: true, levelLocal: false, levelEach: false}},
		{[]string{"a", "a", "b", "b"}, "b", map[uint8]bool{levelQuorum: false, levelLocal: true, levelEach: false, 2: true, 3: false}},
		{[]string{"a", "a", "a", "b", "b", "b"}, "b", map[uint8]bool{levelQuorum: false, levelLocal: true, levelEach: false, 3: true, 4: false}},
		{[]string{"a", "a", "b", "b", "c", "c"}, "c", map[uint8]bool{levelQuorum: true, levelLocal: true, levelEach: false, levelAll: false}},
	} {
		course := courseOf(t, append(c.zones, "a"))
		s := SeatsOf(course.idle, 0)
		for level, want := range c.done {
			for _, make := range []func(uint8, string) (Tally, error){s.Read, s.Write} {
				tally, err := make(level, "a")
				if err != nil {
					t.Fatal(err)
				}
				for seat := range s.Len() {
					if s.zone(seat) == c.gone {
						tally.Fail(seat)
					} else {
						tally.Ack(seat)
					}
				}
				if got := tally.Result() == Met; got != want {
					t.Errorf("%q without %q, level %d: %v", c.zones, c.gone, level, tally.Result())
				}
			}
		}
	}
}

// Zones are what a tally has in each zone, in both rows while a slot moves, and an
// error names the one that lacks most.
func TestZonesTellWhatATallyHas(t *testing.T) {
	c := courseOf(t, []string{"a", "a", "b", "b"}) // to b, from the zone of slot 0
	ackAll := func(s *Seats, t *Tally, zone string) {
		for seat := range s.Len() {
			if s.zone(seat) == zone {
				t.Ack(seat)
			}
		}
	}
	s := SeatsOf(c.idle, 0)
	tally, err := s.Write(levelEach, "")
	if err != nil {
		t.Fatal(err)
	}
	ackAll(&s, &tally, "a")
	want := map[ZoneCount]bool{{"a", 2, 2, 2}: true, {"b", 1, 0, 1}: true}
	zones := s.Zones(&tally)
	if len(zones) != 2 || !want[zones[0]] || !want[zones[1]] {
		t.Errorf("zones %+v", zones)
	}
	if e := s.Unmet(&tally, "put", nil); e.Zone != "b" || e.Need != 1 || e.Slots != 1 || e.Got != 0 {
		t.Errorf("%+v", e)
	}
	if local, err := s.Read(levelLocal, "a"); err != nil || len(s.Zones(&local)) != 1 {
		t.Errorf("%+v, %v", s.Zones(&local), err)
	}
	plain, err := s.Write(levelQuorum, "")
	if err != nil || s.Zones(&plain) != nil || s.Unmet(&plain, "put", nil).Zone != "" {
		t.Errorf("%+v, %v", s.Zones(&plain), err)
	}
	if _, err := s.Read(levelLocal, "mars"); err == nil || err.Error() != `a quorum in zone "mars", where the partition has no home` {
		t.Errorf("a zone without homes: %v", err)
	}
	s = SeatsOf(c.dual, 0)
	if tally, err = s.Write(levelEach, ""); err != nil {
		t.Fatal(err)
	}
	for _, z := range s.Zones(&tally) {
		if z.Need != 2 || z.Got != 0 || z.Homes != 2 {
			t.Errorf("while a slot moves: %+v", z)
		}
	}
}

// Wants says who brings the tally nearer: nobody who has spoken, and nobody once the
// needs that it is in are met.
func TestATallyWantsWhoBringsItNearer(t *testing.T) {
	c := courseOf(t, []string{"a", "a", "b", "b", "b", "b"})
	s := SeatsOf(c.dual, 0)
	for _, level := range []uint8{1, 2, 3, 4, 5, levelQuorum, levelAll, levelLocal, levelEach} {
		start, err := s.Write(level, "b")
		if err != nil {
			t.Fatal(err)
		}
		for words := range 3 * 3 * 3 * 3 * 3 * 3 {
			tally := start
			for seat, w := 0, words; seat < s.Len(); seat, w = seat+1, w/3 {
				switch w % 3 {
				case 1:
					tally.Ack(seat)
				case 2:
					tally.Fail(seat)
				}
			}
			lacks := func(t Tally) (n int) {
				for _, need := range t.needs[:t.count] {
					n += max(0, int(need.least)-ones(need.seats&t.acked))
				}
				return n
			}
			for seat, w := 0, words; seat < s.Len(); seat, w = seat+1, w/3 {
				more := tally
				more.Ack(seat)
				if want := w%3 == 0 && lacks(more) < lacks(tally); tally.Wants(seat) != want {
					t.Fatalf("level %d, %+v: seat %d is wanted: %v", level, tally, seat, !want)
				}
				if none := start; none.Wants(seat) != start.Counts(seat) {
					t.Fatalf("level %d: seat %d counts: %v", level, seat, start.Counts(seat))
				}
			}
		}
	}
}
