package quorum

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kithdb/kith/ring"
)

// resizing is a model in which the number of homes goes from one to another, at levels
// that promise that a read meets every write with either.
func resizing(from, to int, w, r uint8) *search {
	s := &search{name: fmt.Sprintf("%d to %d homes, W=%d, R=%d", from, to, w, r), homes: from, to: to, w: w, r: r, aborts: 1}
	for n := from; n < to; n++ {
		var grow []ring.Move
		for target := from; target < to; target++ {
			grow = append(grow, ring.Move{Slot: uint8(n), To: modelMember(target)})
		}
		s.moves = append(s.moves, grow)
	}
	for n := from; n > to; n-- {
		var shrink []ring.Move
		for slot := range n {
			shrink = append(shrink, ring.Move{Slot: uint8(slot)})
		}
		s.moves = append(s.moves, shrink)
	}
	return s
}

// andThen is a model in which a slot moves to somebody else once there are as many homes
// as there are to be.
func (s *search) andThen() *search {
	s.more, s.name = 1, s.name+", and then a move"
	var moves []ring.Move
	for slot := range s.to {
		moves = append(moves, ring.Move{Slot: uint8(slot), To: modelMember(max(s.homes, s.to))})
	}
	s.moves = append(s.moves, moves)
	return s
}

// newcomers are how many members are no homes in the beginning.
func (s *search) newcomers() int {
	if s.to > 0 {
		return max(0, s.to-s.homes) + s.more
	}
	return len(s.moves)
}

const (
	one = uint8(1)
	all = uint8(levelAll)
	maj = uint8(levelQuorum)
)

// Whatever is lost, late, repeated or turned back while a slot is added or taken away:
// what was acknowledged is read, and what was read is read again.
func TestOtherNumbersOfHomesLoseNothingInAnyHistory(t *testing.T) {
	var searches []*search
	for n := 1; n <= 3; n++ {
		for _, levels := range [][2]uint8{{maj, maj}, {one, all}, {all, one}} {
			for _, s := range []*search{resizing(n, n+1, levels[0], levels[1]), resizing(n+1, n, levels[0], levels[1])} {
				s.direct = levels[0] != maj
				searches = append(searches, s)
			}
		}
		for _, s := range []*search{resizing(n, n+1, maj, maj), resizing(n+1, n, maj, maj)} {
			s.shown, s.name = true, "what a read has shown: "+s.name
			searches = append(searches, s)
		}
		for _, s := range []*search{resizing(n, n+1, maj, maj).andThen(), resizing(n+1, n, maj, maj).andThen()} {
			s.aborts = 0
			searches = append(searches, s)
		}
	}
	for _, s := range searches {
		states, story, whole := s.exhaust(t, limit()/5)
		t.Logf("%s: %d states, all: %v", s.name, states, whole)
		if story != nil {
			t.Errorf("%s:\n\t%s", s.name, strings.Join(story, "\n\t"))
		}
		if (!raced && s.homes+s.to <= 3 && s.more == 0 || long() && s.homes+s.to <= 5) && !whole {
			t.Errorf("%s: not all states were seen", s.name)
		}
	}
}

// Several slots, one after the other, each turned back now and then; a retry, and
// requests while the move is only queued.
func TestOtherNumbersOfHomesLoseNothingInLongHistories(t *testing.T) {
	walks := walksOf(60, 50_000)
	for seed, s := range []*search{
		resizing(1, 3, maj, maj), resizing(3, 1, maj, maj), resizing(3, 5, maj, maj), resizing(5, 3, maj, maj),
		resizing(1, 3, all, one), resizing(3, 1, one, all), resizing(3, 5, one, all), resizing(5, 3, all, one),
		resizing(2, 3, maj, maj).andThen(), resizing(3, 2, maj, maj).andThen(), resizing(3, 1, maj, maj).andThen(), resizing(5, 4, maj, maj).andThen(),
	} {
		for _, shown := range []bool{false, true} {
			if shown && s.r != maj {
				continue
			}
			s.shown, s.direct, s.aborts, s.retry, s.queued = shown, s.w != maj, 2, true, true
			kept, story := s.walk(t, walks, uint64(seed))
			if story != nil {
				t.Errorf("%s:\n\t%s", s.name, strings.Join(story, "\n\t"))
			}
			if kept < walks/30 {
				t.Errorf("%s: the write was kept in %d of %d histories only", s.name, kept, walks)
			}
		}
	}
}

// With any one of the rules left out, the same search finds the loss. Majorities of n
// and of n+1 meet by themselves: but for the needs of both rows, the rules are for
// other levels.
func TestOtherNumbersOfHomesLoseSomethingWithoutAnyOneOfTheirRules(t *testing.T) {
	without := func(name string, s *search, change func(s *search)) *search {
		s.name = name + ": " + s.name
		s.direct = s.w != maj
		change(s)
		return s
	}
	for _, s := range []*search{
		without("the needs of both rows", resizing(2, 3, 2, 2), func(s *search) { s.noPair = true }),
		without("what a new slot pulls", resizing(1, 2, all, one), func(s *search) { s.noPulls = true }),
		without("what an old slot leaves behind", resizing(2, 1, one, all), func(s *search) { s.noPulls = true }),
		without("the first fence of a new slot", resizing(1, 2, all, one), func(s *search) { s.pullUnfenced = true }),
		without("the first fence of an old slot", resizing(2, 1, one, all), func(s *search) { s.pullUnfenced = true }),
		without("the second fence of a new slot", resizing(1, 2, one, all), func(s *search) { s.noSecondFence = true }),
		without("both rows of a read before a slot is there", resizing(2, 3, maj, maj), func(s *search) { s.readOneRow, s.shown = true, true }),
		without("the fence of writes", resizing(1, 2, all, one), func(s *search) { s.writeUnfenced = true }),
		without("the fence of reads", resizing(2, 1, all, one), func(s *search) { s.readUnfenced = true }),
		without("a tally for each epoch", resizing(2, 3, maj, maj), func(s *search) { s.retry, s.keepAcks = true, true }),
	} {
		states, story, _ := s.exhaust(t, 2_000_000)
		if story == nil {
			t.Errorf("without %s: no loss in %d states", s.name, states)
			continue
		}
		t.Logf("without %s: a loss in %d steps, after %d states", s.name, len(story), states)
	}
}

// What is missed only after another move is found on long ways: here with one slot that
// is taken away, and one that moves then.
func TestWhatHomesLeaveBehindIsMissedAfterTheNextMove(t *testing.T) {
	for what, change := range map[string]func(s *search){
		"a majority that has what an old slot had":    func(s *search) { s.oneGot = true },
		"both rows of a read before the slot is gone": func(s *search) { s.readOneRow, s.shown = true, true },
		"nothing":                           func(s *search) {},
		"nothing, of what a read has shown": func(s *search) { s.shown = true },
	} {
		s := resizing(3, 2, maj, maj).andThen()
		s.aborts, s.moves = 0, [][]ring.Move{{{Slot: 0}}, {{Slot: 0, To: modelMember(3)}}}
		change(s)
		if s.shown && !s.readOneRow && !long() || raced && !s.oneGot {
			continue
		}
		states, story, _ := s.exhaust(t, 3_000_000)
		if rule := s.oneGot || s.readOneRow; rule != (story != nil) {
			t.Errorf("without %s: %d states, %s", what, states, strings.Join(story, "\n\t"))
			continue
		}
		t.Logf("without %s: %d states, a loss in %d steps", what, states, len(story))
	}
}
