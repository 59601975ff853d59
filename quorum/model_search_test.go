package quorum

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/kithdb/kith/ring"
)

// exhaust goes through all that can happen, shortest histories first, up to a number
// of states. It gives the story of a broken promise, and whether nothing was left.
func (s *search) exhaust(t testing.TB, limit int) (states int, story []string, all bool) {
	s.prepare(t)
	seen := map[state]struct{}{{}: {}}
	list, parent := []state{{}}, []int32{-1}
	var edges []edge
	for i := 0; i < len(list); i++ {
		var broken func() string
		if edges, broken = s.next(list[i], edges[:0]); broken != nil {
			var back []int32
			for k := int32(i); k >= 0; k = parent[k] {
				back = append(back, k)
			}
			for k := len(back) - 1; k > 0; k-- {
				story = append(story, s.word(list[back[k]], list[back[k-1]]))
			}
			return len(list), append(story, broken()), false
		}
		for _, e := range edges {
			if _, ok := seen[e.to]; !ok {
				seen[e.to] = struct{}{}
				list, parent = append(list, e.to), append(parent, int32(i))
			}
		}
		if len(list) > limit {
			return len(list), nil, false
		}
	}
	return len(list), nil, true
}

// word says what leads from one state to the next.
func (s *search) word(from, to state) string {
	edges, _ := s.next(from, nil)
	for _, e := range edges {
		if e.to == to {
			return e.what()
		}
	}
	panic("model: no way leads there")
}

// walk follows random histories, far longer than those that can be gone through
// exhaustively. It counts those in which the write was kept.
func (s *search) walk(t testing.TB, walks int, seed uint64) (kept int, story []string) {
	s.prepare(t)
	r := rand.New(rand.NewPCG(seed, 7))
	var edges, mine []edge
	for range walks {
		if len(s.paths) > 30_000 {
			s.prepare(t)
		}
		var now state
		trail := []state{now}
		wait := r.IntN(60) // the requests mostly wait that long
		for k := range 110 {
			var broken func() string
			if edges, broken = s.next(now, edges[:0]); broken != nil {
				for i := range trail[1:] {
					story = append(story, s.word(trail[i], trail[i+1]))
				}
				return kept, append(story, broken())
			}
			kind := "eyyaaawwwrrrr"[r.IntN(13)]
			if (kind == 'w' || kind == 'r') && k < wait && r.IntN(10) > 0 {
				continue
			}
			mine = mine[:0]
			for _, e := range edges {
				if e.kind == kind {
					mine = append(mine, e)
				}
			}
			if len(mine) > 0 {
				now = mine[r.IntN(len(mine))].to
				trail = append(trail, now)
			}
		}
		if now.kept {
			kept++
		}
	}
	return kept, nil
}

func modelMember(i int) ring.NodeID { return ring.NodeID{byte(i + 1)} }

// oneMove is of the last slot, to the first target.
func oneMove(homes int) [][]ring.Move {
	return [][]ring.Move{{{Slot: uint8(homes - 1), To: modelMember(homes)}}}
}

// twoMoves are that and then one of any slot to anybody who is no home.
func twoMoves(homes int) [][]ring.Move {
	var second []ring.Move
	for slot := range homes {
		for to := range homes + 2 { // the targets are two
			second = append(second, ring.Move{Slot: uint8(slot), To: modelMember(to)})
		}
	}
	return append(oneMove(homes), second)
}

// anyMove is of any slot, to the first target.
func anyMove(homes int) [][]ring.Move {
	var moves []ring.Move
	for slot := range homes {
		moves = append(moves, ring.Move{Slot: uint8(slot), To: modelMember(homes)})
	}
	return [][]ring.Move{moves}
}

// inZones are moves between zones a and b, of two homes each, of any slot to a member of
// a zone.
func inZones(name string, w, r uint8, to string) *search {
	return with(name+", to zone "+to, func(s *search) {
		s.homes, s.w, s.r, s.zones, s.in, s.moves = 4, w, r, "aabb"+to, "a", anyMove(4)
	})
}

func long() bool { return os.Getenv("KITH_LONG") != "" }

