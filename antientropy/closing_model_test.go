package antientropy

import (
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// A model of closing an actor: homes X, B and C and a stand-in. A put leaves for the
// other homes before its home has it on disk, and is acknowledged by two disks. X
// crashes, loses what it had not synced, comes back with another actor, and closes the
// one that it had: what nobody has of it is void from then on. Messages come late,
// twice, or never.

// closing says how an actor is closed. The zero value is ours.
type closing struct {
	noFence  bool // homes are asked without a fence before
	noRefuse bool // late records are merged as ever
	dropDot  bool // of a late record only the void dot is left out
	askOne   bool // of the other homes
	askAll   bool // the stand-in too
	noFlush  bool // homes answer without syncing what they have merged
	sloppy   bool // stand-ins count
	noRelay  bool // fenced homes do not tell others of the fence
	wiped    bool // X loses what was synced too
	anyHome  bool // a stand-in gives its record to any home, and drops it
	strip    bool // the closed actor leaves the contexts
	forget   bool // and the clocks
	waits    bool // it is closed when all homes hold the same, and not before
	deaf     bool // if it waits: it does not hear the stand-in
	unsaid   bool // nor what homes take
}

// seqSet is a set of numbers of one actor.
type seqSet map[uint64]bool

func (s seqSet) last() (n uint64) {
	for q := range s {
		n = max(n, q)
	}
	return n
}

func (s seqSet) ranges() (out []store.Range) {
	for _, q := range slices.Sorted(maps.Keys(s)) {
		out = uniteRanges(out, []store.Range{{First: q, Last: q}})
	}
	return out
}

func setOf(ranges []store.Range) seqSet {
	s := seqSet{}
	for _, r := range ranges {
		for q := r.First; q <= r.Last; q++ {
			s[q] = true
		}
	}
	return s
}

// closingDisk is what survives a crash.
type closingDisk struct {
	records map[string]version.Record
	clock   store.Clock
	log     map[version.Dot]string
	fenced  bool
	known   seqSet // what a fenced home takes beside what it holds
	closed  seqSet // the final set of X's first actor; nil until it is closed
}

func (d closingDisk) clone() closingDisk {
	d.records, d.log, d.clock = maps.Clone(d.records), maps.Clone(d.log), d.clock.Clone()
	return d
}

// closingNode is a home.
type closingNode struct {
	i         int
	life      int
	minted    uint64
	mem, disk closingDisk
	waiting   []version.Stamp // puts that wait for this home's own sync
}

// closedActor is the one that is closed.
const closedActor = version.Actor(1001)

func (n *closingNode) actor() version.Actor { return version.Actor(1000*(n.i+1) + n.life) }

func (n *closingNode) sync() { n.disk = n.mem.clone() }

func (n *closingNode) crash() {
	n.mem = n.disk.clone()
	n.life, n.minted = n.life+1, 0
	n.waiting = nil
}

// closingLetter is a record under way to a home, or to the stand-in for one.
type closingLetter struct {
	to, meant  *closingNode // to is nil for the stand-in
	key        string
	rec        version.Record
	id         version.Stamp
	fromFenced bool
}

type closingModel struct {
	closing
	r       *rand.Rand
	homes   []*closingNode // X first
	letters []closingLetter
	held    []closingLetter // on the stand-in
	fenced  bool            // the stand-in
	buried  map[version.Stamp]map[version.Stamp]bool
	by      map[version.Stamp]*closingNode
	life    map[version.Stamp]int
	acks    map[version.Stamp]map[int]bool
	acked   map[version.Stamp]bool
	state   string
	asked   map[int]bool
	answers [][]store.Range // of those that were asked, X first, if it waits
	known   [][]store.Range // what these take
}

func newClosingModel(seed uint64, o closing) *closingModel {
	m := &closingModel{
		closing: o, r: rand.New(rand.NewPCG(seed, 11)), state: "up", asked: map[int]bool{},
		buried: map[version.Stamp]map[version.Stamp]bool{}, by: map[version.Stamp]*closingNode{},
		life: map[version.Stamp]int{}, acks: map[version.Stamp]map[int]bool{}, acked: map[version.Stamp]bool{},
	}
	for i := range 3 {
		n := &closingNode{i: i, life: 1}
		n.mem = closingDisk{records: map[string]version.Record{}, log: map[version.Dot]string{}}
		n.sync()
		m.homes = append(m.homes, n)
	}
	return m
}

func (m *closingModel) chance(p float64) bool { return m.r.Float64() < p }

// home is one that is not X while X is down.
func (m *closingModel) up() *closingNode {
	for {
		if h := m.homes[m.r.IntN(3)]; h.i > 0 || m.state != "down" {
			return h
		}
	}
}

func (m *closingModel) other(n *closingNode) *closingNode {
	for {
		if h := m.homes[m.r.IntN(3)]; h != n {
			return h
		}
	}
}

// refuses says that a home takes no record with a dot that may be void.
func (m *closingModel) refuses(n *closingNode, rec version.Record, fromFenced bool) bool {
	if m.noRefuse {
		return false
	}
	end := store.Ending{Actor: closedActor, Closed: n.mem.closed != nil, Dots: n.mem.known.ranges()}
	switch {
	case end.Closed:
		end.Dots = n.mem.closed.ranges()
	case !n.mem.fenced:
		return false
	}
	return store.Refused([]store.Ending{end}, &rec, func(d version.Dot) bool {
		return n.mem.clock.Has(d) || !m.noRelay && fromFenced
	}) != nil
}

// apply merges a record at a home, unless that refuses it.
func (m *closingModel) apply(n *closingNode, key string, rec version.Record, base *version.Context, fromFenced bool) bool {
	if m.refuses(n, rec, fromFenced) {
		if !m.dropDot {
			return false
		}
		rec.Siblings = slices.DeleteFunc(slices.Clone(rec.Siblings), func(s version.Sibling) bool { return s.Actor == closedActor })
	}
	stored, ok := n.mem.records[key]
	if !ok {
		stored = version.Record{Key: []byte(key)}
	}
	out := filledMerge(stored, rec, &n.mem.clock, base)
	for _, d := range dotsIn(rec) {
		n.mem.clock.Add(d, false)
		n.mem.log[d] = key
	}
	if len(out.Siblings) == 0 {
		delete(n.mem.records, key)
	} else {
		n.mem.records[key] = out
	}
	return true
}

// learn takes what another one has closed: void dots count as incorporated.
func (n *closingNode) learn(final seqSet) {
	if n.mem.closed != nil {
		return
	}
	n.mem.closed, n.mem.fenced = final, false
	for q := uint64(1); q < final.last(); q++ {
		if !final[q] {
			n.mem.clock.Add(version.Dot{Actor: closedActor, Seq: q}, false)
		}
	}
}

// catchUp brings what to lacks of what a node has in memory or on disk.
func (m *closingModel) catchUp(to, from *closingNode, at *closingDisk) {
	if at.closed != nil {
		to.learn(at.closed)
	}
	if !m.noRelay && to.mem.fenced && !at.fenced && at.closed == nil && at == &from.mem {
		at.fenced = true
		from.sync()
	}
	fenced := at.fenced || at.closed != nil
	var got []version.Dot
	for _, d := range slices.SortedFunc(maps.Keys(at.log), version.Dot.Compare) {
		if to.mem.clock.Has(d) {
			continue
		}
		rec, ok := at.records[at.log[d]]
		if !ok {
			rec = version.Record{Key: []byte(at.log[d])}
		}
		base := at.clock.Bases()
		if m.apply(to, at.log[d], rec, &base, fenced) {
			got = append(got, d)
		}
	}
	for _, d := range got {
		to.mem.clock.Add(d, false)
		to.mem.log[d] = at.log[d]
	}
}

// ack counts a home's part in a put, if its coordinator still lives.
func (m *closingModel) ack(id version.Stamp, who int) {
	if m.by[id].life != m.life[id] {
		return
	}
	m.acks[id][who] = true
	if len(m.acks[id]) >= 2 {
		m.acked[id] = true
	}
}

func (m *closingModel) fsync(n *closingNode) {
	n.sync()
	for _, id := range n.waiting {
		m.ack(id, n.i)
	}
	n.waiting = nil
}

// put mints at a home with the context of what a client saw anywhere, unsynced too.
func (m *closingModel) put() {
	n := m.homes[m.r.IntN(3)]
	if n.i == 0 && m.state == "down" || m.state != "up" && m.chance(0.8) {
		return
	}
	if m.state == "up" && m.chance(0.5) {
		n = m.homes[0]
	}
	key := modelKeys[m.r.IntN(2)]
	read := m.up().mem.records[key]
	id := version.Stamp(len(m.by) + 1)
	m.buried[id] = map[version.Stamp]bool{}
	for i := range read.Siblings {
		m.buried[id][read.Siblings[i].Stamp] = true
		maps.Copy(m.buried[id], m.buried[read.Siblings[i].Stamp])
	}
	stored, ok := n.mem.records[key]
	if !ok {
		stored = version.Record{Key: []byte(key)}
	}
	n.minted++
	d := version.Dot{Actor: n.actor(), Seq: n.minted}
	rec := stored.Put(read.Seen, version.Sibling{Dot: d, Stamp: id})
	n.mem.records[key] = rec
	for _, d := range dotsIn(rec) {
		n.mem.clock.Add(d, true)
		n.mem.log[d] = key
	}
	m.by[id], m.life[id], m.acks[id] = n, n.life, map[int]bool{}
	n.waiting = append(n.waiting, id)
	fenced := n.mem.fenced || n.mem.closed != nil
	for _, to := range append(slices.Clone(m.homes), nil) {
		if to == n || to == nil && !m.chance(0.4) {
			continue
		}
		m.letters = append(m.letters, closingLetter{to, m.other(n), key, rec, id, fenced})
	}
}

func (m *closingModel) deliver(l closingLetter) {
	if l.to == nil {
		late := slices.ContainsFunc(dotsOf(&l.rec), func(d version.Dot) bool { return d.Actor == closedActor })
		if !late || !m.fenced || m.noRefuse {
			m.held = append(m.held, l)
			if m.sloppy {
				m.ack(l.id, l.meant.i) // for that home's part, which counts once
			}
		}
		return
	}
	if m.apply(l.to, l.key, l.rec, nil, l.fromFenced) && m.chance(0.7) {
		m.fsync(l.to)
		m.ack(l.id, l.to.i)
	}
}

// goHome sends a record from the stand-in. It is dropped when it was taken, or is
// refused for good.
func (m *closingModel) goHome() {
	i := m.r.IntN(len(m.held))
	l := m.held[i]
	to := l.meant
	if m.anyHome {
		to = m.up()
	}
	if to.i == 0 && m.state == "down" {
		return
	}
	if m.apply(to, l.key, l.rec, nil, m.fenced) {
		m.fsync(to)
	} else if to.mem.closed == nil {
		return
	}
	m.held = slices.Delete(m.held, i, i+1)
}
