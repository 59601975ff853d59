package store

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// endings are those of all partitions. The committer changes them when it applies a
// change, before that is on disk: what is applied after it is refused already. A
// loss of records does not touch them: they say nothing of this disk.
type endings struct {
	some atomic.Bool // there are any

	mu   sync.Mutex // guards what follows
	byID map[ring.Partition]*partitionEndings
}

// partitionEndings are sorted by actor. The slice is replaced, never changed.
type partitionEndings struct {
	all    []Ending
	closed int
	// changed is the number of the clocks' change with which the last one was
	// closed.
	changed uint64
}

func newEndings() *endings { return &endings{byID: map[ring.Partition]*partitionEndings{}} }

// of are the endings of a partition, sorted by actor; nobody changes them.
func (e *endings) of(p ring.Partition) []Ending {
	if !e.some.Load() {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if q := e.byID[p]; q != nil {
		return q.all
	}
	return nil
}

// closed counts the closed actors of a partition.
func (e *endings) closed(p ring.Partition) int {
	if !e.some.Load() {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if q := e.byID[p]; q != nil {
		return q.closed
	}
	return 0
}

// set puts an ending in place of the one that is known of its actor.
func (e *endings) set(p ring.Partition, one Ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.byID[p]
	if q == nil {
		q = new(partitionEndings)
		e.byID[p] = q
	}
	at, known := findEnding(q.all, one.Actor)
	was := known && q.all[at].Closed
	q.all = slices.Clone(q.all)
	if known {
		q.all[at] = one
	} else {
		q.all = slices.Insert(q.all, at, one)
	}
	if one.Closed && !was {
		q.closed++
	}
	e.some.Store(true)
}

// touch notes with which change of the clocks actors were closed.
func (e *endings) touch(p ring.Partition, change uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if q := e.byID[p]; q != nil {
		q.changed = change
	}
}

// newEra has the changes of clocks counted anew.
func (e *endings) newEra() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, q := range e.byID {
		q.changed = min(q.changed, 1)
	}
}

// partitions are those that have endings, sorted.
func (e *endings) partitions() []ring.Partition {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.byID))
}

// Endings lists, sorted by actor, what is known of the ends of actors in a partition,
// and the reading of ClocksChanged after which the last of them was closed. The
// slice must not be changed.
func (s *Store) Endings(p ring.Partition) (all []Ending, changed uint64) {
	all = s.endings.of(p)
	if len(all) == 0 {
		return nil, 0
	}
	s.endings.mu.Lock()
	defer s.endings.mu.Unlock()
	return all, s.endings.byID[p].changed
}

// ending is news of ends of actors.
type ending struct {
	partition ring.Partition
	epoch     uint64
	news      []Ending
}

// End fences actors of a partition, or closes them. It returns when that is on disk,
// with all merges that were queued before it. From then on a record with a dot of
// such an actor is refused as Refused says, and this store mints nothing with it. The
// clock claims the holes of those that are closed. What is known is never taken back:
// of a fenced actor the dots that are taken only become more, and one that is closed
// stays as it is.
//
// Which dots a closed actor has is the caller's to know. epoch, if it is not 0, is
// that of the ring record by which it knows who was to be asked; a newer fence of the
// partition makes it ErrFenced.
func (s *Store) End(p ring.Partition, ends []Ending, epoch uint64) error {
	if err := checkPartition(p); err != nil {
		return err
	}
	for i := range ends {
		if err := ends[i].check(); err != nil {
			return err
		}
	}
	return s.do(&control{ending: &ending{partition: p, epoch: epoch, news: ends}})
}

// Minting is the actor that this store mints with in a partition, 0 for none.
func (s *Store) Minting(p ring.Partition) (version.Actor, error) {
	if err := checkPartition(p); err != nil {
		return 0, err
	}
	var actor version.Actor
	err := s.do(&control{minting: &minting{partition: p, actor: &actor}})
	return actor, err
}

// minting asks for the actor of a partition.
type minting struct {
	partition ring.Partition
	actor     *version.Actor
}

