package store_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing/synctest"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"
	"pgregory.net/rapid"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// The steps of the slow map: each does something to the store, and to the map.

func (m *slowMap) put(t *rapid.T) {
	p, q := m.partition(t)
	m.write(t, p, q, drawKey(t), false)
}

// write puts a key. It is false if the store refused; may says that it may.
func (m *slowMap) write(t *rapid.T, p ring.Partition, q *slowPartition, key string, may bool) bool {
	put := putAt(p, m.s.Fence(p), key, fmt.Sprint(key, m.epoch))
	if rapid.IntRange(0, 3).Draw(t, "tombstone") == 0 {
		put.Tombstone, put.Value, put.ValueDigest = true, nil, version.Digest{}
	}
	o := start(m.s, put)
	if err := o.wait(); err != nil {
		if !may || !errors.Is(err, store.ErrDropping) {
			t.Fatalf("put: %v", err)
		}
		return false
	}
	q.wrote(t, key, put, o.dot)
	if m.actors[o.dot.Actor] && o.dot.Actor != q.mine {
		t.Fatalf("%v was minted with an actor of the past", o.dot)
	}
	q.mine, m.actors[o.dot.Actor] = o.dot.Actor, true
	return true
}

func (q *slowPartition) record(key string) version.Record {
	if r, ok := q.keys[key]; ok {
		return r
	}
	return version.Record{Key: []byte(key)}
}

func (q *slowPartition) wrote(t *rapid.T, key string, put *store.Put, d version.Dot) {
	if q.gone[d] {
		t.Fatalf("%v was minted twice", d)
	}
	old := q.record(key)
	sib := version.NewSibling(d, put.Stamp, 0, put.Value)
	if put.Tombstone {
		sib = version.NewTombstone(d, put.Stamp)
	}
	q.keys[key] = old.Put(old.Seen, sib)
}

// many makes a drop that takes several pieces.
func (m *slowMap) many(t *rapid.T) {
	p, q := m.partition(t)
	n := rapid.IntRange(1, 1400).Draw(t, "n")
	r := rand.New(rand.NewPCG(uint64(n), uint64(m.actor)))
	var under []*outcome
	var records []version.Record
	for range n {
		m.actor++
		rec, err := version.Parse(recordFrom(m.actor, fmt.Sprintf("m%d", r.Uint64()), "v"))
		if err != nil {
			t.Fatal(err)
		}
		records, under = append(records, rec), append(under, startMerge(m.s, p, rec.Append(nil)))
	}
	for i, o := range under {
		if err := o.wait(); err != nil {
			t.Fatalf("merge: %v", err)
		}
		q.keys[string(records[i].Key)] = records[i]
	}
}

func (m *slowMap) merge(t *rapid.T) {
	p, q := m.partition(t)
	key := drawKey(t)
	m.actor++
	encoded := recordFrom(m.actor, key, "from elsewhere")
	rec, err := version.Parse(encoded)
	if err == nil {
		err = startMerge(m.s, p, encoded).wait()
	}
	if err != nil {
		t.Fatalf("merge: %v", err)
	}
	q.keys[key] = version.Merge(rec, q.record(key))
}

func (m *slowMap) purge(t *rapid.T) {
	p, q := m.partition(t)
	key := drawKey(t)
	rec, ok := q.keys[key]
	clock := m.s.ClockOf(p)
	may := ok && clock.Covers(rec.Seen)
	for i := range rec.Siblings {
		may = may && rec.Siblings[i].Tombstone
	}
	switch done, err := m.s.Purge(p, []byte(key), rec.Leaf(), 0); {
	case err != nil || done != may:
		t.Fatalf("purge: %v, want %v, %v", done, may, err)
	case done:
		delete(q.keys, key)
	}
}

// adopt draws a record to adopt: some partitions rise, and are dropped or not.
func (m *slowMap) adopt(t *rapid.T) (do func() error, apply func()) {
	m.epoch++
	epoch := m.epoch
	var fences [modelPartitions]uint64
	var drops []ring.Partition
	for p := range m.parts {
		fences[p] = m.parts[p].fence
		switch rapid.IntRange(0, 2).Draw(t, "what becomes of it") {
		case 0:
			drops = append(drops, ring.Partition(p))
			fallthrough
		case 1:
			fences[p] = epoch
		}
	}
	do = func() error {
		return m.s.Adopt(fmt.Append(nil, epoch), func(p ring.Partition) uint64 { return fences[p] }, modelPartitions, drops)
	}
	return do, func() {
		for p := range m.parts {
			m.parts[p].fence = fences[p]
		}
		for _, p := range drops {
			m.parts[p].empty()
			m.parts[p].mine = 0
		}
	}
}

func (m *slowMap) drop(t *rapid.T) {
	do, apply := m.adopt(t)
	if err := do(); err != nil {
		t.Fatal(err)
	}
	apply()
}

