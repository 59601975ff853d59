// Package disk is a simulated disk for goleveldb, kept in memory.
//
// It owns a model of what survives: every file knows which of its bytes an
// fsync has made durable, and the directory knows which names are durable. A
// power cut keeps just that, and a random part of the rest; a killed process
// loses nothing that was written. Syncs, writes, reads and creations fail on
// demand, and bytes rot on demand. All chance comes from one seed.
//
// It promises what goleveldb's own file storage promises on a journalling file
// system: fsync of a file makes its bytes and its name durable; SetMeta, and the
// fsync of a manifest, make the whole directory durable; a rename is atomic, and
// durable with the directory.
//
// It does not do LevelDB's work, and it knows nothing of kith.
package disk

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// linesMax bounds the captured log; the oldest lines go first.
const linesMax = 10_000

// Disk is the platter. Storages are opened on it, die with PowerCut or Kill, and
// others are opened on what survived. It is safe for concurrent use, and no lock
// is held while a slow sync sleeps.
type Disk struct {
	mu       sync.Mutex // guards everything below
	rng      *rand.Rand
	live     map[storage.FileDesc]*file // the directory as a running system sees it
	durable  map[storage.FileDesc]*file // the directory after a power cut, at the least
	meta     storage.FileDesc           // CURRENT; durable as soon as it is set
	life     uint64                     // storages of an older life are dead
	owner    *handle                    // who holds the lock
	rules    []*rule
	capacity int64
	used     int64
	tear     Tear
	delay    func() time.Duration
	readOnly bool
	lies     bool
	counts   Counts
	lines    []string
	logf     func(format string, args ...any)
}

// Counts are what happened on a disk since New.
type Counts struct {
	Syncs     int64 // successful ones
	Writes    int64 // successful ones
	Reads     int64 // successful ones
	Written   int64 // bytes
	Faults    int64 // injected errors that were returned
	PowerCuts int64
	Kills     int64
}

// New makes an empty disk. The seed decides what survives each power cut.
func New(seed uint64) *Disk {
	return &Disk{
		rng:     rand.New(rand.NewPCG(seed, 0x6469736b)),
		live:    map[storage.FileDesc]*file{},
		durable: map[storage.FileDesc]*file{},
	}
}

// Open gives a storage on the disk as it is now. There may be several at a time;
// only one can hold the lock that leveldb.Open takes.
func (d *Disk) Open() storage.Storage {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &handle{disk: d, life: d.life}
}

// Syncs counts the fsyncs that succeeded.
func (d *Disk) Syncs() int64 { return d.Counts().Syncs }

// Counts returns the counters.
func (d *Disk) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

// Bytes is the size of all files together.
func (d *Disk) Bytes() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}

// Files lists the files of the given types, by number.
func (d *Disk) Files(t storage.FileType) []storage.FileDesc {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.list(t)
}

func (d *Disk) list(t storage.FileType) []storage.FileDesc {
	var fds []storage.FileDesc
	for fd := range d.live {
		if fd.Type&t != 0 {
			fds = append(fds, fd)
		}
	}
	slices.SortFunc(fds, compareFiles)
	return fds
}

func compareFiles(a, b storage.FileDesc) int {
	if a.Num != b.Num {
		if a.Num < b.Num {
			return -1
		}
		return 1
	}
	return int(a.Type) - int(b.Type)
}

// Newest is the file of a type with the highest number; ok is false if there is
// none.
func (d *Disk) Newest(t storage.FileType) (fd storage.FileDesc, ok bool) {
	fds := d.Files(t)
	if len(fds) == 0 {
		return storage.FileDesc{}, false
	}
	return fds[len(fds)-1], true
}

// Size is the length of a file in bytes, or -1 if there is no such file.
func (d *Disk) Size(fd storage.FileDesc) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.live[fd]; f != nil {
		return len(f.data)
	}
	return -1
}

// Synced is how many bytes of a file, from its beginning, every power cut leaves
// in place; -1 if there is no such file.
func (d *Disk) Synced(fd storage.FileDesc) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.live[fd]
	if f == nil {
		return -1
	}
	n := f.synced
	if len(f.lost) > 0 {
		n = min(n, f.lost[0].from)
	}
	return n
}

// Logf sends what goleveldb logs to f as well; nil stops that. f must not call
// the disk.
func (d *Disk) Logf(f func(format string, args ...any)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logf = f
}

// Lines are the newest lines that goleveldb has logged, at most 10,000.
func (d *Disk) Lines() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.lines)
}

func (d *Disk) log(line string) {
	d.mu.Lock()
	if len(d.lines) >= linesMax {
		d.lines = append(d.lines[:0], d.lines[linesMax/2:]...)
	}
	d.lines = append(d.lines, line)
	f := d.logf
	d.mu.Unlock()
	if f != nil {
		f("%s", line)
	}
}

// String lists every file with its synced and written bytes, for failed tests.
func (d *Disk) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := fmt.Sprintf("meta %v", d.meta)
	for _, fd := range d.list(storage.TypeAll) {
		f := d.live[fd]
		out += fmt.Sprintf(", %v %d/%d", fd, f.synced, len(f.data))
		if d.durable[fd] != f {
			out += " (name not durable)"
		}
	}
	return out
}
