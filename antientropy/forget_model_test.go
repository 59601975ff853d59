package antientropy

import (
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// A model of three homes of one partition, a stand-in, and all that can go wrong
// between them, for the rules of forgetting. Records, contexts, clocks and the
// answers of homes are those of the real code; disks, packets and the merge of a
// home are the model's own, as slow and obvious as can be.

// weak takes one rule away. The zero value is ours.
type weak struct {
	noStable   bool // a dead record goes although some home lacks what it has seen
	noConfirm  bool // a home forgets what is dead by itself
	noFill     bool // a merge looks at the record alone, not at the clock
	noVerdicts bool // nothing is said of what a home does not hold
	lossyClock bool // a home that has lost something keeps its clock and its verdicts
	lateBase   bool // a verdict's base is read after the records
	staleClock bool // a record's end is durable before the clock that covers it
	unready    bool // a home counts for reads before it has exchanged clocks

	often map[string]int // how often kinds come, where that is not as usual
}

// write is what the oracle knows of a put.
type write struct {
	buried    map[version.Stamp]bool // what it had seen, through any chain
	tombstone bool
	expiry    uint64
	acks      map[*modelHome]bool // homes that have it on disk
	acked     bool
	happened  bool // it has been on some disk
	by        *modelHome
	life      int // of its coordinator
}

// modelHome is one home. Requests see mem, everybody else what is on disk.
type modelHome struct {
	actor  version.Actor
	minted uint64
	skew   int64 // of its wall clock
	life   int
	era    int
	lossy  bool
	// behind are the homes with which this one must exchange clocks after a
	// start, before it counts for reads.
	behind map[*modelHome]bool
	// vouched are the other homes with which this one was compared since it
	// lost something.
	vouched map[*modelHome]bool

	mem, disk map[string]version.Record
	unsynced  []unsynced
	clock     store.Clock // claims what is on disk
	kept      store.Clock // the copy of the clock on disk, some time old
	log       map[version.Dot]string
	old       map[string]version.Record // a backup
	// buried are the writes that a write on this disk had seen, since it last
	// lost something: none of them may be readable here again.
	buried map[version.Stamp]bool
}

// unsynced is a change that is in mem only.
type unsynced struct {
	key    string
	claims []version.Dot
	gone   bool   // the record with it
	done   func() // when it is on disk
}

// letter is a message under way. It may come late, twice, or at the end.
type letter func()

type forgetModel struct {
	weak
	r         *rand.Rand
	now       uint64 // of all clocks, in milliseconds
	homes     [3]*modelHome
	letters   []letter
	away      []standIn // on the stand-in
	writes    map[version.Stamp]*write
	driving   *driven
	weights   []int // of the kinds, added up
	end       historyEnd
	forgotten int
	doubts    int // how often somebody was said to have lost a value unnoticed
}

// driven is a dead record that is about to be forgotten everywhere.
type driven struct {
	deadKey
	confirmed map[*modelHome]bool
}

type standIn struct {
	home *modelHome
	key  string
	rec  version.Record
	w    version.Stamp
}

var modelKeys = []string{"x", "y"}

func newForgetModel(seed uint64, w weak) *forgetModel {
	m := &forgetModel{weak: w, r: rand.New(rand.NewPCG(seed, 7)), now: 1, writes: map[version.Stamp]*write{}}
	sum := 0
	for _, k := range kinds {
		if often, ok := w.often[k.name]; ok {
			k.often = often
		}
		sum += k.often * []int{0, 1, 1, 1, 3}[m.r.IntN(5)]
		m.weights = append(m.weights, sum+1)
	}
	for i := range m.homes {
		m.homes[i] = &modelHome{actor: m.newActor(), mem: map[string]version.Record{}, disk: map[string]version.Record{},
			old: map[string]version.Record{}, log: map[version.Dot]string{}, vouched: map[*modelHome]bool{}, behind: map[*modelHome]bool{}, buried: map[version.Stamp]bool{}, skew: m.r.Int64N(5) - 2}
	}
	return m
}

func (m *forgetModel) newActor() version.Actor { return version.Actor(m.r.Uint64()) }

func (m *forgetModel) home() *modelHome { return m.homes[m.r.IntN(3)] }

func (m *forgetModel) other(h *modelHome) *modelHome {
	for {
		if o := m.home(); o != h {
			return o
		}
	}
}

// dotsIn are the dots that a record claims: those of its siblings, and the last one
// of each actor that it has seen.
func dotsIn(r version.Record) []version.Dot {
	return append(slices.Clone(r.Seen), dotsOf(&r)...)
}

// put mints a write that has seen all that its home holds, or what a client read
// somewhere, or nothing.
func (m *forgetModel) put() {
	h, key := m.home(), modelKeys[m.r.IntN(len(modelKeys))]
	stored := m.at(h.mem, key)
	ctx, saw := stored.Seen, stored.Siblings
	switch m.r.IntN(5) {
	case 0, 1:
		read := m.at(m.home().disk, key)
		if m.r.IntN(2) == 0 {
			read = version.Merge(read, m.at(m.home().disk, key))
		}
		ctx, saw = read.Seen, read.Siblings
	case 2:
		ctx, saw = nil, nil
	}
	id := version.Stamp(len(m.writes) + 1)
	w := &write{buried: map[version.Stamp]bool{}, acks: map[*modelHome]bool{}, by: h, life: h.life}
	for i := range saw {
		w.buried[saw[i].Stamp] = true
		maps.Copy(w.buried, m.writes[saw[i].Stamp].buried)
	}
	m.writes[id] = w
	h.minted++
	s := version.Sibling{Dot: version.Dot{Actor: h.actor, Seq: h.minted}, Stamp: id}
	switch n := m.r.IntN(100); {
	case n < 45:
		s.Tombstone, w.tombstone = true, true
	case n < 60:
		s.Expiry = m.now + uint64(m.r.IntN(20))
		w.expiry = s.Expiry
	}
	rec := stored.Put(ctx, s)
	h.mem[key] = rec
	h.unsynced = append(h.unsynced, unsynced{key, dotsIn(rec), false, func() { m.stored(id, h, true) }})
	for _, o := range m.homes {
		if o != h {
			m.deliver(o, key, rec, id, w)
		}
	}
	m.maybeSync(h)
}

// deliver sends a fresh record to a home: at once, late, by way of the stand-in, or
// never.
func (m *forgetModel) deliver(o *modelHome, key string, rec version.Record, id version.Stamp, w *write) {
	at := func() { m.mergeAt(o, key, rec, nil, func() { m.stored(id, o, w.life == w.by.life) }) }
	switch n := m.r.IntN(100); {
	case n < 45:
		at()
	case n < 75:
		m.letters = append(m.letters, at)
	case n < 87:
		m.away = append(m.away, standIn{o, key, rec, id})
	}
}

// stored notes that a write is on a disk, and whether its coordinator counts that.
func (m *forgetModel) stored(id version.Stamp, at *modelHome, counts bool) {
	w := m.writes[id]
	w.happened = true
	if counts {
		w.acks[at] = true
		w.acked = w.acked || len(w.acks) >= 2
	}
}

func (m *forgetModel) at(records map[string]version.Record, key string) version.Record {
	if r, ok := records[key]; ok {
		return r
	}
	return version.Record{Key: []byte(key)}
}

// filledMerge is what a home makes of a record that comes: what the clock claims and
// the stored record lacks is dropped from it, and from the stored one, if base is not
// nil, what that covers and the incoming one lacks.
func filledMerge(stored, in version.Record, clock *store.Clock, base *version.Context) version.Record {
	has := func(r version.Record, d version.Dot) bool { return slices.Contains(dotsOf(&r), d) }
	out := version.Merge(stored, store.Fill(&stored, &in, clock.Has))
	if base != nil {
		out.Siblings = slices.DeleteFunc(out.Siblings, func(s version.Sibling) bool {
			return base.Covers(s.Dot) && !has(in, s.Dot)
		})
	}
	return out
}

// mergeAt merges a record, with a verdict if base is not nil.
func (m *forgetModel) mergeAt(h *modelHome, key string, rec version.Record, base *version.Context, done func()) {
	stored := m.at(h.mem, key)
	claims := dotsIn(rec)
	clock := &h.clock
	if m.noFill {
		clock = new(store.Clock)
	}
	if m.noVerdicts {
		base = nil
	}
	out := filledMerge(stored, rec, clock, base)
	if len(out.Siblings) == 0 {
		delete(h.mem, key)
	} else {
		h.mem[key] = out
	}
	h.unsynced = append(h.unsynced, unsynced{key, claims, len(out.Siblings) == 0, done})
	m.maybeSync(h)
}

func (m *forgetModel) maybeSync(h *modelHome) {
	if m.r.IntN(4) > 0 {
		m.sync(h)
	}
}

// sync brings mem to disk and lets the clock claim it.
func (m *forgetModel) sync(h *modelHome) {
	h.disk = maps.Clone(h.mem)
	for _, u := range h.unsynced {
		for _, d := range u.claims {
			h.clock.Add(d, d.Actor == h.actor)
			h.log[d] = u.key
		}
		if u.done != nil {
			u.done()
		}
	}
	if slices.ContainsFunc(h.unsynced, func(u unsynced) bool { return u.gone }) && !m.staleClock {
		h.kept = h.clock.Clone() // nothing else says any more what was there
	}
	h.unsynced = nil
	m.watch(h)
}

// counts says that a home's copies count for reads.
func (m *forgetModel) counts(h *modelHome) bool {
	for _, o := range m.homes {
		if h.behind[o] && !m.unready {
			return false
		}
	}
	return !h.lossy
}

// watch notices what a home shows to readers although it knew once that it was
// replaced.
func (m *forgetModel) watch(h *modelHome) {
	if !m.counts(h) {
		return
	}
	for _, rec := range h.disk {
		for i := range rec.Siblings {
			s := &rec.Siblings[i]
			m.end.back = m.end.back || h.buried[s.Stamp] && !s.Tombstone
			maps.Copy(h.buried, m.writes[s.Stamp].buried)
		}
	}
}

// crash loses what was not synced. The clock is the old copy and what a scan finds.
func (m *forgetModel) crash(h *modelHome) {
	h.mem, h.unsynced = maps.Clone(h.disk), nil
	h.actor, h.minted = m.newActor(), 0
	h.life++
	h.era++
	h.clock = h.kept.Clone()
	h.log = map[version.Dot]string{}
	h.found()
	for _, o := range m.homes {
		h.behind[o] = o != h
	}
}

func (h *modelHome) found() {
	for _, key := range slices.Sorted(maps.Keys(h.disk)) {
		for _, d := range dotsIn(h.disk[key]) {
			h.clock.Add(d, false)
		}
	}
}

// lose takes something from a disk: all of it, a record, or some time. It is noticed.
// Two homes never lack something at once: no rule saves what was on both.
func (m *forgetModel) lose(h *modelHome) {
	for _, o := range m.homes {
		if o.lossy {
			return
		}
	}
	switch m.r.IntN(4) {
	case 0:
		h.disk = map[string]version.Record{}
	case 1:
		delete(h.disk, modelKeys[m.r.IntN(len(modelKeys))])
	default:
		h.disk = maps.Clone(h.old)
	}
	clear(h.buried)
	clock := h.clock
	h.kept = store.Clock{}
	m.crash(h)
	if m.lossyClock {
		h.clock = clock
		h.found()
		return
	}
	h.lossy = true
	clear(h.vouched)
}

// pull is catch-up: h gets what it misses of o, with o's verdicts, and claims it only
// if all came, which it says.
func (m *forgetModel) pull(h, o *modelHome) bool {
	missing := o.clock.Minus(&h.clock)
	base, era := m.base(o), h.era
	var keys []string
	for _, a := range missing {
		for _, r := range a.Ranges {
			for n := r.First; n <= r.Last; n++ {
				d := version.Dot{Actor: a.Actor, Seq: n}
				if key, ok := o.log[d]; ok {
					keys = append(keys, key)
				} else { // the log does not go back as far: a scan
					keys = append(keys, m.showing(o, d)...)
				}
			}
		}
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		if m.r.IntN(10) == 0 {
			return false // cut half-way
		}
		m.tell(o, h, key, base)
	}
	m.sync(h)
	if h.era != era {
		return false
	}
	for _, a := range missing {
		for _, r := range a.Ranges {
			for n := r.First; n <= r.Last; n++ {
				h.clock.Add(version.Dot{Actor: a.Actor, Seq: n}, false)
			}
		}
	}
	h.behind[o] = false
	m.watch(h)
	return true
}

// showing are the keys whose record has a dot among its siblings or has seen it last.
func (m *forgetModel) showing(o *modelHome, d version.Dot) []string {
	var keys []string
	for key, rec := range o.disk {
		if slices.Contains(dotsIn(rec), d) {
			keys = append(keys, key)
		}
	}
	return keys
}

// base is what a home may give verdicts by, nil if it may give none.
func (m *forgetModel) base(o *modelHome) *version.Context {
	if o.lossy {
		return nil
	}
	b := o.clock.Bases()
	return &b
}

// tell brings what o holds of a key to h, with the verdict by a base.
func (m *forgetModel) tell(o, h *modelHome, key string, base *version.Context) {
	rec, ok := o.disk[key]
	if !ok && base == nil {
		return
	}
	if m.lateBase && base != nil && m.r.IntN(3) == 0 {
		// Something is written between the record and the base.
		m.put()
		m.sync(o)
		base = m.base(o)
	}
	if !ok {
		rec = version.Record{Key: []byte(key)}
	}
	stored := m.at(h.mem, key)
	for _, d := range aliveIn(&stored, m.aliveBy(h)) {
		if base != nil && base.Covers(d) && !rec.Seen.Covers(d) {
			base = nil // it is for an audit to ask the third home
		}
	}
	m.mergeAt(h, key, rec, base, nil)
}

// audit compares two homes and merges both ways. Its messages may come late or twice.
// It says whether nothing was left as it was.
func (m *forgetModel) audit(h, o *modelHome, reliable bool) (decided bool) {
	decided = true
	for _, key := range modelKeys {
		mine, theirs := m.at(h.disk, key), m.at(o.disk, key)
		if mine.Leaf() == theirs.Leaf() {
			continue
		}
		if !m.disputed(h, o, key) {
			decided = false
			continue
		}
		for _, way := range [][2]*modelHome{{o, h}, {h, o}} {
			from, to := way[0], way[1]
			base := m.base(from)
			rec, ok := from.disk[key]
			if !ok {
				rec = version.Record{Key: []byte(key)}
				if base == nil {
					continue
				}
			}
			if !reliable && m.r.IntN(4) == 0 {
				m.letters = append(m.letters, func() { m.mergeAt(to, key, rec, base, nil) })
				continue
			}
			m.mergeAt(to, key, rec, base, nil)
		}
	}
	return decided
}

// refill makes a lossy home complete: catch-up and a full comparison with another
// one, until that was done with both.
func (m *forgetModel) refill(h *modelHome) {
	o := m.other(h)
	if !m.pull(h, o) {
		return
	}
	decided := m.audit(h, o, true)
	m.sync(h)
	m.sync(o)
	if !decided {
		return
	}
	h.vouched[o] = true
	h.lossy = len(h.vouched) < 2
}
