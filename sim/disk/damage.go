package disk

import (
	"fmt"
	"slices"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// Damage changes bytes that the disk had promised to keep. It panics on a file
// or an offset that does not exist: a script that damages nothing proves
// nothing.

// Flip changes the byte at off by xor with mask. A negative off counts from the
// end of the file.
func (d *Disk) Flip(fd storage.FileDesc, off int, mask byte) {
	d.damage(fd, off, 1, func(b []byte) { b[0] ^= mask })
}

// Zero puts zeros in place of n bytes at off.
func (d *Disk) Zero(fd storage.FileDesc, off, n int) {
	d.damage(fd, off, n, func(b []byte) { clear(b) })
}

func (d *Disk) damage(fd storage.FileDesc, off, n int, change func([]byte)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.find(fd)
	if off < 0 {
		off += len(f.data)
	}
	if off < 0 || n < 0 || off+n > len(f.data) {
		panic(fmt.Sprintf("disk: bytes %d to %d of %v, which has %d", off, off+n, fd, len(f.data)))
	}
	f.data = slices.Clone(f.data) // readers and snapshots keep theirs
	change(f.data[off : off+n])
}

// Truncate cuts a file down to its first n bytes, durably.
func (d *Disk) Truncate(fd storage.FileDesc, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.find(fd)
	if n < 0 || n > len(f.data) {
		panic(fmt.Sprintf("disk: truncate %v to %d bytes, it has %d", fd, n, len(f.data)))
	}
	f.data = slices.Clip(f.data[:n])
	f.synced, f.lost = n, nil
	d.account()
}

// Delete removes a file, durably.
func (d *Disk) Delete(fd storage.FileDesc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.find(fd)
	d.unlink(fd)
	delete(d.durable, fd)
}

// DeleteMeta removes the name of the current manifest: LevelDB's file CURRENT.
func (d *Disk) DeleteMeta() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.meta = storage.FileDesc{}
}

// Read returns a file's bytes, which must not be written to; nil if there is no
// such file.
func (d *Disk) Read(fd storage.FileDesc) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.live[fd]; f != nil {
		return slices.Clip(f.data)
	}
	return nil
}

func (d *Disk) find(fd storage.FileDesc) *file {
	f := d.live[fd]
	if f == nil {
		panic(fmt.Sprintf("disk: there is no file %v", fd))
	}
	return f
}
