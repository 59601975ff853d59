package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// The store's own files beside the database, which goleveldb leaves alone.
const (
	ownFiles    = 1 << 40
	markSlot0   = ownFiles
	markSlot1   = ownFiles + 1
	probeFile   = ownFiles + 2
	salvageFile = ownFiles + 3
)

// A mark is a note of a synced batch, kept outside the journal: if the database
// ends before the highest mark, synced data was lost. Marks are appended
// without a sync, which outlives the process, and synced about once a second.
//
//	crc        4 bytes, CRC32C of the rest
//	kind       1 byte
//	loss       3 bytes, counts the losses that were marked; in a lossy mark
//	generation 8 bytes, raised by each new file
//	batch      8 bytes
const (
	lossMax       = 1<<24 - 1
	markSize      = 24
	markFileBytes = 256 << 10 // then the other slot is begun

	markOpen  = 1 // batch is on disk
	markClean = 2 // and nothing follows: the store was closed
	markLossy = 3 // data may be missing; the database may not know this loss yet
)

// evidence is what the marks say.
type evidence struct {
	found      bool   // any valid mark
	batch      uint64 // highest batch that was synced
	generation uint64
	slot       int64 // of the newest mark
	clean      bool  // the newest mark is that of a close
	// losses is the highest number of a loss that was marked, 0 for none.
	losses uint32
}

// readMarks reads both slots. Damaged marks, and a torn one at the end, are
// passed over: each stands for itself.
func readMarks(disk storage.Storage) (evidence, error) {
	var ev evidence
	for _, slot := range []int64{markSlot0, markSlot1} {
		b, err := readFile(disk, storage.FileDesc{Type: storage.TypeTemp, Num: slot})
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return ev, fmt.Errorf("read marks: %w", err)
		}
		for ; len(b) >= markSize; b = b[markSize:] {
			m := b[:markSize]
			if binary.BigEndian.Uint32(m) != crc32.Checksum(m[4:], castagnoli) {
				continue
			}
			kind, generation, batch := m[4], binary.BigEndian.Uint64(m[8:]), binary.BigEndian.Uint64(m[16:])
			ev.batch = max(ev.batch, batch)
			if kind == markLossy {
				// The first ones were not numbered.
				ev.losses = max(ev.losses, 1, binary.BigEndian.Uint32(m[4:])&lossMax)
			}
			if !ev.found || generation >= ev.generation {
				ev.generation, ev.slot, ev.clean = generation, slot, kind == markClean
			}
			ev.found = true
		}
	}
	return ev, nil
}

func readFile(disk storage.Storage, fd storage.FileDesc) ([]byte, error) {
	r, err := disk.Open(fd)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

// marks writes marks. One goroutine uses it.
type marks struct {
	disk storage.Storage
	evidence
	w      storage.Writer
	bytes  int
	synced bool
	buf    [markSize]byte
}

// newMarks begins the slot that does not hold the newest mark, with a mark that
// repeats it, so that the other one is no longer needed.
func newMarks(disk storage.Storage, ev evidence) (*marks, error) {
	m := &marks{disk: disk, evidence: ev}
	m.slot = markSlot0 + markSlot1 - max(ev.slot, markSlot0)
	m.generation++
	var err error
	m.w, err = disk.Create(storage.FileDesc{Type: storage.TypeTemp, Num: m.slot})
	if err != nil {
		return nil, fmt.Errorf("create marks: %w", err)
	}
	kind := byte(markOpen)
	if ev.losses > 0 {
		kind = markLossy
	}
	if err := errors.Join(m.write(kind), m.sync()); err != nil {
		return nil, errors.Join(err, m.w.Close())
	}
	return m, nil
}

// append marks a batch as synced.
func (m *marks) append(batch uint64) error {
	m.batch = batch
	if m.bytes >= markFileBytes {
		return m.rotate()
	}
	return m.write(markOpen)
}

func (m *marks) rotate() error {
	next, err := newMarks(m.disk, m.evidence)
	if err != nil {
		return err
	}
	err = m.w.Close()
	*m = *next
	return err
}

func (m *marks) write(kind byte) error {
	b := m.buf[:]
	clear(b)
	if kind == markLossy {
		binary.BigEndian.PutUint32(b[4:], m.losses)
	}
	b[4] = kind
	binary.BigEndian.PutUint64(b[8:], m.generation)
	binary.BigEndian.PutUint64(b[16:], m.batch)
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	n, err := m.w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	m.bytes += markSize
	m.synced = false
	if err != nil {
		return fmt.Errorf("write mark: %w", err)
	}
	return nil
}

func (m *marks) sync() error {
	if m.synced {
		return nil
	}
	if err := m.w.Sync(); err != nil {
		return fmt.Errorf("sync marks: %w", err)
	}
	m.synced = true
	return nil
}

// lost makes durable that data may be missing.
func (m *marks) lost() error {
	m.losses = min(m.losses+1, lossMax)
	return errors.Join(m.write(markLossy), m.sync())
}

// closed makes durable that the database ends with the last marked batch.
func (m *marks) closed() error { return errors.Join(m.write(markClean), m.sync()) }
