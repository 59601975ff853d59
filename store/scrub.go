package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/store/version"
)

// scrubPlace is where a pass of the scrub goes on: its tables in the order of
// their numbers, up to the newest one of when it began. What a compaction moved
// meanwhile from a table that was still to come, the compaction has checked.
type scrubPlace struct {
	newest int64 // last table of the pass
	table  int64
	block  int
}

const scrubPlaceSize = 8 + 8 + 4

func (p scrubPlace) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(p.newest))
	b = binary.BigEndian.AppendUint64(b, uint64(p.table))
	return binary.BigEndian.AppendUint32(b, uint32(p.block))
}

func parseScrubPlace(b []byte) (scrubPlace, error) {
	if len(b) != scrubPlaceSize {
		return scrubPlace{}, fmt.Errorf("scrub: place of %d bytes, want %d", len(b), scrubPlaceSize)
	}
	return scrubPlace{int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:])),
		int(binary.BigEndian.Uint32(b[16:]))}, nil
}

// scrubbing keeps the index of the table that the scrub is in.
type scrubbing struct {
	mu    sync.Mutex // guards what follows
	table int64
	index tableIndex
}

// ScrubPiece reads what lies on disk behind a place that an earlier call gave
// (nil: from the beginning), until that is limitBytes long, and checks it: every
// block, and every record in it. It passes by all caches. next is nil at the end
// of the pass; a place is good for as long as the directory. records and bytes
// are what was read.
//
// Damage is named as everywhere, and no error: an error says that nothing could
// be read now. What was written in the last moments is not in a table yet, and is
// read by a later pass.
func (s *Store) ScrubPiece(after []byte, limitBytes int) (next []byte, records, bytes int, err error) {
	if err := s.readable(); err != nil {
		return nil, 0, 0, err
	}
	tables, err := s.tableNumbers()
	if err != nil {
		return nil, 0, 0, err
	}
	var at scrubPlace
	if after != nil {
		if at, err = parseScrubPlace(after); err != nil {
			return nil, 0, 0, err
		}
	} else if len(tables) > 0 {
		at.newest = tables[len(tables)-1]
	}
	i, same := slices.BinarySearch(tables, at.table)
	if !same {
		at.block = 0
	}
	for ; i < len(tables) && tables[i] <= at.newest; i++ {
		at.table = tables[i]
		r, n, done, err := s.scrubTable(&at, limitBytes-bytes)
		records, bytes = records+r, bytes+n
		if err != nil {
			return nil, records, bytes, err
		}
		if !done {
			return at.encode(), records, bytes, nil
		}
		at.block = 0
		if at.table++; bytes >= limitBytes {
			return at.encode(), records, bytes, nil
		}
	}
	return nil, records, bytes, nil
}

// tableNumbers lists the tables on disk, sorted. Some may be in use no more.
func (s *Store) tableNumbers() ([]int64, error) {
	fds, err := s.guard.disk.List(storage.TypeTable)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	out := make([]int64, len(fds))
	for i, fd := range fds {
		out[i] = fd.Num
	}
	slices.Sort(out)
	return out, nil
}

// scrubTable checks blocks of a table from at.block on. A table that is gone was
// compacted.
func (s *Store) scrubTable(at *scrubPlace, limit int) (records, read int, done bool, err error) {
	r, err := s.guard.disk.Open(tableFile(at.table))
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, true, nil
	}
	if err != nil {
		return 0, 0, false, fmt.Errorf("scrub table %d: %w", at.table, err)
	}
	records, read, done, err = s.scrubOpened(r, at, limit)
	if cerr := r.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("scrub table %d: %w", at.table, cerr)
	}
	s.scrubbed.Add(int64(records))
	return records, read, done, err
}

func (s *Store) scrubOpened(r storage.Reader, at *scrubPlace, limit int) (records, read int, done bool, err error) {
	index, err := s.scrubIndex(r, at)
	if errors.Is(err, errRot) {
		s.rot.report(at.table)
		return 0, 0, true, nil
	}
	if err != nil {
		return 0, 0, false, fmt.Errorf("scrub table %d: %w", at.table, err)
	}
	for ; at.block < len(index.blocks); at.block++ {
		if read >= max(1, limit) {
			return records, read, false, nil
		}
		e := index.blocks[at.block]
		b, err := readBlock(r, e.blockPlace)
		read += int(e.length)
		if err == nil {
			var n int
			n, err = s.scrubBlock(b)
			records += n
		}
		if errors.Is(err, errRot) {
			s.rot.report(at.table)
		} else if err != nil {
			return records, read, false, fmt.Errorf("scrub table %d: %w", at.table, err)
		}
	}
	return records, read, true, nil
}

// scrubIndex reads the index of a table, or remembers it.
func (s *Store) scrubIndex(r storage.Reader, at *scrubPlace) (tableIndex, error) {
	sc := &s.scrubbing
	sc.mu.Lock()
	table, index := sc.table, sc.index
	sc.mu.Unlock()
	if at.block > 0 && table == at.table {
		return index, nil
	}
	size, err := fileSize(r)
	if err != nil {
		return tableIndex{}, err
	}
	index, filterRot, err := readTableIndex(r, size)
	if err != nil {
		return tableIndex{}, err
	}
	if filterRot {
		s.rot.report(at.table)
	}
	sc.mu.Lock()
	sc.table, sc.index = at.table, index
	sc.mu.Unlock()
	return index, nil
}

// scrubBlock checks the records in a block. One that is damaged although its
// block is whole may have been replaced long ago; what reads find decides.
func (s *Store) scrubBlock(b []byte) (records int, err error) {
	err = eachEntry(b, func(internal, value []byte) error {
		key := userKey(internal)
		if !isValue(internal) || len(key) <= dataKeySize || string(key[:len(dataPrefix)]) != dataPrefix {
			return nil
		}
		records++
		r, err := version.Parse(value)
		if err == nil && string(r.Key) == string(key[dataKeySize:]) {
			return nil
		}
		_, _ = s.load(partitionOf(key), slices.Clone(key)) // which names what it finds
		return nil
	})
	return records, err
}
