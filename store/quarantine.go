package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	ldberrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/ring"
)

// A damaged block is in the way for ever: scans end at it, and goleveldb stops
// all writes once a compaction meets it. So the store puts it out of the way.
// What finds it reports the table. In the background the table is read whole, the
// loss of what was in its damaged blocks is named and made durable, and only then
// the files are closed, the blocks are taken out of the table, and the files are
// opened anew. What is lost is for other homes to give back.
//
// A block that the disk refuses to read may come back with the next try, as long
// as the disk as a whole has not: only one that stays away for a minute, in a
// table that else can be read, is damaged.
const (
	// quarantineSweepMax is up to how many bytes of tables all are read
	// when one is damaged: rot seldom comes alone.
	quarantineSweepMax = 256 << 20
	quarantineRetry    = time.Second
	// quarantinePause gathers reports, and lets what waits for a step see it
	// before the next: all of them would come at one instant where the disk is
	// fast.
	quarantinePause = 1300 * time.Microsecond

	unreadableRetry = 15 * time.Second
	unreadableTries = 5
)

// rot is what was reported to be damaged.
type rot struct {
	mu         sync.Mutex // guards what follows
	reported   map[int64]struct{}
	unreadable map[int64]int      // reads of these failed; so many looks found no rot
	confirmed  map[int64]struct{} // and is to be taken out at the next reopening

	wake  chan struct{} // holds a token while reports wait
	again chan struct{} // holds a token while unreadable is not empty
}

func newRot() *rot {
	return &rot{reported: make(map[int64]struct{}), unreadable: make(map[int64]int), confirmed: make(map[int64]struct{}),
		wake: make(chan struct{}, 1), again: make(chan struct{}, 1)}
}

// rotten is given every error of reading the database, and reports the table
// that it names as damaged, if it does.
func (s *Store) rotten(err error) {
	var c *ldberrors.ErrCorrupted
	if errors.As(err, &c) && c.Fd.Type == storage.TypeTable {
		s.rot.report(c.Fd.Num)
	}
}

// report says that a table may be damaged. It never waits.
func (r *rot) report(table int64) {
	r.mu.Lock()
	r.reported[table] = struct{}{}
	r.mu.Unlock()
	signal(r.wake)
}

// reportUnreadable says that the disk refused to read a part of a table. It never
// waits.
func (r *rot) reportUnreadable(table int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.unreadable[table]; !known {
		r.unreadable[table] = 0
		signal(r.again)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take returns the tables that were reported, sorted.
func (r *rot) take() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Sorted(maps.Keys(r.reported))
	clear(r.reported)
	return out
}

// confirm notes tables for the next reopening.
func (r *rot) confirm(found []damagedTable) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range found {
		r.confirmed[d.number] = struct{}{}
	}
}

// pending says that tables are to be mended.
func (r *rot) pending() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.confirmed) > 0
}

// toTakeOut returns the tables for a reopening with the given cause, sorted, and
// those of them whose loss is named and durable.
func (r *rot) toTakeOut(cause error) (tables, named []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	named = slices.Sorted(maps.Keys(r.confirmed))
	var c *ldberrors.ErrCorrupted
	if errors.As(cause, &c) && c.Fd.Type == storage.TypeTable {
		r.confirmed[c.Fd.Num] = struct{}{}
	}
	tables = slices.Sorted(maps.Keys(r.confirmed))
	clear(r.confirmed)
	return tables, named
}

// quarantine looks into reports until the store is closed.
func (s *Store) quarantine() {
	again := time.NewTimer(unreadableRetry)
	again.Stop()
	defer again.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-s.rot.wake:
			if !s.sleep(quarantinePause) {
				return
			}
			tables := s.rot.take()
			if err := s.quarantineTables(tables, false); err != nil {
				s.logger.Warn("damaged tables cannot be looked into yet", "tables", tables, "error", err)
				if !s.sleep(quarantineRetry) {
					return
				}
				for _, n := range tables {
					s.rot.report(n)
				}
			}
		case <-s.rot.again:
			again.Reset(unreadableRetry)
		case <-again.C:
			s.lookAgain()
		}
	}
}

// lookAgain reads the tables of which reads have failed. What cannot be read for
// so many times is damaged.
func (s *Store) lookAgain() {
	s.rot.mu.Lock()
	tables := slices.Sorted(maps.Keys(s.rot.unreadable))
	s.rot.mu.Unlock()
	for _, n := range tables {
		s.rot.mu.Lock()
		s.rot.unreadable[n]++
		last := s.rot.unreadable[n] >= unreadableTries
		s.rot.mu.Unlock()
		err := s.quarantineTables([]int64{n}, last)
		if err != nil && !last {
			continue
		}
		if err != nil {
			s.logger.Error("a table cannot be read", "table", n, "error", err)
		}
		s.rot.mu.Lock()
		delete(s.rot.unreadable, n)
		s.rot.mu.Unlock()
	}
	s.rot.mu.Lock()
	defer s.rot.mu.Unlock()
	if len(s.rot.unreadable) > 0 {
		signal(s.rot.again)
	}
}

