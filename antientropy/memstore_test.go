package antientropy

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"sync"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// memStore is a store as it should be, slow and obvious: maps under one lock, on
// the real records and clocks. All that it has is on disk at once.
type memStore struct {
	mu    sync.Mutex // guards what follows
	parts map[ring.Partition]*memPart
	era   uint64
	// emptied is the era in which all clocks were emptied last.
	emptied uint64
	now     uint64 // of change numbers
	draw    func() uint64
	kept    map[ring.NodeID]map[ring.Partition]map[string]store.StandIn
	event   chan struct{}
	ends    map[ring.Partition]memEnds
	// fences and notes are those of moves.
	fences map[ring.Partition]uint64
	notes  map[ring.Partition]ring.Pulled

	// logMax bounds the dot log of a partition.
	logMax int
	// refuse fails merges of a key.
	refuse func(key []byte) error
	// merges counts them.
	merges int
	// why are the sentences of DeclareLossOf.
	why  []string
	dead error // of every call, once it is set
}

// memPart is one partition.
type memPart struct {
	records map[string]version.Record
	clock   store.Clock
	disk    store.Clock // what a crash leaves of clock, beside what the records show
	changed uint64
	log     []store.LoggedKey
	lossy   bool
	emptied uint64 // era
	actor   version.Actor
	last    uint64
}

func newMemStore(draw func() uint64) *memStore {
	return &memStore{
		parts: map[ring.Partition]*memPart{}, draw: draw, era: draw() >> 8, logMax: 1 << 20, event: make(chan struct{}),
		ends: map[ring.Partition]memEnds{}, fences: map[ring.Partition]uint64{}, notes: map[ring.Partition]ring.Pulled{},
		kept: map[ring.NodeID]map[ring.Partition]map[string]store.StandIn{},
	}
}

func (s *memStore) part(p ring.Partition) *memPart {
	q := s.parts[p]
	if q == nil {
		q = &memPart{records: map[string]version.Record{}}
		s.parts[p] = q
	}
	return q
}

// claim adds what a record has seen at least to the clock, and logs it.
func (s *memStore) claim(q *memPart, r *version.Record) {
	add := func(d version.Dot) {
		if q.clock.Has(d) {
			return
		}
		q.clock.Add(d, d.Actor == q.actor)
		q.log = append(q.log, store.LoggedKey{Dot: d, Key: bytes.Clone(r.Key)})
		q.log = q.log[max(0, len(q.log)-s.logMax):]
		s.now++
		q.changed = s.now
	}
	for _, d := range r.Seen {
		add(d)
	}
	for i := range r.Siblings {
		add(r.Siblings[i].Dot)
	}
}

// put mints a write and returns the record.
func (s *memStore) put(p ring.Partition, key, value string, ctx version.Context, blind, tombstone bool, stamp version.Stamp) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.part(p)
	if q.actor == 0 {
		q.actor, q.last = version.Actor(s.draw()), 0
	}
	q.last++
	d := version.Dot{Actor: q.actor, Seq: q.last}
	sibling := version.NewSibling(d, stamp, 0, []byte(value))
	if tombstone {
		sibling = version.NewTombstone(d, stamp)
	}
	old, ok := q.records[key]
	if !ok {
		old = version.Record{Key: []byte(key)}
	}
	if blind {
		ctx = old.Seen
	}
	next := old.Put(ctx, sibling)
	q.records[key] = next
	s.claim(q, &next)
	return next.Append(nil)
}

// Merge implements Store, by the rules of fill and verdict.
func (s *memStore) Merge(m *store.Merge) { m.Sink.Committed(s.merge(m)) }

func (s *memStore) merge(m *store.Merge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.merges++
	if s.dead != nil {
		return s.dead
	}
	if s.refuse != nil {
		if err := s.refuse(m.Record.Key); err != nil {
			return err
		}
	}
	if fence := s.fences[m.Partition]; m.Epoch != 0 && m.Epoch < fence {
		return store.ErrFenced
	}
	q := s.part(m.Partition)
	if err := s.ended(m.Partition, &m.Record); err != nil {
		return err
	}
	key := string(m.Record.Key)
	old, ok := q.records[key]
	if !ok {
		old = version.Record{Key: bytes.Clone(m.Record.Key)}
	}
	incoming, err := memCopy(&m.Record)
	if err != nil {
		return err
	}
	holds := func(r *version.Record, d version.Dot) bool {
		return slices.ContainsFunc(r.Siblings, func(s version.Sibling) bool { return s.Dot == d })
	}
	stored := old
	if m.Verdict {
		old.Siblings = slices.DeleteFunc(slices.Clone(old.Siblings), func(x version.Sibling) bool {
			return (m.Base.Covers(x.Dot) && slices.Contains(m.Judged, x.Dot) || incoming.Seen.Covers(x.Dot)) && !holds(&incoming, x.Dot)
		})
	}
	next := version.Merge(old, store.Fill(&stored, &incoming, q.clock.Has))
	s.claim(q, &incoming)
	if len(next.Siblings) == 0 {
		delete(q.records, key)
		q.disk = q.clock.Clone()
	} else {
		q.records[key] = next
	}
	return nil
}

