package quorum

import (
	"fmt"
	"slices"
	"testing"

	"github.com/kithdb/kith/ring"
)

// This is a model of one partition while its slots move, in which everything may
// happen at any time: records are decided, members adopt them, pull, crash and drop,
// a write and reads at any record that was ever decided are delivered or never. It
// runs the functions that production runs: who is asked, what counts, what must be
// known before a step, who keeps and who drops, who answers.
//
// Merging is a union and writes have nothing to do with one another, so that one
// write and two reads are enough. Broken is a history in which a read that began
// after the write was acknowledged, or after another read has shown it, does not
// show it. A member that is slow, cut off or dead is one whose steps are not taken.

// rules leaves out, or breaks, one of the rules. The zero value is production.
type rules struct {
	noPair        bool // a write counts by one row only
	pullUnfenced  bool // a source answers a pull without adopting its epoch
	oneOther      bool // any one home of another slot will do as a source
	noPulls       bool // nobody needs to have pulled anything
	oneGot        bool // one home that has pulled is enough where a slot is taken away
	readOneRow    bool // reads need one row only in any phase
	noSecondFence bool // DONE without a pull under READ_NEW
	abortStraight bool // READ_NEW is aborted without the fence of BACK
	notesSurvive  bool // a note of what was pulled counts in any later phase
	targetBlind   bool // the target pulls before it has adopted the phase
	writeArrival  bool // the fence is checked when a write arrives, not when it commits
	readArrival   bool // the fence is checked when a read arrives, not when it is answered
	writeUnfenced bool // writes are not checked at all
	readUnfenced  bool // reads are not checked at all
	noAdopt       bool // a newer request is served without adopting its record
	keepAcks      bool // a retry at a newer epoch keeps the acks of the older one
	fenceVolatile bool // a crash forgets what was adopted
	fenceDropped  bool // dropping the partition forgets its fence
	answersEarly  bool // who takes reads over answers before it has pulled
	backUnfenced  bool // what a read writes back is not checked
	backOneRow    bool // what a read writes back counts by the row that it asks
}

// search is a model with its numbers: how many homes, which levels, which moves.
type search struct {
	rules
	name     string
	homes    int
	to       int // how many homes there are to be, by moves that add a slot or take one away; 0 for as many
	more     int // members that are no homes before that is done
	w, r     uint8
	zones    string        // of the members, a letter each; empty for none
	in       string        // the zone of the reader and the writer
	moves    [][]ring.Move // what may be moved first, second, and so on
	aborts   uint8         // how often moves may be turned back
	retry    bool          // the write is sent once more, at another epoch
	queued   bool          // records in which a move is only queued are used, too
	shown    bool          // the promise is about what a read has shown, not about an acknowledged write
	direct   bool          // sources are the ends of the move only: what lesser levels than majorities need
	members  []ring.NodeID
	stations []*station
	byDigest map[string]uint16
	paths    [][]uint16 // histories: the stations that were decided, in order
	pathOf   map[string]uint16
	turns    map[uint16][]turn
	dropped  map[[3]uint16]bool
}

// station is one record, and what production says of it, for sets of members.
type station struct {
	record  *ring.Record
	since   uint64
	writes  [256]bool // acknowledged by these, a write counts
	reads   [256]bool
	backs   [256]bool // committed by these, what a read writes back counts
	writers uint8     // who is asked by a write
	readers uint8     // who is asked by a read
	holds   uint8     // who keeps the partition
	answers uint8     // who may answer reads without having pulled anything
	queued  bool      // its move changes nothing yet
	pullers uint8     // who pulls before the next step: any one of them
	pulled  [membersMax][256]bool
	sources uint8
}

// turn is a way in which a history may go on.
type turn struct {
	name   string
	path   uint16
	by     int  // who must have pulled what must have been pulled; -1 for anybody of whom it is asked
	begins int  // the number of the move that begins; -1 for other turns
	pulls  bool // what must have been pulled must have been
	aborts bool // it counts as one of the aborts
	ends   bool // the move has ended in an abort and may be tried again
}

