package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// guard stands between goleveldb and the disk. goleveldb goes on after a failed
// write or sync of a journal, and then acknowledges what it will not find again:
// so the first such failure latches, and from then on nothing is written until
// the files were closed and opened anew.
//
// It also hides the store's own files, holds the disk's lock from Open to Close
// however often the database is opened between, and listens to goleveldb's log,
// the only place where that says what it dropped.
type guard struct {
	disk storage.Storage
	lock storage.Locker

	// unreadable is told of a table of which a read has failed. It is called
	// from within goleveldb: it must be quick, and call nothing back.
	unreadable func(table int64)

	latched      atomic.Pointer[latch]
	journalBytes atomic.Int64 // written since the newest journal was created

	mu     sync.Mutex // guards what follows
	failed chan struct{}
	drops  []string // lines of the log that report dropped journal data
}

type latch struct{ err error }

func newGuard(disk storage.Storage) (*guard, error) {
	lock, err := disk.Lock()
	if err != nil {
		return nil, fmt.Errorf("data directory is in use: %w", err)
	}
	return &guard{disk: disk, lock: lock, failed: make(chan struct{})}, nil
}

// err is the failure that latched, nil if none did.
func (g *guard) err() error {
	if l := g.latched.Load(); l != nil {
		return l.err
	}
	return nil
}

// failure is closed once a failure has latched.
func (g *guard) failure() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failed
}

func (g *guard) latch(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.latched.CompareAndSwap(nil, &latch{err}) {
		close(g.failed)
	}
}

// reset lets writes through again. Nothing may have the database open.
func (g *guard) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.latched.Swap(nil) != nil {
		g.failed = make(chan struct{})
	}
	g.drops = nil
}

// dropped returns what the log has said of dropped journal data since reset.
func (g *guard) dropped() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.drops
}

// guarded says that a failed write of the file must not be followed by another.
// A table is written anew, to another file, after a failure.
func guarded(t storage.FileType) bool {
	return t == storage.TypeJournal || t == storage.TypeManifest
}

func ownFile(fd storage.FileDesc) bool {
	return fd.Type == storage.TypeTemp && fd.Num >= ownFiles
}

// Lock implements storage.Storage; the disk itself is locked already.
func (g *guard) Lock() (storage.Locker, error) { return unlocked{}, nil }

type unlocked struct{}

func (unlocked) Unlock() {}

// Log implements storage.Storage.
func (g *guard) Log(line string) {
	if strings.HasPrefix(line, "journal@drop journal-") || strings.HasPrefix(line, "journal error:") {
		g.mu.Lock()
		if len(g.drops) < 16 {
			g.drops = append(g.drops, line)
		}
		g.mu.Unlock()
	}
	g.disk.Log(line)
}

// SetMeta implements storage.Storage.
func (g *guard) SetMeta(fd storage.FileDesc) error {
	if err := g.err(); err != nil {
		return err
	}
	err := g.disk.SetMeta(fd)
	if err != nil {
		g.latch(fmt.Errorf("make %v current: %w", fd, err))
	}
	return err
}

// GetMeta implements storage.Storage.
func (g *guard) GetMeta() (storage.FileDesc, error) { return g.disk.GetMeta() }

// List implements storage.Storage.
func (g *guard) List(t storage.FileType) ([]storage.FileDesc, error) {
	all, err := g.disk.List(t)
	fds := all[:0]
	for _, fd := range all {
		if !ownFile(fd) {
			fds = append(fds, fd)
		}
	}
	return fds, err
}

// Open implements storage.Storage.
func (g *guard) Open(fd storage.FileDesc) (storage.Reader, error) {
	r, err := g.disk.Open(fd)
	if err != nil || fd.Type != storage.TypeTable {
		return r, err
	}
	return &tableReader{r, g, fd.Num}, nil
}

// tableReader tells of reads that fail: goleveldb does not say of which table.
type tableReader struct {
	storage.Reader
	g     *guard
	table int64
}

// ReadAt implements io.ReaderAt.
func (r *tableReader) ReadAt(b []byte, off int64) (int, error) {
	n, err := r.Reader.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) && !starved(err) && !closedFile(err) {
		r.g.unreadable(r.table)
	}
	return n, err
}

// Create implements storage.Storage.
func (g *guard) Create(fd storage.FileDesc) (storage.Writer, error) {
	if err := g.err(); err != nil {
		return nil, err
	}
	w, err := g.disk.Create(fd)
	if err != nil {
		if guarded(fd.Type) {
			g.latch(fmt.Errorf("create %v: %w", fd, err))
		}
		return nil, err
	}
	if fd.Type != storage.TypeJournal {
		return &guardWriter{Writer: w, g: g, fd: fd}, nil
	}
	// The manifest is about to name the journal; it must not do so before
	// the journal is there to stay.
	if err := w.Sync(); err != nil {
		g.latch(fmt.Errorf("sync %v: %w", fd, err))
		return nil, errors.Join(err, w.Close())
	}
	g.journalBytes.Store(0)
	return &guardWriter{Writer: w, g: g, fd: fd}, nil
}

// Remove implements storage.Storage.
func (g *guard) Remove(fd storage.FileDesc) error {
	if err := g.err(); err != nil {
		return err
	}
	return g.disk.Remove(fd)
}

// Rename implements storage.Storage.
func (g *guard) Rename(from, to storage.FileDesc) error {
	if err := g.err(); err != nil {
		return err
	}
	return g.disk.Rename(from, to)
}

// Close implements storage.Storage. The disk belongs to who opened it.
func (g *guard) Close() error { return nil }

// release gives the disk's lock back.
func (g *guard) release() { g.lock.Unlock() }

type guardWriter struct {
	storage.Writer
	g  *guard
	fd storage.FileDesc
}

func (w *guardWriter) Write(b []byte) (int, error) {
	if err := w.g.err(); err != nil {
		return 0, err
	}
	n, err := w.Writer.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil && guarded(w.fd.Type) {
		w.g.latch(fmt.Errorf("write %v: %w", w.fd, err))
	}
	if w.fd.Type == storage.TypeJournal {
		w.g.journalBytes.Add(int64(n))
	}
	return n, err
}

func (w *guardWriter) Sync() error {
	if err := w.g.err(); err != nil {
		return err
	}
	err := w.Writer.Sync()
	if err != nil && guarded(w.fd.Type) {
		w.g.latch(fmt.Errorf("sync %v: %w", w.fd, err))
	}
	return err
}

// noSpace says that the disk takes no writes until somebody makes room or mounts it
// anew, while what it holds can be read as before.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS)
}

// closedFile says that it was not the disk that refused.
func closedFile(err error) bool {
	return errors.Is(err, os.ErrClosed) || errors.Is(err, storage.ErrClosed)
}

// starved says that it is the process that lacks something, and not the disk.
func starved(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}