func memCopy(r *version.Record) (version.Record, error) {
	if len(r.Seen) == 0 {
		return version.Record{Key: bytes.Clone(r.Key)}, nil
	}
	return version.Parse(r.Append(nil))
}

// Era implements Store.
func (s *memStore) Era() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.era
}

// ClockOf implements Store.
func (s *memStore) ClockOf(p ring.Partition) store.Clock {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.part(p).clock.Clone()
}

// ClocksChanged implements Store.
func (s *memStore) ClocksChanged(since uint64) (changed []ring.Partition, now uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range slices.Sorted(maps.Keys(s.parts)) {
		if q := s.parts[p]; q.changed > since {
			changed = append(changed, p)
		}
	}
	return changed, s.now
}

var errMemEra = errors.New("another era")

// Incorporate implements Store.
func (s *memStore) Incorporate(p ring.Partition, dots store.DotSet, era uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.emptiedAt(p) > era {
		return errMemEra
	}
	q := s.part(p)
	for _, a := range dots {
		for _, r := range a.Ranges {
			for n := r.First; n <= r.Last; n++ {
				q.clock.Add(version.Dot{Actor: a.Actor, Seq: n}, false)
			}
		}
	}
	if len(dots) > 0 {
		s.now++
		q.changed = s.now
	}
	q.disk = q.clock.Clone()
	return s.dead
}

// KeysOf implements Store.
func (s *memStore) KeysOf(p ring.Partition, dots store.DotSet) (keys []store.LoggedKey, unknown store.DotSet, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string]store.LoggedKey{}
	var known store.DotSet
	for _, l := range s.part(p).log {
		if dots.Has(l.Dot) {
			l.Dots = append([]version.Dot{l.Dot}, found[string(l.Key)].Dots...)
			found[string(l.Key)] = l
			known = unite(known, store.DotSet{{Actor: l.Dot.Actor, Ranges: []store.Range{{First: l.Dot.Seq, Last: l.Dot.Seq}}}})
		}
	}
	for _, k := range slices.Sorted(maps.Keys(found)) {
		keys = append(keys, found[k])
	}
	logged := clockOfDots(known)
	return keys, dots.Without(&logged), s.dead
}

// Get implements Store.
func (s *memStore) Get(p ring.Partition, key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.part(p).records[string(key)]; ok && s.dead == nil {
		return r.Append(nil), nil
	}
	return nil, s.dead
}

// Scan implements Store.
func (s *memStore) Scan(p ring.Partition, after []byte, limit int, each func(key, record []byte) bool) error {
	s.mu.Lock()
	var all [][2][]byte
	for _, k := range slices.Sorted(maps.Keys(s.part(p).records)) {
		if after == nil || k > string(after) {
			r := s.part(p).records[k]
			all = append(all, [2][]byte{[]byte(k), r.Append(nil)})
		}
	}
	dead := s.dead
	s.mu.Unlock()
	if dead != nil {
		return dead
	}
	for i, kv := range all {
		if limit > 0 && i == limit || !each(kv[0], kv[1]) {
			return nil
		}
	}
	return nil
}

// TreeOf implements Store.
func (s *memStore) TreeOf(p ring.Partition) (*store.Tree, uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.part(p)
	t := new(store.Tree)
	for k, r := range q.records {
		d := r.Leaf()
		leaf := &t.Leaves[store.TreeLeaf(p, []byte(k))]
		high, low := half(d[:8]), half(d[8:])
		var carry uint64
		leaf.Low, carry = bits.Add64(leaf.Low, low, 0)
		leaf.High, _ = bits.Add64(leaf.High, high, carry)
	}
	return t, q.changed, !q.lossy && s.dead == nil
}

func half(b []byte) (v uint64) {
	for _, x := range b {
		v = v<<8 | uint64(x)
	}
	return v
}

// CountsForRead implements Store.
func (s *memStore) CountsForRead(p ring.Partition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.parts[p]
	return s.dead == nil && (q == nil || !q.lossy)
}

