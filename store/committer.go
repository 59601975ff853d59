package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/kithdb/kith/ring"
)

const clockBytesMax = 1 << 20 // of clocks in one batch

// committer does every read-modify-write, in one goroutine. It builds one batch
// while another one is written, and completes operations in commit order.
type committer struct {
	*Store
	actors  actors
	writer  writer
	engine  *engine // nil while failed
	number  uint64  // of the last batch that is on disk or being written
	scratch []byte

	building *batch
	spare    *batch // nil while one is written
	writing  *batch // nil if none
	markSync *batch // writes nothing
	written  result // not finished yet; of no batch if there is none

	items, next []item // taken from the intake; next is not yet applied
	arrived     bool   // the intake has some
	closing     bool

	window     window
	clockTick  *time.Ticker
	marksTick  *time.Ticker
	marksDirty bool
	clocksDue  bool

	failure <-chan struct{} // of the guard
	failed  error

	logBlocks logBlocks
	rebuilds  rebuilds
	// quarantining is why the files are to be closed once nothing is being
	// written; until then no new batch is begun.
	quarantining error
}

func newCommitter(s *Store, o *opened) *committer {
	c := &committer{Store: s, building: newBatch(), spare: newBatch(), markSync: newBatch()}
	c.actors.rand = s.options.Rand
	c.actors.known = s.clocks.knows
	c.markSync.reset(0)
	c.markSync.syncMarks = true
	c.writer.in = make(chan *batch, 1)
	c.writer.out = make(chan result, 1)
	c.window = newWindow()
	c.install(o)
	return c
}

// install begins to work on opened files.
func (c *committer) install(o *opened) {
	c.engine, c.number, c.failed, c.quarantining = o.engine, o.batch, nil, nil
	c.writer.marks, c.writer.syncedAt = o.marks, time.Now()
	c.failure = c.guard.failure()
	c.actors.retireAll()
	c.cache.clear()
	c.clocks.reset(o)
	for p, epoch := range o.fences {
		c.fences.raise(p, epoch)
	}
	c.vouch.setCount(o.partitions)
	c.building.reset(c.number + 1)
	c.installEndings(o.endings)
	c.keys.Store(int64(o.keys))
	c.standIns.Store(o.standIns)
	c.standInBytes.Store(o.standInBytes)
	o.round = c.trees.reset(o.trees)
	c.dotLog.reset()
	c.logBlocks, c.rebuilds = make(logBlocks), rebuilds{}
	for _, err := range o.unread {
		c.rotten(err)
	}
	c.boot.Store(o.boot)
	c.durable.Store(o.batch)
	c.vouch.setLosses(o.losses)
	c.installDrops(o.drops)
	c.database.Store(o.engine)
	c.vouch.setFailed(nil, true)
	signal(c.drops.wake)
}

func (c *committer) run() {
	c.background.Go(c.writer.run)
	defer close(c.writer.in)
	c.clockTick = time.NewTicker(c.options.ClockPersistEvery)
	defer c.clockTick.Stop()
	c.marksTick = time.NewTicker(marksSyncEvery)
	defer c.marksTick.Stop()
	burst := c.options.Burst
	for burst.Begin(); c.work(); burst.Begin() {
		burst.End()
		c.wait()
	}
	burst.End()
	c.end()
}

// work does all that can be done now. It is false when nothing is left to do.
func (c *committer) work() bool {
	if r := c.written; r.batch != nil {
		c.written = result{}
		c.finish(r)
	}
	if c.arrived {
		c.arrived = false
		c.take()
	}
	if c.watch(); c.done() {
		return false
	}
	c.apply()
	if c.quarantining != nil {
		c.watch() // nothing else may come that would have it look
		c.apply()
	}
	c.startRebuild()
	c.send()
	return true
}

