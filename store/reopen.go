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
		r.retry(r.probe)
	}
	if corrupted(r.cause) {
		// A damaged block stops every compaction that meets it, for
		// ever. To go on, goleveldb must leave it out.
		r.vouch.loseAll("damaged table: %v", r.cause)
		if err := r.marks.lost(); err != nil {
			r.logger.Error("loss could not be noted", "error", err)
		}
	}
	r.database.Store(nil)
	r.vouch.setFailed(r.cause, false)
	if err := errors.Join(r.engine.close(), r.marks.w.Close()); err != nil {
		r.logger.Warn("closing the failed files", "error", err)
	}
	var files *opened
	r.retry(func() error {
		o := r.opening()
		o.known, o.dropDamaged, o.remembered = known, corrupted(r.cause), r.vouch.known()
		var err error
		files, err = o.open()
		return err
	})
	r.out <- files
}

// retry tries until it works or the store is closed.
func (r reopening) retry(try func() error) {
	timer := time.NewTimer(reopenWaitMin)
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