// dropAndWrite writes while the drop goes on: that is refused, or stays.
func (m *slowMap) dropAndWrite(t *rapid.T) {
	slow(m.d, time.Millisecond)
	defer slow(m.d, 0)
	m.drop(t)
	if rapid.Bool().Draw(t, "at once") {
		handOverAll(m.s)
	}
	for i := range rapid.IntRange(1, 12).Draw(t, "writes") {
		p, q := m.partition(t)
		m.write(t, p, q, fmt.Sprintf("k%d", i%3), true)
		time.Sleep(time.Duration(rapid.IntRange(0, 2000).Draw(t, "pause")) * time.Microsecond)
	}
}

// during crashes the disk while something is on its way, and opens it again.
func (m *slowMap) during(t *rapid.T, do func() error) (err error) {
	slow(m.d, time.Millisecond)
	ended := make(chan error, 1)
	go func() { ended <- do() }()
	time.Sleep(time.Duration(rapid.IntRange(0, 12_000).Draw(t, "until the crash")) * time.Microsecond)
	synctest.Wait()
	m.crash(t)
	slow(m.d, 0)
	err = <-ended
	m.open(t)
	return err
}

func (m *slowMap) crash(t *rapid.T) {
	if rapid.Bool().Draw(t, "kill") {
		m.d.Kill()
	} else {
		m.d.PowerCut()
	}
	_ = m.s.Close() // of a dead disk
	m.restarted()
}

// restarted follows a new opening: what a scan finds is claimed again.
func (m *slowMap) restarted() {
	for p := range m.parts {
		m.parts[p].vague, m.parts[p].again = false, false
		m.parts[p].mine = 0
		for _, r := range m.parts[p].keys {
			for _, d := range r.Seen {
				delete(m.parts[p].gone, d)
			}
		}
	}
	m.claims = nil // eras are those of an opening
}

// reopened follows a failure in a life of the store: who was lossy may have lost more,
// and is told nothing of what was lost twice.
func (m *slowMap) reopened() {
	m.restarted()
	for p := range m.parts {
		if m.parts[p].lossy {
			m.parts[p].note = ring.Pulled{}
		}
	}
}

func (m *slowMap) dropAndCrash(t *rapid.T) {
	do, apply := m.adopt(t)
	m.resolve(t, m.during(t, do), apply)
}

// resolve finds out whether an adoption has happened.
func (m *slowMap) resolve(t *rapid.T, failed error, apply func()) {
	until(t, m.s, "serving", func(h store.Health) bool { return h.Failed == nil })
	b, err := m.s.Meta("ring")
	if err != nil {
		t.Fatal(err)
	}
	if now := string(b); now == fmt.Sprint(m.epoch) {
		apply()
	} else if failed == nil {
		t.Fatalf("record %d was acknowledged, and there is %q", m.epoch, now)
	}
}

// begunAnew does something again that was refused because more was lost: once.
func (q *slowPartition) begunAnew(err error, do func() error) error {
	if q.again {
		q.again = false
		if !errors.Is(err, store.ErrEra) {
			return fmt.Errorf("more was lost, and that is not noticed: %w", err)
		}
		q.emptied++
		err = do()
	}
	return err
}

func (m *slowMap) drawNote(t *rapid.T, p ring.Partition, q *slowPartition) (do func() error, next ring.Pulled) {
	n := ring.Pulled{By: ring.NodeID{byte(rapid.IntRange(1, 2).Draw(t, "by"))}, Since: m.s.Fence(p)}
	for _, id := range rapid.SliceOfN(rapid.IntRange(1, 4), 1, 3).Draw(t, "from") {
		n.From = append(n.From, ring.NodeID{byte(id)})
	}
	next = ring.Pulled{By: n.By, Since: n.Since, From: slices.Clone(n.From)}
	if q.note.By == n.By && q.note.Since == n.Since {
		next.From = append(next.From, q.note.From...)
	}
	slices.SortFunc(next.From, ring.NodeID.Compare)
	next.From = slices.Compact(next.From)
	return func() error { return m.s.NotePulledIn(p, n, m.s.EraOf(p)) }, next
}

func (m *slowMap) note(t *rapid.T) {
	p, q := m.partition(t)
	fence := m.s.Fence(p)
	if fence == 0 {
		t.Skip("no fence")
	}
	if fence > 1 {
		wantError(t, m.s.NotePulled(p, ring.Pulled{By: ring.NodeID{1}, Since: fence - 1, From: []ring.NodeID{{2}}}), store.ErrFenced)
	}
	do, next := m.drawNote(t, p, q)
	if err := q.begunAnew(do(), do); err != nil {
		t.Fatal(err)
	}
	q.note = next
}