// applyEnding takes news of ends of actors. What is void is claimed with the batch.
func (c *committer) applyEnding(ctl *control) error {
	p, op := ctl.ending.partition, ctl.ending
	if fence := c.fences[p].Load(); op.epoch != 0 && op.epoch < fence {
		return fmt.Errorf("%w: partition %d: %d < %d", ErrFenced, p, op.epoch, fence)
	}
	if n := len(c.endings.of(p)) + len(op.news); n > endingsMax {
		return fmt.Errorf("%w: %d ends of actors in partition %d, limit %d", ErrTooLarge, n, p, endingsMax)
	}
	var void DotSet
	for _, news := range op.news {
		known := c.endings.of(p)
		now, more := news, true
		if at, ok := findEnding(known, news.Actor); ok {
			now, more = known[at].with(news)
			if news.Closed && !slices.Equal(now.Dots, news.Dots) {
				c.logger.Error("an actor was closed with other writes than here", "partition", p, "actor", fmt.Sprintf("%016x", uint64(news.Actor)))
			}
		}
		if err := now.check(); err != nil {
			return err
		}
		if c.actors.current(p).actor == news.Actor {
			c.actors.retire(p)
		}
		if more {
			c.endings.set(p, now)
			c.building.put(endingKey(p, now.Actor), now.Append(nil))
		}
		if holes := now.Holes(); now.Closed && len(holes) > 0 {
			void = append(void, ActorDots{now.Actor, holes})
		}
	}
	busy := c.drops.busy(p)
	if busy {
		void = nil // it holds nothing, and claims nothing
	}
	slices.SortFunc(void, func(x, y ActorDots) int { return compareActors(x.Actor, y.Actor) })
	ctl.claim = &claim{partition: p, era: c.clocks.era.Load(), dots: slices.CompactFunc(void, func(x, y ActorDots) bool { return x.Actor == y.Actor })}
	if busy {
		return nil
	}
	return c.applyClaim(ctl.claim)
}

// publishEnding tells who reads the clock of a partition that actors were closed.
// c.clocks.mu is held.
func (c *committer) publishEnding(op *ending) {
	if !slices.ContainsFunc(op.news, func(e Ending) bool { return e.Closed }) {
		return
	}
	clock := c.clocks.at(op.partition)
	c.clocks.touch(op.partition, clock)
	c.endings.touch(op.partition, clock.changed)
}

// ended says why a record is refused, by the ends of its actors. What the stored
// record holds is held, whatever the clock has room to claim.
func (c *committer) ended(p ring.Partition, r, stored *version.Record) error {
	known := c.endings.of(p)
	if len(known) == 0 {
		return nil
	}
	return Refused(known, r, func(d version.Dot) bool { return holds(stored, d) || c.clocks.claims(p, d) })
}

// claims says that the clock of p claims the dot.
func (c *clocks) claims(p ring.Partition, d version.Dot) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	clock := c.byID[p]
	return clock != nil && clock.Has(d)
}

// beyond claims what is void between the last dot of a closed actor and one above it
// that a record has seen: only a disk that lied can have shown that to anybody. mu is
// held.
func (c *clocks) beyond(p ring.Partition, clock *partitionClock, seen version.Context) (changed bool) {
	known := c.endings.of(p)
	for i := range known {
		e := &known[i]
		if n := seen.Max(e.Actor); e.Closed && n > e.Last() {
			changed = clock.AddAll(DotSet{{e.Actor, []Range{{e.Last() + 1, n}}}}) || changed
		}
	}
	return changed
}

func endingKey(p ring.Partition, actor version.Actor) []byte {
	b := binary.BigEndian.AppendUint16([]byte(metaEndings), uint16(p))
	return binary.BigEndian.AppendUint64(b, uint64(actor))
}

// loadEndings reads the ends of actors. A damaged one is as good as none: the other
// homes tell it again.
func (o *opened) loadEndings() error {
	o.endings = make(map[ring.Partition][]Ending)
	it := o.db.NewIterator(util.BytesPrefix([]byte(metaEndings)), nil)
	defer it.Release()
	for it.Next() {
		if len(it.Key()) != len(metaEndings)+10 {
			continue
		}
		p := ring.Partition(binary.BigEndian.Uint16(it.Key()[len(metaEndings):]))
		if e, err := ParseEnding(it.Value()); err == nil && p < ring.SlotCount {
			o.endings[p] = append(o.endings[p], e)
		}
	}
	if err := it.Error(); err != nil {
		if !corrupted(err) {
			return fmt.Errorf("read ends of actors: %w", err)
		}
		o.unread = append(o.unread, err)
		o.lose("ends of actors cannot be read: %v", err)
	}
	return nil
}

// installEndings takes what the disk knows. What only this process knows is written
// again: files that were opened anew may be older, and what is fenced stays fenced.
func (c *committer) installEndings(loaded map[ring.Partition][]Ending) {
	for _, p := range c.endings.partitions() {
		for _, e := range c.endings.of(p) {
			at, ok := findEnding(loaded[p], e.Actor)
			if ok && loaded[p][at].Closed == e.Closed && slices.Equal(loaded[p][at].Dots, e.Dots) {
				continue
			}
			c.building.put(endingKey(p, e.Actor), e.Append(nil))
		}
	}
	for _, p := range slices.Sorted(maps.Keys(loaded)) {
		for _, e := range loaded[p] {
			if at, ok := findEnding(c.endings.of(p), e.Actor); ok {
				e, _ = c.endings.of(p)[at].with(e)
			}
			c.endings.set(p, e)
		}
		c.endings.touch(p, 1)
	}
}
