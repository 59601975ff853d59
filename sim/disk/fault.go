package disk

import (
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// Forever as a number of times: until Heal.
const Forever = -1

type operation uint8

const (
	opRead operation = iota
	opWrite
	opSync
	opCreate
	opRemove
	opRename
	opMeta
)

// rule is one injected fault.
type rule struct {
	op      operation
	match   func(storage.FileDesc) bool
	left    int // negative: for ever
	persist bool
	err     error
}

// fault finds the rule that an operation meets, and uses it up. The disk is
// locked.
func (d *Disk) fault(op operation, fd storage.FileDesc) *rule {
	for _, r := range d.rules {
		if r.op != op || r.left == 0 || r.match != nil && !r.match(fd) {
			continue
		}
		if r.left > 0 {
			r.left--
		}
		d.counts.Faults++
		return r
	}
	return nil
}

func (d *Disk) inject(r rule) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rules = append(d.rules, &r)
}

// Every matches all files.
func Every(storage.FileDesc) bool { return true }

// Of matches the files of the given types.
func Of(t storage.FileType) func(storage.FileDesc) bool {
	return func(fd storage.FileDesc) bool { return fd.Type&t != 0 }
}

// FailSync lets the next times fsyncs of matching files fail with err (Forever:
// all, until Heal). With persist the bytes are durable nevertheless; without,
// they stay readable until a power cut and no later fsync saves them, which is
// how Linux file systems behave. match must not call the disk; nil matches all.
func (d *Disk) FailSync(match func(storage.FileDesc) bool, times int, persist bool, err error) {
	d.inject(rule{op: opSync, match: match, left: times, persist: persist, err: err})
}

// FailWrite lets writes fail after a random part of their bytes.
func (d *Disk) FailWrite(match func(storage.FileDesc) bool, times int, err error) {
	d.inject(rule{op: opWrite, match: match, left: times, err: err})
}

// FailRead lets reads fail; opening a file still works.
func (d *Disk) FailRead(match func(storage.FileDesc) bool, times int, err error) {
	d.inject(rule{op: opRead, match: match, left: times, err: err})
}

// FailCreate lets the creation of files fail.
func (d *Disk) FailCreate(match func(storage.FileDesc) bool, times int, err error) {
	d.inject(rule{op: opCreate, match: match, left: times, err: err})
}

// FailRemove lets the removal of files fail.
func (d *Disk) FailRemove(match func(storage.FileDesc) bool, times int, err error) {
	d.inject(rule{op: opRemove, match: match, left: times, err: err})
}

// FailRename lets renames of matching old names fail.
func (d *Disk) FailRename(match func(storage.FileDesc) bool, times int, err error) {
	d.inject(rule{op: opRename, match: match, left: times, err: err})
}

// FailMeta lets SetMeta fail, and leaves the old manifest current.
func (d *Disk) FailMeta(times int, err error) {
	d.inject(rule{op: opMeta, left: times, err: err})
}

// Heal ends every injected fault, gives unlimited space, fast syncs and a
// writable disk. It repairs no damage.
func (d *Disk) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rules, d.capacity, d.delay, d.readOnly, d.lies = nil, 0, nil, false, false
}

// SetCapacity bounds the bytes of all files together: writes and creations above
// it give ENOSPC, after as many bytes as fit. 0 is no bound.
func (d *Disk) SetCapacity(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = bytes
}

// SetSyncDelay asks delay how long each fsync takes; nil is no time. The sleep
// holds no lock. delay is called from several goroutines and must not call the
// disk.
func (d *Disk) SetSyncDelay(delay func() time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = delay
}

// ReadOnly makes every change fail with EROFS, as a remounted file system does.
func (d *Disk) ReadOnly(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readOnly = on
}

// Lie makes fsyncs succeed without making anything durable, as a drive with a
// volatile cache does.
func (d *Disk) Lie(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lies = on
}