// limit bounds a search that need not come to its end.
func limit() int {
	switch {
	case long():
		return 8_000_000 // some GB
	case raced:
		return 25_000
	}
	return 250_000
}

// walksOf is how many random histories are followed: few, or many in a long run.
func walksOf(few, many int) int {
	switch {
	case long():
		return many
	case raced:
		return few / 4
	}
	return few
}

// base is one move between three homes, at quorum, that may be turned back once.
func base(name string) *search {
	return &search{name: name, homes: 3, w: 2, r: 2, moves: oneMove(3), aborts: 1}
}

func with(name string, change func(s *search)) *search {
	s := base(name)
	change(s)
	return s
}

func shown(name string, change func(s *search)) *search {
	return with("what a read has shown: "+name, func(s *search) { s.shown = true; change(s) })
}

// Whatever is lost, late, repeated or turned back while a slot moves: what was
// acknowledged is read, and what was read is read again.
func TestMovesLoseNothingInAnyHistory(t *testing.T) {
	for _, s := range []*search{
		base("quorums"),
		with("one home", func(s *search) { s.homes, s.w, s.r, s.moves = 1, 1, 1, oneMove(1) }),
		with("two homes", func(s *search) { s.homes, s.moves = 2, oneMove(2) }),
		with("one reads, all write", func(s *search) { s.w, s.r, s.direct = 3, 1, true }),
		with("one writes, all read", func(s *search) { s.w, s.r, s.direct = 1, 3, true }),
		with("a retry at another epoch", func(s *search) { s.retry = true }),
		with("requests while it is queued", func(s *search) { s.queued = true }),
		with("two moves", func(s *search) { s.moves, s.aborts = twoMoves(3), 0 }),
		shown("quorums", func(s *search) {}),
		shown("one home", func(s *search) { s.homes, s.w, s.r, s.moves = 1, 1, 1, oneMove(1) }),
		shown("two homes", func(s *search) { s.homes, s.moves = 2, oneMove(2) }),
	} {
		states, story, all := s.exhaust(t, limit())
		t.Logf("%s: %d states, all: %v", s.name, states, all)
		if story != nil {
			t.Errorf("%s:\n\t%s", s.name, strings.Join(story, "\n\t"))
		}
		if must := !raced && (s.homes < 3 || s.name == "quorums") || long() && s.name != "two moves"; must && !all {
			t.Errorf("%s: not all states were seen", s.name)
		}
	}
}

// The same with quorums in zones: in the zone of the slot that moves, in another one, and
// in the zone that it moves to.
func TestMovesLoseNothingInZones(t *testing.T) {
	for _, s := range []*search{
		inZones("local-quorum", levelLocal, levelLocal, "a"),
		inZones("local-quorum", levelLocal, levelLocal, "b"),
		inZones("each-quorum is read at local-quorum", levelEach, levelLocal, "a"),
		inZones("each-quorum is read at local-quorum", levelEach, levelLocal, "b"),
		inZones("local-quorum is read at each-quorum", levelLocal, levelEach, "a"),
		inZones("each-quorum is read at quorum", levelEach, levelQuorum, "b"),
	} {
		states, story, all := s.exhaust(t, limit()/3)
		t.Logf("%s: %d states, all: %v", s.name, states, all)
		if story != nil {
			t.Errorf("%s:\n\t%s", s.name, strings.Join(story, "\n\t"))
		}
	}
	walks := walksOf(100, 50_000)
	for seed, s := range []*search{
		{name: "local-quorum", w: levelLocal, r: levelLocal},
		{name: "each-quorum is read at local-quorum", w: levelEach, r: levelLocal},
		{name: "local-quorum is read at each-quorum", w: levelLocal, r: levelEach},
		{name: "what local-quorum has shown", w: levelLocal, r: levelLocal, shown: true},
	} {
		s.homes, s.zones, s.in, s.moves, s.aborts, s.retry, s.queued = 4, "aabbab", "a", twoMoves(4), 2, true, true
		kept, story := s.walk(t, walks, uint64(seed))
		if story != nil {
			t.Errorf("%s:\n\t%s", s.name, strings.Join(story, "\n\t"))
		}
		if kept < walks/50 {
			t.Errorf("%s: the write was kept in %d of %d histories only", s.name, kept, walks)
		}
	}
}

