package disk

import (
	"errors"
	"os"
	"syscall"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// ErrDead is what every call gives on a storage whose machine lost power or
// whose process was killed.
var ErrDead = errors.New("simulated crash: this storage is dead")

// ErrIO is the error of a failing device, for the Fail functions.
var ErrIO error = syscall.EIO

var (
	errNoSpace  error = syscall.ENOSPC
	errReadOnly error = syscall.EROFS
)

// handle is one process's storage.Storage.
type handle struct {
	disk   *Disk
	life   uint64
	closed bool
}

// check says why nothing can be done with the handle. The disk is locked.
func (h *handle) check() error {
	switch {
	case h.life != h.disk.life:
		return ErrDead
	case h.closed:
		return storage.ErrClosed
	}
	return nil
}

// writable is check for calls that change the disk.
func (h *handle) writable(op string, fd storage.FileDesc) error {
	if err := h.check(); err != nil {
		return err
	}
	if h.disk.readOnly {
		h.disk.counts.Faults++
		return &os.PathError{Op: op, Path: fd.String(), Err: errReadOnly}
	}
	return nil
}

type lock struct{ h *handle }

// Unlock implements storage.Locker.
func (l lock) Unlock() {
	d := l.h.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.owner == l.h {
		d.owner = nil
	}
}

// Lock implements storage.Storage. Only one handle of a disk has the lock.
func (h *handle) Lock() (storage.Locker, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if err := h.check(); err != nil {
		return nil, err
	}
	if h.disk.owner != nil {
		return nil, storage.ErrLocked
	}
	h.disk.owner = h
	return lock{h}, nil
}

// Log implements storage.Storage.
func (h *handle) Log(line string) { h.disk.log(line) }

// SetMeta implements storage.Storage. It makes the directory durable.
func (h *handle) SetMeta(fd storage.FileDesc) error {
	if !storage.FileDescOk(fd) {
		return storage.ErrInvalidFile
	}
	d := h.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := h.writable("rename", fd); err != nil {
		return err
	}
	if rule := d.fault(opMeta, fd); rule != nil {
		return &os.PathError{Op: "rename", Path: "CURRENT", Err: rule.err}
	}
	d.meta = fd
	d.syncDirectory()
	return nil
}

// GetMeta implements storage.Storage.
func (h *handle) GetMeta() (storage.FileDesc, error) {
	d := h.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := h.check(); err != nil {
		return storage.FileDesc{}, err
	}
	if d.meta.Zero() || d.live[d.meta] == nil {
		return storage.FileDesc{}, os.ErrNotExist
	}
	return d.meta, nil
}

// List implements storage.Storage.
func (h *handle) List(t storage.FileType) ([]storage.FileDesc, error) {
	d := h.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := h.check(); err != nil {
		return nil, err
	}
	return d.list(t), nil
}

// Open implements storage.Storage. A file that is being written can be read.
func (h *handle) Open(fd storage.FileDesc) (storage.Reader, error) {
	if !storage.FileDescOk(fd) {
		return nil, storage.ErrInvalidFile
	}
	d := h.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := h.check(); err != nil {
		return nil, err
	}
	f := d.live[fd]
	if f == nil {
		return nil, &os.PathError{Op: "open", Path: fd.String(), Err: os.ErrNotExist}
	}
	return &reader{h: h, fd: fd, f: f}, nil
}

// Create implements storage.Storage.
func (h *handle) Create(fd storage.FileDesc) (storage.Writer, error) {
	if !storage.FileDescOk(fd) {
		return nil, storage.ErrInvalidFile
	}
	d := h.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := h.writable("create", fd); err != nil {
		return nil, err
	}
	if rule := d.fault(opCreate, fd); rule != nil {
		return nil, &os.PathError{Op: "create", Path: fd.String(), Err: rule.err}
	}
	if d.capacity > 0 && d.used >= d.capacity {
		d.counts.Faults++
		return nil, &os.PathError{Op: "create", Path: fd.String(), Err: errNoSpace}
	}
	d.unlink(fd)
	f := &file{}
	d.live[fd] = f
	return &writer{h: h, fd: fd, f: f}, nil
}

// Remove implements storage.Storage.
func (h *handle) Remove(fd storage.FileDesc) error {
	if !storage.FileDescOk(fd) {
		return storage.ErrInvalidFile
	}
	d := h.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := h.writable("remove", fd); err != nil {
		return err
	}
	if rule := d.fault(opRemove, fd); rule != nil {
		return &os.PathError{Op: "remove", Path: fd.String(), Err: rule.err}
	}
	if d.live[fd] == nil {
		return &os.PathError{Op: "remove", Path: fd.String(), Err: os.ErrNotExist}
	}
	d.unlink(fd)
	return nil
}

// Rename implements storage.Storage. It replaces what had the new name.
func (h *handle) Rename(from, to storage.FileDesc) error {
	if !storage.FileDescOk(from) || !storage.FileDescOk(to) {
		return storage.ErrInvalidFile
	}
	if from == to {
		return nil
	}
	d := h.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := h.writable("rename", from); err != nil {
		return err
	}
	if rule := d.fault(opRename, from); rule != nil {
		return &os.PathError{Op: "rename", Path: from.String(), Err: rule.err}
	}
	f := d.live[from]
	if f == nil {
		return &os.PathError{Op: "rename", Path: from.String(), Err: os.ErrNotExist}
	}
	d.unlink(to)
	delete(d.live, from)
	d.live[to] = f
	return nil
}

// Close implements storage.Storage and releases the lock.
func (h *handle) Close() error {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if h.closed {
		return storage.ErrClosed
	}
	h.closed = true
	if h.disk.owner == h {
		h.disk.owner = nil
	}
	return nil
}

// unlink takes a name out of the live directory. The bytes stay for open files,
// and for a power cut that comes before the directory is durable.
func (d *Disk) unlink(fd storage.FileDesc) {
	f := d.live[fd]
	if f == nil {
		return
	}
	delete(d.live, fd)
	f.gone = true
	d.used -= int64(len(f.data))
}
