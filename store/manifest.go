package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/syndtr/goleveldb/leveldb/journal"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

// manifest is what the store needs to know of LevelDB's manifest.
type manifest struct {
	exists  bool
	journal int64 // the oldest journal that is still needed; 0 for none yet
	// torn: the last record is unfinished, and all before it is whole. With
	// the files of the state before it, that is an ordinary crash.
	torn bool
	// damaged: something else is wrong with it.
	damaged bool
	missing bool // a table of the state that it describes is not there
	tables  map[int64]liveTable
}

// liveTable is a table that the database consists of.
type liveTable struct {
	size     int64
	from, to []byte // its first and last database key
}

// tableNumbers lists the tables, sorted.
func (m *manifest) tableNumbers() []int64 { return slices.Sorted(maps.Keys(m.tables)) }

// Tags of a manifest's fields.
const (
	tagComparer    = 1
	tagJournal     = 2
	tagNextFile    = 3
	tagSequence    = 4
	tagPointer     = 5
	tagDeleteTable = 6
	tagAddTable    = 7
	tagPrevJournal = 9
)

// manifestSizeMax is above what goleveldb lets a manifest grow to.
const manifestSizeMax = 256 << 20

// readManifest reads the current manifest. A disk without one is not an error.
func readManifest(disk storage.Storage) (manifest, error) {
	var m manifest
	fd, err := disk.GetMeta()
	if errors.Is(err, os.ErrNotExist) {
		return m, nil
	}
	var corrupted *storage.ErrCorrupted
	if errors.As(err, &corrupted) {
		return manifest{exists: true, damaged: true}, nil
	}
	if err != nil {
		return m, fmt.Errorf("find manifest: %w", err)
	}
	m.exists = true
	b, err := readFile(disk, fd)
	if errors.Is(err, os.ErrNotExist) {
		m.damaged = true
		return m, nil
	}
	if err != nil {
		return m, fmt.Errorf("read %v: %w", fd, err)
	}
	if len(b) > manifestSizeMax {
		m.damaged = true
		return m, nil
	}
	m.tables = make(map[int64]liveTable)
	m.replay(b)
	have, err := disk.List(storage.TypeTable)
	if err != nil {
		return m, fmt.Errorf("list tables: %w", err)
	}
	there := 0
	for _, fd := range have {
		if _, live := m.tables[fd.Num]; live {
			there++
		}
	}
	m.missing = there < len(m.tables)
	return m, nil
}

// suspect says why goleveldb must not open with this manifest: it would delete
// every table that the manifest does not name. An unfinished last record is no
// reason: the files of the state before it are still there, as it would have
// been synced before any of them went. marked is the last batch that was marked.
func (m *manifest) suspect(j journals, marked uint64) error {
	switch {
	case !m.exists:
		return nil // goleveldb refuses, unless there is nothing at all
	case m.damaged:
		return fmt.Errorf("%w: manifest", ErrCorrupt)
	case m.missing:
		return fmt.Errorf("%w: a table is missing", ErrCorrupt)
	case j.missing:
		return fmt.Errorf("%w: manifest, or a journal: %s", ErrCorrupt, j.gap)
	case m.journal == 0 && (marked > 0 || j.last > 0):
		return fmt.Errorf("%w: manifest is older than the first batch", ErrCorrupt)
	}
	return nil
}

type dropNotice bool

func (d *dropNotice) Drop(error) { *d = true }

// replay applies the records up to the first damage.
func (m *manifest) replay(b []byte) {
	var dropped dropNotice
	r := journal.NewReader(bytes.NewReader(b), &dropped, false, true)
	for {
		next, err := r.Next()
		if err != nil {
			m.torn = bool(dropped) && !m.damaged
			return
		}
		record, err := io.ReadAll(next)
		if dropped {
			if err == nil {
				m.damaged = true // something whole stands behind the damage
				return
			}
			continue
		}
		if err != nil || !m.apply(record) {
			m.damaged = true
			return
		}
	}
}

// apply reads one record; false says that it is not one.
func (m *manifest) apply(b []byte) bool {
	f := fields{b: b}
	for len(f.b) > 0 && !f.bad {
		switch f.uvarint() {
		case tagComparer:
			f.skip()
		case tagJournal:
			m.journal = int64(f.uvarint())
		case tagNextFile, tagSequence, tagPrevJournal:
			f.uvarint()
		case tagPointer:
			f.uvarint()
			f.skip()
		case tagDeleteTable:
			f.uvarint()
			delete(m.tables, int64(f.uvarint()))
		case tagAddTable:
			f.uvarint()
			n := int64(f.uvarint())
			t := liveTable{size: int64(f.uvarint())}
			t.from, t.to = userKey(f.bytes()), userKey(f.bytes())
			if !f.bad {
				m.tables[n] = t
			}
		default:
			return false
		}
	}
	return !f.bad
}

// fields reads varints and byte strings; once bad, it gives zeros.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) uvarint() uint64 {
	v, w := binary.Uvarint(f.b)
	if f.bad || w <= 0 {
		f.bad = true
		return 0
	}
	f.b = f.b[w:]
	return v
}

func (f *fields) skip() { f.bytes() }

// bytes reads a byte string; it refers to what is read.
func (f *fields) bytes() []byte {
	n := f.uvarint()
	if f.bad || n > uint64(len(f.b)) {
		f.bad = true
		return nil
	}
	out := f.b[:n]
	f.b = f.b[n:]
	return out
}