// quarantineTables reads tables that were reported. If they are damaged it names
// the loss, and has the files reopened without it. refused says that blocks which
// the disk refuses to read are damaged.
func (s *Store) quarantineTables(tables []int64, refused bool) error {
	if len(tables) == 0 {
		return nil
	}
	m, err := readManifest(s.guard.disk)
	if err != nil {
		return err
	}
	if m.damaged || !m.exists {
		return fmt.Errorf("%w: manifest", ErrCorrupt)
	}
	found, err := examine(s.guard.disk, &m, tables, refused)
	if len(found) == 0 {
		return err
	}
	if err := s.nameDamage(found); err != nil {
		return err
	}
	if !s.sleep(quarantinePause) {
		return ErrClosed
	}
	s.rot.confirm(found)
	cause := fmt.Errorf("%w: %d are damaged, the first is number %d", errRot, len(found), found[0].number)
	return s.do(&control{quarantine: cause})
}

// nameDamage makes the loss of what damaged blocks held known, and durable, in one
// step.
func (s *Store) nameDamage(found []damagedTable) error {
	lost := s.lossOf(found)
	var all []item
	for _, p := range lost.partitions {
		s.trees.doubt(p)
		all = append(all, item{ctl: &control{lost: &p, done: make(chan error, 1)}})
	}
	last := &control{lostAll: lost.all, losses: true, done: make(chan error, 1)}
	if !s.intake.push(append(all, item{ctl: last})...) {
		return ErrClosed
	}
	return <-last.done
}

// blockLoss is what was in damaged blocks, as far as their places tell.
type blockLoss struct {
	partitions []ring.Partition
	all        bool
	// store says that clocks or metadata were among it: what the database
	// shows of them now may be older than what it showed before.
	store bool
	// news says that Health did not know of all this.
	news bool
}

// lossOf finds out what damaged blocks held, and tells Health.
func (s *Store) lossOf(found []damagedTable) blockLoss {
	var out blockLoss
	most := s.partitionsUsed()
	for _, d := range found {
		for _, span := range d.lost {
			s.logger.Error("a table is damaged; what it held there is lost", "table", d.number,
				"from", fmt.Sprintf("%.64q", span.from), "to", fmt.Sprintf("%.64q", span.to))
			if span.touches(clockPrefix) || span.touches(metaPrefix) {
				out.store = true
			}
			if span.touchesNamed() {
				out.all = true
				s.vouch.loseAll("table %d is damaged: metadata is lost", d.number)
			}
			if span.touches(standInPrefix) {
				s.vouch.note("table %d is damaged: stand-ins for other members may be lost", d.number)
			}
			first, last, any := span.partitions(most)
			if any && int(last-first) >= lossPartitionsMax {
				out.all = true
				s.vouch.loseEvery("table %d is damaged: partitions %d to %d", d.number, first, last)
				continue
			}
			for p := first; any && p <= last; p++ {
				if s.vouch.lose(p, "partition %d: table %d is damaged", p, d.number) {
					out.news = true
					s.logger.Error("synced data was lost; reads of this partition do not count", "partition", p, "table", d.number)
				}
				if !slices.Contains(out.partitions, p) {
					out.partitions = append(out.partitions, p)
				}
			}
		}
	}
	slices.Sort(out.partitions)
	return out
}

// partitionsUsed bounds the partitions that can have records: by the fences,
// which every partition of a ring has, or by the trees. It is the number of all
// that there can be where neither tells.
func (s *Store) partitionsUsed() int {
	fenced := len(s.fences)
	for fenced > 0 && s.fences[fenced-1].Load() == 0 {
		fenced--
	}
	used, whole := s.trees.used()
	if fenced == 0 && !whole {
		return ring.SlotCount
	}
	return max(fenced, used)
}

// keySpan is a span of database keys, both ends included. A nil end is open.
type keySpan struct{ from, to []byte }

// touches says that keys with the prefix may be in the span.
func (k keySpan) touches(prefix string) bool {
	if k.to != nil && string(k.to) < prefix {
		return false
	}
	end := prefix[:len(prefix)-1] + string(prefix[len(prefix)-1]+1)
	return string(k.from) < end
}

// touchesNamed says that metadata may be in the span that the store has no copy
// of: that of others, which have names, and that of the store has names that
// begin with a dot and are written anew.
func (k keySpan) touchesNamed() bool {
	return k.touches(metaPrefix) && (k.to == nil || string(k.to) >= metaPrefix+"/")
}

// partitions are the first and the last one with records in the span, below
// used.
func (k keySpan) partitions(used int) (first, last ring.Partition, any bool) {
	if !k.touches(dataPrefix) || used == 0 {
		return 0, 0, false
	}
	last = ring.Partition(used - 1)
	if bytes.HasPrefix(k.from, []byte(dataPrefix)) {
		first = partitionBound(k.from, 0)
	}
	if k.to != nil && bytes.HasPrefix(k.to, []byte(dataPrefix)) {
		last = min(last, partitionBound(k.to, 0xff))
	}
	return first, last, first <= last
}

// partitionBound reads the partition of a key that may be cut short: missing bytes
// are taken for fill.
func partitionBound(key []byte, fill byte) ring.Partition {
	b := append(slices.Clone(key[len(dataPrefix):]), fill, fill)
	return ring.Partition(b[0])<<8 | ring.Partition(b[1])
}
