package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// markName is the file that says whose directory this is. It holds one line.
const (
	markName   = "KITH"
	markFormat = "kith data 1\n"
	markPrefix = "kith data "
)

// newerHint is what to do about data that this program cannot read.
const newerHint = "use the program that wrote it, or a newer one"

// openDirectory opens a data directory, new or our own, and no other.
func openDirectory(dir string) (storage.Storage, error) {
	if dir == "" {
		return nil, errors.New("no data directory is given: add --data DIR")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := checkMark(dir); err != nil {
		return nil, err
	}
	lock, err := awaitLock(dir)
	if err != nil {
		return nil, usedDirectory(dir, err)
	}
	disk, err := storage.OpenFile(filepath.Join(dir, "db"), false)
	if err != nil {
		_ = lock.Close()
		return nil, usedDirectory(dir, err)
	}
	return &directory{disk, lock}, nil
}

// lockMax is how long a start waits for another process to let go of the directory. One
// that was told to end takes no requests any more, and closes its files behind that.
const lockMax = 5 * time.Second

// awaitLock locks a directory, and waits a while where another process has it.
func awaitLock(dir string) (*os.File, error) {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for begun := time.Now(); ; <-look.C {
		lock, err := lockDir(dir)
		if !errors.Is(err, syscall.EAGAIN) || time.Since(begun) > lockMax {
			return lock, err
		}
	}
}

// directory is a disk that is locked until it is closed.
type directory struct {
	storage.Storage
	lock *os.File // nil where directories cannot be locked
}

// Close implements storage.Storage.
func (d *directory) Close() error {
	err := d.Storage.Close()
	_ = d.lock.Close()
	return err
}

// usedDirectory says why a directory could not be opened.
func usedDirectory(dir string, err error) error {
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, storage.ErrLocked) {
		return fmt.Errorf("data directory %s: another process is using it", dir)
	}
	return fmt.Errorf("data directory %s: %w", dir, err)
}

// checkMark refuses a directory of somebody else, or of a later format.
func checkMark(dir string) error {
	path := filepath.Join(dir, markName)
	mark, err := os.ReadFile(path)
	switch {
	case err == nil && string(mark) == markFormat:
		return nil
	case err == nil && strings.HasPrefix(string(mark), markPrefix):
		return fmt.Errorf("data directory %s has format %q, this program knows %q: %s",
			dir, strings.TrimSpace(string(mark)), strings.TrimSpace(markFormat), newerHint)
	case err == nil:
		return fmt.Errorf("data directory %s: the file %s is not kith's: %.40q", dir, markName, mark)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	for _, e := range entries {
		if e.Name() != "lost+found" {
			return fmt.Errorf("data directory %s holds something else already (%s): kith wants an empty directory, or its own", dir, e.Name())
		}
	}
	return writeMark(dir, path)
}

func writeMark(dir, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	_, err = f.WriteString(markFormat)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
