package disk

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// file is an inode. Its bytes are only ever appended to: damage and power cuts
// put another slice in place. So readers, snapshots and restored disks share
// the bytes without copying.
type file struct {
	data   []byte
	synced int    // data[:synced] was covered by a successful fsync
	lost   []span // parts of data[:synced] that a failed fsync left in memory only
	gone   bool   // no name leads here: its bytes are not on the disk's account
}

type span struct{ from, to int }

// append adds b. A slice that was handed out keeps its bytes.
func (f *file) append(b []byte) { f.data = append(f.data, b...) }

type reader struct {
	h      *handle
	fd     storage.FileDesc
	f      *file
	off    int64
	closed bool
}

// view returns the bytes at off, or why they cannot be read. They are copied by
// the caller without the lock: they never change.
func (r *reader) view(off int64) ([]byte, error) {
	d := r.h.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.closed {
		return nil, storage.ErrClosed
	}
	if err := r.h.check(); err != nil {
		return nil, err
	}
	if rule := d.fault(opRead, r.fd); rule != nil {
		return nil, &os.PathError{Op: "read", Path: r.fd.String(), Err: rule.err}
	}
	if off < 0 {
		return nil, &os.PathError{Op: "readat", Path: r.fd.String(), Err: errors.New("negative offset")}
	}
	d.counts.Reads++
	if off >= int64(len(r.f.data)) {
		return nil, nil
	}
	return r.f.data[off:], nil
}

// Read implements io.Reader. One goroutine at a time may use it, as with a file.
func (r *reader) Read(b []byte) (int, error) {
	data, err := r.view(r.off)
	if err != nil {
		return 0, err
	}
	n := copy(b, data)
	r.off += int64(n)
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// ReadAt implements io.ReaderAt.
func (r *reader) ReadAt(b []byte, off int64) (int, error) {
	data, err := r.view(off)
	if err != nil {
		return 0, err
	}
	n := copy(b, data)
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// Seek implements io.Seeker.
func (r *reader) Seek(off int64, whence int) (int64, error) {
	r.h.disk.mu.Lock()
	defer r.h.disk.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		off += r.off
	case io.SeekEnd:
		off += int64(len(r.f.data))
	}
	if off < 0 {
		return 0, &os.PathError{Op: "seek", Path: r.fd.String(), Err: errors.New("negative offset")}
	}
	r.off = off
	return off, nil
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.h.disk.mu.Lock()
	defer r.h.disk.mu.Unlock()
	if r.closed {
		return storage.ErrClosed
	}
	r.closed = true
	return nil
}

type writer struct {
	h      *handle
	fd     storage.FileDesc
	f      *file
	closed bool
}

// Write appends. A failing or full disk takes a part of the bytes, as a file
// system does.
func (w *writer) Write(b []byte) (int, error) {
	d := w.h.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if w.closed {
		return 0, storage.ErrClosed
	}
	if err := w.h.writable("write", w.fd); err != nil {
		return 0, err
	}
	n, err := len(b), error(nil)
	if rule := d.fault(opWrite, w.fd); rule != nil {
		n, err = d.rng.IntN(len(b)+1), rule.err
	} else if free := d.capacity - d.used; d.capacity > 0 && free < int64(len(b)) {
		n, err = int(max(free, 0)), errNoSpace
		d.counts.Faults++
	}
	w.f.append(b[:n])
	if !w.f.gone {
		d.used += int64(n)
	}
	d.counts.Written += int64(n)
	if err != nil {
		return n, &os.PathError{Op: "write", Path: w.fd.String(), Err: err}
	}
	d.counts.Writes++
	return n, nil
}

// Sync makes what was written before it durable, and the file's name.
func (w *writer) Sync() error {
	d := w.h.disk
	upTo, wait, err := w.beginSync()
	if err != nil {
		return err
	}
	if wait > 0 {
		time.Sleep(wait)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := w.h.writable("sync", w.fd); err != nil {
		return err
	}
	if rule := d.fault(opSync, w.fd); rule != nil {
		if rule.persist {
			d.syncTo(w.fd, w.f, upTo)
		} else if upTo > w.f.synced {
			// As Linux does: the pages are marked clean, and no later
			// fsync writes them.
			w.f.lost = append(w.f.lost, span{w.f.synced, upTo})
			w.f.synced = upTo
		}
		return &os.PathError{Op: "sync", Path: w.fd.String(), Err: rule.err}
	}
	if !d.lies {
		d.syncTo(w.fd, w.f, upTo)
	}
	d.counts.Syncs++
	return nil
}

func (w *writer) beginSync() (upTo int, wait time.Duration, err error) {
	d := w.h.disk
	d.mu.Lock()
	if w.closed {
		d.mu.Unlock()
		return 0, 0, storage.ErrClosed
	}
	if err := w.h.writable("sync", w.fd); err != nil {
		d.mu.Unlock()
		return 0, 0, err
	}
	upTo = len(w.f.data)
	delay := d.delay
	d.mu.Unlock()
	if delay != nil {
		wait = delay()
	}
	return upTo, wait, nil
}

// syncTo makes the file's first bytes and its name durable; a manifest's sync
// covers the directory, as in goleveldb's file storage.
func (d *Disk) syncTo(fd storage.FileDesc, f *file, upTo int) {
	f.synced = max(f.synced, upTo)
	if fd.Type == storage.TypeManifest {
		d.syncDirectory()
		return
	}
	if d.live[fd] == f {
		d.settle(fd)
		return
	}
	for name, g := range d.live { // it was renamed since it was created
		if g == f {
			d.settle(name)
			break
		}
	}
}

// Close implements io.Closer; like a file's, it syncs nothing.
func (w *writer) Close() error {
	w.h.disk.mu.Lock()
	defer w.h.disk.mu.Unlock()
	if w.closed {
		return storage.ErrClosed
	}
	w.closed = true
	return nil
}