// A quorum in a zone with one home is that home. While it is there and is pulled from, its
// slot moves without a loss; where others stand for it, because it is away, what it alone
// has is lost, as at any level below a majority.
func TestAQuorumOfOneHomeLastsAsLongAsThatHome(t *testing.T) {
	s := with("local-quorum of one home", func(s *search) {
		s.homes, s.w, s.r, s.zones, s.in, s.moves = 3, levelLocal, levelLocal, "abba", "a", anyMove(3)
	})
	if _, story, _ := s.exhaust(t, 250_000); story == nil {
		t.Error("a home that is away was not missed")
	}
	s.direct = true
	states, story, _ := s.exhaust(t, limit())
	t.Logf("%d states", states)
	if story != nil {
		t.Errorf("it was there:\n\t%s", strings.Join(story, "\n\t"))
	}
}

// With any one of the rules left out, the same search finds the loss.
func TestMovesLoseSomethingWithoutAnyOneOfTheirRules(t *testing.T) {
	for i, s := range []*search{
		with("the pair rule", func(s *search) { s.noPair = true }),
		with("the first fence", func(s *search) { s.pullUnfenced = true }),
		with("enough sources", func(s *search) { s.oneOther = true }),
		with("the second fence", func(s *search) { s.noSecondFence = true }),
		with("the way back from READ_NEW", func(s *search) { s.abortStraight = true }),
		with("a new SYNC after an abort", func(s *search) { s.notesSurvive = true }),
		with("a target that holds the phase", func(s *search) { s.targetBlind = true }),
		with("the fence of writes", func(s *search) { s.writeUnfenced = true }),
		with("the fence of reads", func(s *search) { s.readUnfenced = true }),
		with("the fence of writes at their effect", func(s *search) { s.writeArrival = true }),
		with("the fence of reads at their effect", func(s *search) { s.readArrival = true }),
		with("adoption before service", func(s *search) { s.noAdopt = true }),
		with("a tally for each epoch", func(s *search) { s.retry, s.keepAcks = true, true }),
		with("durable fences", func(s *search) { s.fenceVolatile = true }),
		with("fences that outlive the data", func(s *search) { s.fenceDropped = true }),
		shown("answers after the second pull only", func(s *search) { s.answersEarly = true }),
		shown("the fence of what is written back", func(s *search) { s.backUnfenced = true }),
		shown("both rows for what is written back", func(s *search) { s.backOneRow = true }),
	} {
		if raced && i%5 != 0 {
			continue
		}
		states, story, _ := s.exhaust(t, 4_000_000)
		if story == nil {
			t.Errorf("without %s: no loss in %d states", s.name, states)
			continue
		}
		t.Logf("without %s: a loss in %d steps, after %d states:\n\t%s", s.name, len(story), states, strings.Join(story, "\n\t"))
	}
}

// Random histories are far longer: two moves, of other slots, back and forth, each
// turned back now and then, of up to five homes.
func TestMovesLoseNothingInLongHistories(t *testing.T) {
	walks := walksOf(400, 100_000)
	for seed, s := range []*search{
		{name: "quorums", homes: 3, w: 2, r: 2},
		{name: "one reads, all write", homes: 3, w: 3, r: 1, direct: true},
		{name: "one writes, all read", homes: 3, w: 1, r: 3, direct: true},
		{name: "five homes", homes: 5, w: 3, r: 3},
		{name: "what a read has shown", homes: 3, w: 2, r: 2, shown: true},
		{name: "what a read has shown, five homes", homes: 5, w: 3, r: 3, shown: true},
	} {
		s.moves, s.aborts, s.retry, s.queued = twoMoves(s.homes), 2, true, true
		kept, story := s.walk(t, walks, uint64(seed))
		if story != nil {
			t.Errorf("%s:\n\t%s", s.name, strings.Join(story, "\n\t"))
		}
		if kept < walks/20 {
			t.Errorf("%s: the write was kept in %d of %d histories only", s.name, kept, walks)
		}
	}
}
