package quorum

import "fmt"

// membersMax is how many members a model has at most: five homes and two targets.
const membersMax = 7

// state is everything that there is at one moment. Places in the history are
// counted from 1 where 0 stands for none.
type state struct {
	path    uint16
	at      [membersMax]uint8 // the place of the record that each member holds
	note    [membersMax]uint8 // whom it has pulled from, under the record that it holds
	has     uint8             // who has the write
	moves   uint8             // how many have begun and were not aborted
	aborts  uint8
	crashed bool

	kept bool // acknowledged, or shown by a read
	// Two attempts at the write: the place of their record, who has
	// acknowledged, and who has let it in without having committed it.
	write, again    uint8
	acks, againAcks uint8
	let             uint8
	early           uint8 // the read that shows it: its record,
	earlyTold       uint8 // who has answered it with the write,
	earlyHave       uint8 // and who has committed what it writes back, besides
	read, replies   uint8 // the read that must show it
	readLet         uint8
}

// edge is something that may happen.
type edge struct {
	to   state
	kind byte // e: a record is decided, y: a pull, a: adopted or crashed, w: the write, r: a read
	what func() string
}

// step lists what may happen in a state.
type step struct {
	*search
	from   state
	path   []uint16
	tip    uint8
	out    []edge
	broken func() string
}

func (s *search) next(from state, out []edge) ([]edge, func() string) {
	x := step{search: s, from: from, path: s.paths[from.path], out: out}
	x.tip = uint8(len(x.path) - 1)
	x.decide()
	x.pull()
	x.adoptions()
	switch {
	case !from.kept && s.shown:
		x.spread()
		x.show()
	case !from.kept:
		x.writes()
	default:
		x.reads()
	}
	return x.out, x.broken
}

func (x *step) add(kind byte, to state, what func() string) {
	x.out = append(x.out, edge{to, kind, what})
}

// used says that requests and adoptions of the record at a place are looked at.
func (x *step) used(place uint8) bool { return x.queued || place == 0 || !x.of(place).queued }

func (x *step) of(place uint8) *station { return x.stations[x.path[place]] }

// decide takes the history on. Whoever knows that what must be pulled was pulled may
// do that: what is noted is durable.
func (x *step) decide() {
	tip := x.of(x.tip)
	for _, t := range x.turnsOf(x.from.path) {
		to := x.from
		switch {
		case t.begins >= 0 && t.begins != int(x.from.moves):
			continue
		case t.aborts && x.from.aborts >= x.search.aborts:
			continue
		case t.pulls && !x.known(tip, t.by):
			continue
		}
		if t.begins >= 0 {
			to.moves++
		}
		if t.aborts {
			to.aborts++
		}
		if t.ends {
			to.moves--
		}
		to.path = t.path
		x.add('e', to, func() string { return "decided: " + t.name })
	}
}

func (x *step) known(tip *station, who int) bool {
	for by := range x.members {
		if who >= 0 && by != who {
			continue
		}
		if tip.pullers&(1<<by) == 0 || x.of(x.from.at[by]).since != tip.since && !x.notesSurvive && !x.targetBlind {
			continue
		}
		if tip.pulled[by][x.from.note[by]] {
			return true
		}
	}
	return false
}

// pull lets those who are to take over a slot's reads, by the record that they hold,
// pull from each member that helps.
func (x *step) pull() {
	for by := range x.members {
		place := x.from.at[by]
		if x.targetBlind {
			place = x.tip
		}
		st := x.of(place)
		if st.pullers&(1<<by) == 0 {
			continue
		}
		for source := range x.members {
			bit := uint8(1) << source
			if st.sources&bit == 0 || source == by || x.from.note[by]&bit != 0 {
				continue
			}
			to := x.from
			if !x.pullUnfenced {
				if x.of(to.at[source]).since > st.record.Epoch {
					continue
				}
				x.adopt(&to, source, place)
			}
			to.note[by] |= bit
			if to.has&bit != 0 {
				to.has |= 1 << by
			}
			x.add('y', to, func() string { return fmt.Sprintf("%c pulls from %c under epoch +%d", 'A'+by, 'A'+source, place) })
		}
	}
}