// wait waits until there may be something to do.
func (c *committer) wait() {
	ready := c.intake.ready
	if len(c.next) > 0 || c.closing {
		ready = nil // a full batch must go first
	}
	select {
	case <-ready:
		c.arrived = true
	case c.written = <-c.writer.out:
	case <-c.window.timer.C:
		c.window.elapsed()
	case <-c.clockTick.C:
		c.clocksDue = true
	case <-c.marksTick.C:
		select { // both tick at one instant now and then: clocks go first
		case <-c.clockTick.C:
			c.clocksDue = true
		default:
		}
		c.persistClocks()
		c.syncMarks()
	case <-c.failure:
		c.failure = nil
	case o := <-c.reopened:
		c.reopen(o)
	}
}

func (c *committer) take() {
	c.items, c.closing = c.intake.take(c.items)
	c.next = c.items
	if c.closing {
		c.quarantining = nil // the next opening finds it again
	}
}

// done says that nothing is left to do and nothing will come.
func (c *committer) done() bool {
	return c.closing && len(c.next) == 0 && c.writing == nil && (c.failed != nil || c.building.empty())
}

// apply puts waiting operations into the batch that is being built.
func (c *committer) apply() {
	for len(c.next) > 0 && (c.failed != nil || c.quarantining == nil && !c.building.full()) {
		i := c.next[0]
		c.next[0] = item{}
		c.next = c.next[1:]
		if c.failed != nil {
			c.complete(i, c.refusal())
			continue
		}
		switch {
		case i.put != nil:
			c.applyPut(i.put)
		case i.merge != nil:
			c.applyMerge(i.merge)
		case i.stand != nil:
			c.applyStandIn(i.stand)
		default:
			c.applyControl(i.ctl)
		}
	}
}

// send gives the batch to the writer when its time has come.
func (c *committer) send() {
	if c.writing != nil || c.failed != nil {
		return
	}
	c.persistClocks()
	if c.building.empty() {
		return
	}
	b := c.building
	if !c.closing && c.quarantining == nil && !b.full() && !c.window.over(len(b.ops)) {
		return
	}
	c.window.sent(len(b.ops))
	c.putClocks()
	b.engine = c.engine
	c.number = b.number
	c.writing, c.building, c.spare = b, c.spare, nil
	c.building.reset(c.number + 1)
	c.marksDirty = true
	c.writer.in <- b
}

// finish publishes and acknowledges what the writer wrote.
func (c *committer) finish(r result) {
	b := r.batch
	c.writing = nil
	if b != c.markSync {
		c.spare = b
		c.window.learn(len(b.ops), len(c.building.ops))
	}
	if r.err != nil {
		c.guard.latch(r.err)
		c.stopped(c.guard.err())
		c.lose(b, fmt.Errorf("%w: %w", ErrUncertain, c.guard.err()))
		return
	}
	if b != c.markSync {
		c.durable.Store(b.number)
	}
	c.publish(b)
	for _, i := range b.ops {
		c.complete(i, nil)
	}
	clear(b.ops)
	b.ops = b.ops[:0]
}

func (c *committer) publish(b *batch) {
	// Readers see a record before the clock claims it: who reads the clock and
	// then a record takes what that lacks for replaced.
	for i := range b.records {
		w := &b.records[i]
		if b.newest[w.key] == w.entry {
			c.cache.publish(w.hash, w.committed())
		}
	}
	c.clocks.mu.Lock()
	for i := range b.records {
		w := &b.records[i]
		c.clocks.incorporated(w.partition, &w.rec, c.actors.current(w.partition).actor, loggedAs{key: w.key})
	}
	c.publishClaims(b.ops)
	c.clocks.mu.Unlock()
	c.publishNotes(b)
	c.trees.publish(b.records)
	c.dotLog.written(b.number)
	c.publishDrops(b)
	c.writeLog()
	c.keys.Add(int64(b.newKeys))
	c.standIns.Add(b.standIns)
	c.standInBytes.Add(b.standInBytes)
	c.recordsWritten.Add(int64(len(b.records)))
	if b.writes.Len() > 1 {
		c.batchesWritten.Add(1)
	}
	clear(b.records)
	b.records = b.records[:0]
	clear(b.newest)
}