// Health implements Store.
func (s *memStore) Health() store.Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := store.Health{Failed: s.dead}
	for _, p := range slices.Sorted(maps.Keys(s.parts)) {
		if s.parts[p].lossy {
			h.Lossy = append(h.Lossy, p)
			h.Losses = append(h.Losses, fmt.Sprint("partition ", p))
		}
	}
	return h
}

// Changed implements Store.
func (s *memStore) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.event
}

// told says that Health has changed; mu is held.
func (s *memStore) told() {
	close(s.event)
	s.event = make(chan struct{})
}

// Repaired implements Store.
func (s *memStore) Repaired(p ring.Partition, era uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.emptiedAt(p) > era {
		return errMemEra
	}
	s.part(p).lossy = false
	s.told()
	return s.dead
}

// StandIn keeps a record for a home.
func (s *memStore) StandIn(in *store.StandIn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	byPart := s.kept[in.Home]
	if byPart == nil {
		byPart = map[ring.Partition]map[string]store.StandIn{}
		s.kept[in.Home] = byPart
	}
	if byPart[in.Partition] == nil {
		byPart[in.Partition] = map[string]store.StandIn{}
	}
	next := in.Record
	if old, ok := byPart[in.Partition][string(in.Record.Key)]; ok {
		next = version.Merge(old.Record, next)
	}
	encoded := next.Append(nil)
	record, err := version.Parse(encoded)
	if err != nil {
		panic(err)
	}
	byPart[in.Partition][string(record.Key)] = store.StandIn{Home: in.Home, Partition: in.Partition, Record: record, Encoded: encoded}
}

// StandIns implements Store.
func (s *memStore) StandIns(home ring.NodeID, p ring.Partition, after []byte, limit int) (out []store.StandIn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range slices.Sorted(maps.Keys(s.kept[home])) {
		for _, k := range slices.Sorted(maps.Keys(s.kept[home][q])) {
			if q < p || q == p && after != nil && k <= string(after) || len(out) == limit {
				continue
			}
			out = append(out, s.kept[home][q][k])
		}
	}
	return out, s.dead
}

// StandInHomes implements Store.
func (s *memStore) StandInHomes() (out []ring.NodeID, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range sortedIDs(s.kept) {
		for _, m := range s.kept[id] {
			if len(m) > 0 && !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
	}
	return out, s.dead
}

// DropStandIn implements Store.
func (s *memStore) DropStandIn(in *store.StandIn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kept, ok := s.kept[in.Home][in.Partition][string(in.Record.Key)]; ok && bytes.Equal(kept.Encoded, in.Encoded) {
		delete(s.kept[in.Home][in.Partition], string(in.Record.Key))
	}
	return s.dead
}

// reopen is a restart of the process: new actors, and of the clocks what the
// records show, and what went to disk when the last record ended or dots were claimed.
func (s *memStore) reopen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.parts {
		s.rebuild(q)
	}
	s.nextEra(true)
	s.told()
}

// rebuild gives up a partition's clock and actor; mu is held.
func (s *memStore) rebuild(q *memPart) {
	q.actor, q.last, q.clock, q.log = 0, 0, q.disk.Clone(), nil
	for _, k := range slices.Sorted(maps.Keys(q.records)) {
		r := q.records[k]
		s.claim(q, &r)
	}
	q.log = nil
}

// lose is a loss in a partition: of the records that gone says, and of the clock.
func (s *memStore) lose(p ring.Partition, gone func(key string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.part(p)
	maps.DeleteFunc(q.records, func(k string, _ version.Record) bool { return gone(k) })
	q.actor, q.last, q.clock, q.disk, q.log = 0, 0, store.Clock{}, store.Clock{}, nil
	q.lossy = true
	delete(s.notes, p)
	s.nextEra(false)
	q.emptied = s.era
	s.told()
}

// DeclareLossOf implements Store.
func (s *memStore) DeclareLossOf(p ring.Partition, why string) error {
	s.lose(p, func(string) bool { return false })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why = append(s.why, why)
	return s.dead
}

// restart is a new process on the same disk, clocks and logs kept.
func (s *memStore) restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextEra(true)
	for _, q := range s.parts {
		q.actor, q.last = 0, 0
	}
	s.told()
}

// dump is all records by key, as leaves.
func (s *memStore) dump() map[string]version.Digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]version.Digest{}
	for _, q := range s.parts {
		for k, r := range q.records {
			out[k] = r.Leaf()
		}
	}
	return out
}

var _ Store = (*memStore)(nil)