// adopt makes a member hold the record at a place, unless it holds a newer one.
func (x *step) adopt(to *state, member int, place uint8) {
	was := to.at[member]
	if place <= was {
		return
	}
	to.at[member] = place
	if x.of(place).since != x.of(was).since && !x.notesSurvive && !x.targetBlind {
		to.note[member] = 0
	}
	if x.drops(member, x.path[was], x.path[place]) {
		to.has &^= 1 << member
		if x.fenceDropped {
			to.at[member] = 0
		}
	}
}

func (x *step) adoptions() {
	for member := range x.members {
		for place := x.from.at[member] + 1; place <= x.tip; place++ {
			if !x.used(place) {
				continue
			}
			to := x.from
			x.adopt(&to, member, place)
			x.add('a', to, func() string { return fmt.Sprintf("%c adopts epoch +%d", 'A'+member, place) })
		}
		if !x.fenceVolatile || x.from.crashed {
			continue
		}
		for place := range x.from.at[member] {
			to := x.from
			to.at[member], to.crashed = place, true
			x.add('a', to, func() string { return fmt.Sprintf("%c crashes and is back at epoch +%d", 'A'+member, place) })
		}
	}
}

// lets says whether a member takes part in a request of a record, and lets it adopt
// that first if it is newer than its own.
func (x *step) lets(to *state, member int, place uint8, unfenced bool) bool {
	if !unfenced && x.of(to.at[member]).since > x.of(place).record.Epoch {
		return false
	}
	if x.noAdopt {
		return true
	}
	x.adopt(to, member, place)
	return x.of(to.at[member]).holds&(1<<member) != 0
}

// writes delivers the write, sent at any record, to anybody that it was sent to.
func (x *step) writes() {
	x.attempt(false, x.from.write, x.from.acks)
	if x.retry && x.from.write > 0 {
		x.attempt(true, x.from.again, x.from.againAcks)
	}
}

func (x *step) attempt(again bool, sent, acks uint8) {
	for place := uint8(0); place <= x.tip; place++ {
		if !x.used(place) || sent > 0 && place != sent-1 || again && place+1 < x.from.write {
			continue
		}
		for member := range x.members {
			if bit := uint8(1) << member; x.of(place).writers&bit != 0 && acks&bit == 0 {
				x.deliver(again, place, member)
			}
		}
	}
}

func (x *step) deliver(again bool, place uint8, member int) {
	to, bit := x.from, uint8(1)<<member
	late := x.writeArrival && !again
	if late && to.let&bit == 0 {
		if x.lets(&to, member, place, false) {
			to.write, to.let = place+1, to.let|bit
			x.add('w', to, func() string { return fmt.Sprintf("%c lets in the write of epoch +%d", 'A'+member, place) })
		}
		return
	}
	if !late && !x.lets(&to, member, place, x.writeUnfenced) {
		return
	}
	to.has |= bit
	if again {
		to.again, to.againAcks = place+1, to.againAcks|bit
	} else {
		to.write, to.acks = place+1, to.acks|bit
	}
	if x.counts(&to) {
		to.kept, to.write, to.again, to.acks, to.againAcks, to.let = true, 0, 0, 0, 0, 0
	}
	x.add('w', to, func() string {
		what := fmt.Sprintf("%c commits the write of epoch +%d", 'A'+member, place)
		if to.kept {
			what += ", which is acknowledged"
		}
		return what
	})
}

func (x *step) counts(to *state) bool {
	if to.write > 0 && x.of(to.write - 1).writes[to.acks] {
		return true
	}
	if to.again == 0 {
		return false
	}
	if x.keepAcks {
		return x.of(to.again - 1).writes[to.acks|to.againAcks]
	}
	return x.of(to.again - 1).writes[to.againAcks]
}