func (s *search) prepare(t testing.TB) {
	t.Helper()
	var members []ring.Member
	for i := range s.homes + s.newcomers() {
		m := ring.Member{ID: modelMember(i)}
		if s.zones != "" {
			m.Zone = s.zones[i : i+1]
		}
		members = append(members, m)
	}
	r, err := ring.Found(ring.ClusterID{1}, "model", members[0], 1, s.homes)
	if err == nil {
		r, err = r.WithTable(members[:s.homes])
	}
	for _, m := range members[s.homes:] {
		if err == nil {
			r, err = r.WithJoin(m)
		}
	}
	if err == nil && s.to != 0 {
		r, err = r.WithReplicas(s.to)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.members = slices.Clone(r.Homes(0))
	for _, m := range members[s.homes:] {
		s.members = append(s.members, m.ID)
	}
	s.stations, s.paths = nil, nil
	s.byDigest, s.pathOf = map[string]uint16{}, map[string]uint16{}
	s.turns, s.dropped = map[uint16][]turn{}, map[[3]uint16]bool{}
	s.path([]uint16{s.station(r)})
}

func (s *search) index(id ring.NodeID) int { return slices.Index(s.members, id) }

func (s *search) bit(id ring.NodeID) uint8 { return 1 << s.index(id) }

// path interns a history.
func (s *search) path(stations []uint16) uint16 {
	key := fmt.Sprint(stations)
	id, ok := s.pathOf[key]
	if !ok {
		id = uint16(len(s.paths))
		s.paths = append(s.paths, stations)
		s.pathOf[key] = id
	}
	return id
}

// station interns a record.
func (s *search) station(r *ring.Record) uint16 {
	digest := r.Digest()
	if i, ok := s.byDigest[string(digest[:])]; ok {
		return i
	}
	st := &station{record: r, since: r.Since[0]}
	if m := r.MoveOf(0); m != nil {
		st.queued = m.Phase == ring.PhasePlan
	}
	seats := SeatsOf(r, 0)
	for seat := range seats.Len() {
		st.writers |= s.bit(seats.Member(seat))
		if seats.Reads(seat) {
			st.readers |= s.bit(seats.Member(seat))
		}
	}
	for i, id := range s.members {
		if r.Holds(0, id) {
			st.holds |= 1 << i
		}
		if r.Answers(0, id, ring.Pulled{}) {
			st.answers |= 1 << i
		}
	}
	s.tallies(st, &seats)
	s.pulls(st)
	s.stations = append(s.stations, st)
	s.byDigest[string(digest[:])] = uint16(len(s.stations) - 1)
	return uint16(len(s.stations) - 1)
}

func (s *search) tallies(st *station, seats *Seats) {
	tally := func(make func(uint8, string) (Tally, error), level uint8) Tally {
		t, err := make(level, s.in)
		if err != nil && level != levelLocal {
			panic(err)
		}
		return t // of a zone without homes: never met
	}
	write, read, back := tally(seats.Write, s.w), tally(seats.Read, s.r), tally(seats.Write, s.r)
	if s.backOneRow {
		back = read
	}
	if s.readOneRow {
		read = Tally{}
		if err := seats.demand(&read, seats.reading(), s.r, s.in); err != nil {
			panic(err)
		}
	}
	if s.noPair {
		write = Tally{}
		write.add(seats.reading(), int(s.w))
	}
	for set := range 256 {
		w, r, b := write, read, back
		for seat := range seats.Len() {
			if uint8(set)&s.bit(seats.Member(seat)) != 0 {
				w.Ack(seat)
				r.Ack(seat)
				b.Ack(seat)
			}
		}
		st.writes[set], st.reads[set], st.backs[set] = w.Result() == Met, r.Result() == Met, b.Result() == Met
	}
}

// pulls finds out who must have pulled from whom before the next step that asks
// for it.
func (s *search) pulls(st *station) {
	m := st.record.MoveOf(0)
	if m == nil || m.Phase == ring.PhasePlan {
		return
	}
	step, before := ring.StepReadNew, m.From
	switch m.Phase {
	case ring.PhaseReadNew:
		step = ring.StepDone
	case ring.PhaseBack:
		step, before = ring.StepAbort, m.To
	}
	if m.Shrinks() {
		for slot, id := range st.record.Homes(0) {
			if id != m.From {
				s.pullsBy(st, id, ring.StepGot+ring.Step(slot), m.From)
			}
		}
		return
	}
	if m.Grows() && m.Phase == ring.PhaseReadNew {
		before = ring.NodeID{}
	}
	c, err := st.record.Condition(0, step)
	if err != nil {
		panic(err)
	}
	s.pullsBy(st, c.By, step, before)
}

// pullsBy finds out from whom one member must have pulled before a step; before is the
// end of the move that lesser levels ask for.
func (s *search) pullsBy(st *station, by ring.NodeID, step ring.Step, before ring.NodeID) {
	m := st.record.MoveOf(0)
	c, err := st.record.Condition(0, step)
	if err != nil {
		panic(err)
	}
	st.pullers |= s.bit(by)
	for set := range 256 {
		known, others := ring.Pulled{By: by, Since: c.Since}, 0
		for i, id := range s.members {
			if set&(1<<i) != 0 {
				known.From = append(known.From, id)
				if !slices.Contains([]ring.NodeID{m.From, m.To}, id) {
					others++
				}
			}
		}
		direct := !s.direct || before.IsZero() || slices.Contains(known.From, before)
		st.pulled[s.index(by)][set] = c.Met(known) && direct || s.oneOther && others > 0 || s.noPulls || s.oneGot && m.Got != 0
	}
	for _, id := range c.Sources(ring.Pulled{By: by}) {
		st.sources |= s.bit(id)
	}
}

// turnsOf are the ways in which a history may go on.
func (s *search) turnsOf(path uint16) []turn {
	if ts, ok := s.turns[path]; ok {
		return ts
	}
	var ts []turn
	stations := s.paths[path]
	tip := s.stations[stations[len(stations)-1]].record
	on := func(t turn, steps ...ring.Step) {
		r, all := tip, slices.Clone(stations)
		for _, step := range steps {
			var err error
			if r, err = r.WithSteps([]ring.StepTo{{Partition: 0, Step: step}}); err != nil {
				panic(err)
			}
			all = append(all, s.station(r))
		}
		t.path, t.begins = s.path(all), -1
		ts = append(ts, t)
	}
	got := func(t turn, step ring.Step) {
		if _, err := tip.Condition(0, step); err == nil {
			on(t, step)
		}
	}
	m := tip.MoveOf(0)
	switch {
	case m == nil, m.Phase == ring.PhasePlan:
		ts = s.begins(tip, stations)
	case m.Shrinks():
		for slot, id := range tip.Homes(0) {
			if m.Got&(1<<slot) == 0 {
				got(turn{name: fmt.Sprintf("%c has pulled", s.letter(id)), pulls: true, by: s.index(id)}, ring.StepGot+ring.Step(slot))
			}
		}
		if c, err := tip.Condition(0, ring.StepDone); err == nil && len(c.Any) > 0 {
			on(turn{name: "DONE", by: -1}, ring.StepDone)
		}
		on(turn{name: "ABORT", aborts: true, ends: true, by: -1}, ring.StepAbort)
	case m.Grows() && m.Phase == ring.PhaseReadNew:
		on(turn{name: "DONE", pulls: !s.noSecondFence, by: -1}, ring.StepDone)
		on(turn{name: "ABORT", aborts: true, ends: true, by: -1}, ring.StepAbort)
	case m.Phase == ring.PhaseDual:
		on(turn{name: "READ_NEW", pulls: true, by: -1}, ring.StepReadNew)
		on(turn{name: "ABORT", aborts: true, ends: true, by: -1}, ring.StepAbort)
	case m.Phase == ring.PhaseReadNew:
		on(turn{name: "DONE", pulls: !s.noSecondFence, by: -1}, ring.StepDone)
		if s.abortStraight {
			on(turn{name: "ABORT from READ_NEW", aborts: true, ends: true, by: -1}, ring.StepBack, ring.StepAbort)
		} else {
			on(turn{name: "BACK", aborts: true, by: -1}, ring.StepBack)
		}
	case m.Phase == ring.PhaseBack:
		on(turn{name: "ABORT", pulls: true, ends: true, by: -1}, ring.StepAbort)
	}
	s.turns[path] = ts
	return ts
}

// begins are the moves that may begin: queued and begun at once, because a queued
// move changes nothing for anybody.
func (s *search) begins(tip *ring.Record, stations []uint16) (ts []turn) {
	for n := range s.moves {
		for _, move := range s.moves[n] {
			if !s.fits(tip, move) {
				continue
			}
			queued, err := tip.WithMoves([]ring.Move{move})
			if err != nil {
				continue // it is a home already
			}
			r, err := queued.WithSteps([]ring.StepTo{{Partition: 0, Step: ring.StepDual}})
			if err != nil {
				panic(err)
			}
			all := append(slices.Clone(stations), s.station(queued), s.station(r))
			name := fmt.Sprintf("PLAN, DUAL of slot %d to nobody", move.Slot)
			if !move.To.IsZero() {
				name = fmt.Sprintf("PLAN, DUAL of slot %d to %c", move.Slot, s.letter(move.To))
			}
			ts = append(ts, turn{name: name, path: s.path(all), begins: n})
		}
	}
	return ts
}

// fits says that a move changes the number of homes as they are to be changed. One that
// adds a slot adds it behind the last.
func (s *search) fits(tip *ring.Record, move ring.Move) bool {
	n := len(tip.Homes(0))
	switch {
	case move.To.IsZero():
		return n > s.to && int(move.Slot) < n
	case s.to > n:
		return int(move.Slot) == n
	}
	return s.to == 0 || int(move.Slot) < n
}

func (s *search) letter(id ring.NodeID) byte { return 'A' + byte(s.index(id)) }

// drops says whether a member drops the partition when it adopts a record.
func (s *search) drops(member int, from, to uint16) bool {
	key := [3]uint16{uint16(member), from, to}
	drop, ok := s.dropped[key]
	if !ok {
		drop = s.stations[to].record.Drops(s.stations[from].record, 0, s.members[member])
		s.dropped[key] = drop
	}
	return drop
}
