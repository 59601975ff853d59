package store

import (
	"errors"
	"io"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// Waits between tries to get the disk back.
const (
	reopenWaitMin = 50 * time.Millisecond
	reopenWaitMax = 5 * time.Second
	probeSlack    = 1 << 20 // bytes beyond what replaying the journals takes
)

// reopening gets the files back after a failed write. What was on its way then
// may or may not be in them; the opening finds out, and nothing is trusted that
// was in memory.
type reopening struct {
	*Store
	cause  error
	engine *engine
	marks  *marks
	out    chan<- *opened
}

// run ends with the opened files in out, or nil if the store was closed.
func (r reopening) run() {
	known := r.marks.batch
	if noSpace(r.cause) {
		// The old files are good for reading until there is space.
		r.retry(reopenWaitMin, r.probe)
	}
	r.database.Store(nil)
	r.vouch.setFailed(r.cause, false)
	if err := r.engine.close(); err != nil {
		r.logger.Warn("closing the failed database", "error", err)
	}
	wait := reopenWaitMin
	if errors.Is(r.cause, errRot) {
		wait = 0 // the disk does what it is told
	}
	drop, stale := r.mend()
	if err := r.marks.w.Close(); err != nil {
		r.logger.Warn("closing the marks", "error", err)
	}
	var files *opened
	r.retry(wait, func() error {
		o := r.opening()
		o.known, o.dropDamaged, o.stale = known, drop, stale
		o.remembered, o.boot, o.raised = r.vouch.known(), r.boot.Load(), &r.fences
		var err error
		files, err = o.open()
		return err
	})
	r.out <- files
}

// mend takes damaged blocks out of the tables. Where it finds none although
// goleveldb did, drop says that goleveldb must leave them out: they would stop
// every compaction for ever. stale says that what the database now shows of
// clocks and metadata may be older than what it showed before.
func (r reopening) mend() (drop, stale bool) {
	tables, named := r.rot.toTakeOut(r.cause)
	if !corrupted(r.cause) && len(tables) == 0 {
		return false, false
	}
	r.retry(0, func() error {
		found, lost, err := r.salvage(tables, named)
		if err == nil && !found && corrupted(r.cause) && !errors.Is(r.cause, errRot) {
			drop, stale = true, true
			r.vouch.loseAll("damaged table: %v", r.cause)
			err = r.marks.lost()
		}
		stale = stale || lost.store
		return err
	})
	return drop, stale
}

// retry tries until it works or the store is closed, for the first time after a
// wait.
func (r reopening) retry(wait time.Duration, try func() error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for wait := reopenWaitMin; ; wait = min(2*wait, reopenWaitMax) {
		select {
		case <-timer.C:
		case <-r.stop:
			return
		}
		err := try()
		if err == nil {
			return
		}
		r.logger.Warn("disk is still failing", "error", err, "retry", wait)
		timer.Reset(wait)
	}
}

// probe writes as much as opening will need, to a file of its own.
func (r reopening) probe() error {
	need := r.guard.journalBytes.Load() + probeSlack
	fd := storage.FileDesc{Type: storage.TypeTemp, Num: probeFile}
	disk := r.guard.disk
	w, err := disk.Create(fd)
	if err != nil {
		return err
	}
	piece := make([]byte, 256<<10)
	for ; need > 0 && err == nil; need -= int64(len(piece)) {
		var n int
		if n, err = w.Write(piece); err == nil && n < len(piece) {
			err = io.ErrShortWrite
		}
	}
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close(), disk.Remove(fd))
}