func (m *slowMap) noteAndCrash(t *rapid.T) {
	p, q := m.partition(t)
	if m.s.Fence(p) == 0 {
		t.Skip("no fence")
	}
	do, next := m.drawNote(t, p, q)
	err := m.during(t, do)
	if now := m.s.Pulled(p); now.Since == next.Since && now.By == next.By && slices.Equal(now.From, next.From) {
		q.note = next
	} else if err == nil {
		t.Fatalf("note %v was acknowledged, and there is %v", next, now)
	}
}

func (m *slowMap) lose(t *rapid.T) {
	p, q := m.partition(t)
	if err := m.s.DeclareLossOf(p, "test"); err != nil {
		t.Fatal(err)
	}
	q.again = q.lossy
	q.note, q.lossy, q.vague, q.mine = ring.Pulled{}, true, true, 0
	q.emptied++
}

func (m *slowMap) repaired(t *rapid.T) {
	p, q := m.partition(t)
	do := func() error { return m.s.Repaired(p, m.s.EraOf(p)) }
	if err := q.begunAnew(do(), do); err != nil {
		t.Fatal(err)
	}
	q.lossy = false
}

// remember reads an era, for a claim that comes much later.
func (m *slowMap) remember(t *rapid.T) {
	p, q := m.partition(t)
	m.actor++
	era := m.s.EraOf(p)
	if rapid.Bool().Draw(t, "of all") {
		era = m.s.Era()
	}
	m.claims = append(m.claims, oldClaim{p, era, q.emptied,
		store.DotSet{{Actor: m.actor, Ranges: []store.Range{{First: 1, Last: 3}}}}})
}

// claim claims what was read some time ago: it counts if nothing was emptied since.
func (m *slowMap) claim(t *rapid.T) {
	if len(m.claims) == 0 {
		t.Skip("nothing is remembered")
	}
	c := m.claims[rapid.IntRange(0, len(m.claims)-1).Draw(t, "claim")]
	q := &m.parts[c.p]
	m.settle(t)
	err := m.s.Incorporate(c.p, c.dots, c.era)
	d := version.Dot{Actor: c.dots[0].Actor, Seq: 2}
	clock := m.s.ClockOf(c.p)
	if c.emptied != q.emptied {
		wantError(t, err, store.ErrEra)
		if clock.Has(d) {
			t.Fatalf("%v was claimed from before a drop or a loss", d)
		}
		return
	}
	if err != nil || !clock.Has(d) {
		t.Fatalf("%v was not claimed: %v", d, err)
	}
}

func (m *slowMap) restart(t *rapid.T) {
	if rapid.Bool().Draw(t, "clean") {
		if err := m.s.Close(); err != nil {
			t.Fatal(err)
		}
		// What was emptied stays so.
		vague := [modelPartitions]bool{}
		for p := range m.parts {
			vague[p] = m.parts[p].vague
		}
		m.restarted()
		for p := range m.parts {
			m.parts[p].vague = vague[p]
		}
	} else {
		m.crash(t)
	}
	m.open(t)
}

func (m *slowMap) failedSync(t *rapid.T) {
	p, q := m.partition(t)
	key := drawKey(t)
	m.d.FailSync(disk.Of(storage.TypeJournal), 1, rapid.Bool().Draw(t, "persists"), syscall.EIO)
	put := putAt(p, m.s.Fence(p), key, fmt.Sprint(key, m.epoch, "failed"))
	o := start(m.s, put)
	err := o.wait()
	m.d.Heal()
	until(t, m.s, "serving", func(h store.Health) bool { return h.Failed == nil })
	m.reopened()
	if r, gerr := tryGet(m.s, p, key); gerr != nil {
		t.Fatal(gerr)
	} else if o.minted && r.Seen.Covers(o.dot) {
		q.wrote(t, key, put, o.dot)
		m.actors[o.dot.Actor] = true
	} else if err == nil {
		t.Fatalf("%v was acknowledged, and is gone", o.dot)
	}
}

// dropAndFailed has a sync fail at any step of an adoption and its drops.
func (m *slowMap) dropAndFailed(t *rapid.T) {
	do, apply := m.adopt(t)
	left := rapid.IntRange(0, 5).Draw(t, "syncs before")
	m.d.FailSync(func(fd storage.FileDesc) bool {
		left--
		return left < 0 && fd.Type == storage.TypeJournal
	}, 1, rapid.Bool().Draw(t, "persists"), syscall.EIO)
	before := m.s.Stats().Reopenings
	err := do()
	m.settleUnderFailure(t)
	m.d.Heal()
	if m.s.Stats().Reopenings != before {
		m.reopened()
	}
	m.resolve(t, err, apply)
}

// settleUnderFailure waits for the end of drops, or for a time.
func (m *slowMap) settleUnderFailure(t *rapid.T) {
	for range 5000 {
		handOverAll(m.s)
		if m.s.Health().Failed == nil && len(m.s.Dropping()) == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("drops do not end: %v, %+v, of %v", m.s.Dropping(), m.s.Health(), maps.Collect(slices.All(m.parts[:])))
}