// spread brings the write to anybody who keeps the partition, without that it counts
// for anything: as repairs do, which know no epoch.
func (x *step) spread() {
	for member := range x.members {
		if bit := uint8(1) << member; x.from.has&bit == 0 && x.of(x.from.at[member]).holds&bit != 0 {
			to := x.from
			to.has |= bit
			x.add('w', to, func() string { return fmt.Sprintf("%c gets the write by a repair", 'A'+member) })
		}
	}
}

// show is a read that finds the write, brings it to others that take writes, and is
// answered when as many as it asks for have shown it, or have it by then.
func (x *step) show() {
	for place := uint8(0); place <= x.tip; place++ {
		if !x.used(place) || x.from.early > 0 && place != x.from.early-1 {
			continue
		}
		for member := range x.members {
			x.showBy(place, member)
			x.backTo(place, member)
		}
	}
}

func (x *step) showBy(place uint8, member int) {
	to, bit := x.from, uint8(1)<<member
	if x.of(place).readers&bit == 0 || to.earlyTold&bit != 0 || !x.lets(&to, member, place, false) || !x.answering(&to, member) || to.has&bit == 0 {
		return
	}
	to.early, to.earlyTold, to.earlyHave = place+1, to.earlyTold|bit, to.earlyHave|bit
	x.shows(to, place, fmt.Sprintf("%c answers a read of epoch +%d with the write", 'A'+member, place))
}

func (x *step) backTo(place uint8, member int) {
	to, bit := x.from, uint8(1)<<member
	if to.earlyTold == 0 || x.of(place).writers&bit == 0 || to.earlyHave&bit != 0 || !x.lets(&to, member, place, x.backUnfenced) {
		return
	}
	to.has, to.earlyHave = to.has|bit, to.earlyHave|bit
	x.shows(to, place, fmt.Sprintf("%c commits what the read of epoch +%d writes back", 'A'+member, place))
}

func (x *step) shows(to state, place uint8, what string) {
	if st := x.of(place); st.reads[to.earlyTold] || st.backs[to.earlyHave] {
		to.kept, to.early, to.earlyTold, to.earlyHave = true, 0, 0, 0
		what += ", which is shown"
	}
	x.add('w', to, func() string { return what })
}

// answering says whether a member may answer reads under the record that it holds.
func (x *step) answering(to *state, member int) bool {
	st, bit := x.of(to.at[member]), uint8(1)<<member
	switch {
	case st.answers&bit != 0 || x.answersEarly || x.noAdopt:
		return true
	case st.pullers&bit != 0:
		return st.pulled[member][to.note[member]] && st.readers&bit != 0
	}
	return false
}

// reads is the read that must show the write: only answers without it matter.
func (x *step) reads() {
	for place := uint8(0); place <= x.tip; place++ {
		if !x.used(place) || x.from.read > 0 && place != x.from.read-1 {
			continue
		}
		for member := range x.members {
			bit := uint8(1) << member
			if x.of(place).readers&bit == 0 || x.from.replies&bit != 0 {
				continue
			}
			to := x.from
			to.read = place + 1
			if x.readArrival && to.readLet&bit == 0 {
				if x.lets(&to, member, place, false) && x.answering(&to, member) {
					to.readLet |= bit
					x.add('r', to, func() string { return fmt.Sprintf("%c lets in a read of epoch +%d", 'A'+member, place) })
				}
				continue
			}
			if !x.readArrival && !(x.lets(&to, member, place, x.readUnfenced) && x.answering(&to, member) || x.readUnfenced) {
				continue
			}
			if to.has&bit != 0 {
				continue
			}
			to.replies |= bit
			what := func() string {
				return fmt.Sprintf("%c answers a read of epoch +%d without the write", 'A'+member, place)
			}
			if x.of(place).reads[to.replies] {
				x.broken = func() string { return what() + ", which is missed" }
				return
			}
			x.add('r', to, what)
		}
	}
}