// complete tells an operation's owner what became of it.
func (c *committer) complete(i item, err error) {
	switch {
	case i.put != nil:
		c.release(&i.put.link)
		i.put.Sink.Committed(err)
	case i.merge != nil:
		c.release(&i.merge.link)
		i.merge.Sink.Committed(err)
	case i.stand != nil:
		c.release(&i.stand.link)
		i.stand.sink.Committed(err)
	case err == nil:
		i.ctl.done <- i.ctl.err
	default:
		i.ctl.done <- err
	}
}

// lose fails the operations of a batch. Those whose record was given to others
// may surface, whatever this disk holds.
func (c *committer) lose(b *batch, err error) {
	for _, i := range b.ops {
		c.complete(i, err)
	}
	clear(b.ops)
	b.ops = b.ops[:0]
	clear(b.newest)
	clear(b.records)
	b.records = b.records[:0]
}

// watch stops all writing once the guard has seen a failure, until the files
// were reopened. A batch that is being written is waited for first: it may have
// been in time.
func (c *committer) watch() {
	err := c.guard.err()
	if err == nil && c.building.empty() {
		err = c.quarantining
	}
	if err == nil || c.failed != nil || c.writing != nil {
		return
	}
	c.failed, c.failure = err, nil
	c.stopped(err)
	// What was built was never written here. But a minted record is with the
	// other homes by now.
	uncertain, refused := fmt.Errorf("%w: %w", ErrUncertain, err), c.refusal()
	for _, i := range c.building.ops {
		if i.put != nil {
			c.complete(i, uncertain)
		} else {
			c.complete(i, refused)
		}
	}
	c.building.reset(c.number + 1)
	c.actors.retireAll()
	c.logger.Error("store stopped taking writes", "error", err)
	r := reopening{Store: c.Store, cause: err, engine: c.engine, marks: c.writer.marks, out: c.reopened}
	c.engine = nil
	c.background.Go(r.run)
}

// stopped lets Health say so before anybody is told.
func (c *committer) stopped(err error) { c.vouch.setFailed(err, noSpace(err) || corrupted(err)) }

// refusal is what operations get while the store is failed.
func (c *committer) refusal() error { return fmt.Errorf("%w: %w", ErrFailed, c.failed) }

// reopen goes on with files that were reopened; nil if the store was stopped
// meanwhile.
func (c *committer) reopen(o *opened) {
	if o == nil {
		return
	}
	c.reopenings.Add(1)
	c.install(o)
	c.logger.Info("store takes writes again", "batch", o.batch)
	c.startCount(o)
	c.openings.over()
}

// persistClocks adds the clocks that changed to the batch when that is due, and no
// other batch is under way: what it claims is in no clock yet.
func (c *committer) persistClocks() {
	if !c.clocksDue || c.writing != nil || c.failed != nil || c.closing {
		return
	}
	c.clocksDue = false
	c.clocks.drainDirty(clockBytesMax, func(p ring.Partition, b []byte) { c.building.put(clockKey(p), b) })
}

// syncMarks lets no mark stay unsynced when nothing follows it.
func (c *committer) syncMarks() {
	if c.failed != nil || c.writing != nil || !c.building.empty() || !c.marksDirty || time.Since(c.window.done) < marksSyncEvery {
		return
	}
	c.marksDirty = false
	c.writing = c.markSync
	c.writer.in <- c.markSync
}

// end writes what a clean close leaves behind, and closes the files. The writer
// is idle.
func (c *committer) end() {
	if c.failed != nil {
		// The reopening has the files.
		c.closeError = c.refusal()
		return
	}
	counted := c.counted.Load()
	err := c.writeEnd(counted)
	switch {
	case err != nil:
	case counted:
		err = c.writer.marks.closed()
	default:
		err = c.writer.marks.sync()
	}
	c.database.Store(nil)
	c.closeError = errors.Join(err, c.engine.close(), c.writer.marks.w.Close())
}
