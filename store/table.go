package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/util"
)

// goleveldb says that a table is damaged, and not what was in the damaged part;
// and it reads through a cache. So the store reads tables itself where it looks
// for rot.
//
// LevelDB's table format: data blocks, a filter block, a meta block that names
// it, an index block with the last key and the place of each data block, and a
// footer with the places of the last two. A block is followed by its compression
// type and a masked CRC32C over both.
const (
	blockTrailer = 5
	tableFooter  = 48
	tableMagic   = "\x57\xfb\x80\x8b\x24\x75\x47\xdb"
	filterPrefix = "filter."

	// An entry's key ends with its number and kind.
	internalSuffix = 8
	kindValue      = 1
)

// blockPlace is where a block lies in its file, without its trailer.
type blockPlace struct{ offset, length int64 }

func (p blockPlace) end() int64 { return p.offset + p.length + blockTrailer }

// tableIndex is what a table says of its blocks.
type tableIndex struct {
	size        int64
	meta, index blockPlace
	filter      blockPlace // of length 0 if there is none
	blocks      []indexEntry
}

// indexEntry is a data block. No key in it is behind last, which is an internal
// one.
type indexEntry struct {
	blockPlace
	last []byte
}

// errRot says that bytes of a table are not what was written.
var errRot = fmt.Errorf("%w: table", ErrCorrupt)

// readTableIndex reads the end of a table of the given size. An error that is
// errRot says that nothing can be found in the table; with only the meta or the
// filter block damaged, filterRot is set: nothing is lost then.
func readTableIndex(r io.ReaderAt, size int64) (t tableIndex, filterRot bool, err error) {
	t.size = size
	if size < tableFooter {
		return t, false, fmt.Errorf("%w: %d bytes", errRot, size)
	}
	var footer [tableFooter]byte
	if err := readAt(r, footer[:], size-tableFooter); err != nil {
		return t, false, err
	}
	if string(footer[tableFooter-len(tableMagic):]) != tableMagic {
		return t, false, fmt.Errorf("%w: footer", errRot)
	}
	f := fields{b: footer[:]}
	t.meta, t.index = f.place(size), f.place(size)
	if f.bad {
		return t, false, fmt.Errorf("%w: footer", errRot)
	}
	index, err := readBlock(r, t.index)
	if err != nil {
		return t, false, fmt.Errorf("index: %w", err)
	}
	err = eachEntry(index, func(key, value []byte) error {
		f := fields{b: value}
		e := indexEntry{f.place(size), bytes.Clone(key)}
		if f.bad || len(key) < internalSuffix {
			return fmt.Errorf("%w: index", errRot)
		}
		t.blocks = append(t.blocks, e)
		return nil
	})
	if err != nil {
		return t, false, err
	}
	filterRot, err = t.readFilter(r)
	return t, filterRot, err
}

// readFilter finds the filter block, and checks it.
func (t *tableIndex) readFilter(r io.ReaderAt) (rot bool, err error) {
	meta, err := readBlock(r, t.meta)
	if err == nil {
		err = eachEntry(meta, func(key, value []byte) error {
			if !bytes.HasPrefix(key, []byte(filterPrefix)) {
				return nil
			}
			f := fields{b: value}
			if t.filter = f.place(t.size); f.bad {
				return fmt.Errorf("%w: meta block", errRot)
			}
			return nil
		})
	}
	if err == nil && t.filter.length > 0 {
		_, err = readBlock(r, t.filter)
	}
	if errors.Is(err, errRot) {
		return true, nil
	}
	return false, err
}

// place reads where a block lies; it has to be before the footer.
func (f *fields) place(size int64) blockPlace {
	offset, length := f.uvarint(), f.uvarint()
	if offset > uint64(size) || length > uint64(size) || int64(offset+length)+blockTrailer > size-tableFooter {
		f.bad = true
	}
	if f.bad {
		return blockPlace{}
	}
	return blockPlace{int64(offset), int64(length)}
}

// readAt reads all of b. A file that ends before is damaged.
func readAt(r io.ReaderAt, b []byte, offset int64) error {
	n, err := r.ReadAt(b, offset)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%w: ends at byte %d, %d bytes are missing", errRot, offset+int64(n), len(b)-n)
	}
	return err
}

// readBlock reads and checks a block.
func readBlock(r io.ReaderAt, at blockPlace) ([]byte, error) {
	b := make([]byte, at.length+blockTrailer)
	if err := readAt(r, b, at.offset); err != nil {
		return nil, err
	}
	return checkBlock(b, at)
}

// checkBlock takes a block with its trailer, and returns what is in it: nothing
// if it is compressed, which the store's tables are not.
func checkBlock(b []byte, at blockPlace) ([]byte, error) {
	n := at.length
	if binary.LittleEndian.Uint32(b[n+1:]) != util.NewCRC(b[:n+1]).Value() {
		return nil, fmt.Errorf("%w: checksum of the block at byte %d", errRot, at.offset)
	}
	if b[n] != 0 {
		return nil, nil
	}
	return b[:n], nil
}

// eachEntry gives the entries of a block to each; key is good during the call
// only.
func eachEntry(b []byte, each func(key, value []byte) error) error {
	if len(b) == 0 {
		return nil
	}
	if len(b) < 4 {
		return fmt.Errorf("%w: block of %d bytes", errRot, len(b))
	}
	restarts := uint64(binary.LittleEndian.Uint32(b[len(b)-4:]))
	if restarts > uint64(len(b))/4-1 {
		return fmt.Errorf("%w: block of %d bytes with %d restarts", errRot, len(b), restarts)
	}
	f := fields{b: b[:len(b)-4-4*int(restarts)]}
	var key []byte
	for len(f.b) > 0 {
		shared, own, size := f.uvarint(), f.uvarint(), f.uvarint()
		left := uint64(len(f.b))
		if f.bad || shared > uint64(len(key)) || own > left || size > left-own {
			return fmt.Errorf("%w: entry in a block", errRot)
		}
		key = append(key[:shared], f.b[:own]...)
		value := f.b[own : own+size]
		f.b = f.b[own+size:]
		if err := each(key, value); err != nil {
			return err
		}
	}
	return nil
}

// appendIndexBlock encodes an index block with its trailer.
func appendIndexBlock(b []byte, entries []indexEntry) []byte {
	start := len(b)
	restarts := make([]uint32, 0, len(entries)+1)
	for _, e := range entries {
		restarts = append(restarts, uint32(len(b)-start))
		place := binary.AppendUvarint(nil, uint64(e.offset))
		place = binary.AppendUvarint(place, uint64(e.length))
		b = append(b, 0)
		b = binary.AppendUvarint(b, uint64(len(e.last)))
		b = binary.AppendUvarint(b, uint64(len(place)))
		b = append(b, e.last...)
		b = append(b, place...)
	}
	// Of an empty block goleveldb must not find a restart: it would look for a
	// key there.
	for _, r := range append(restarts, uint32(len(restarts))) {
		b = binary.LittleEndian.AppendUint32(b, r)
	}
	b = append(b, 0)
	return binary.LittleEndian.AppendUint32(b, util.NewCRC(b[start:]).Value())
}

func appendFooter(b []byte, meta, index blockPlace) []byte {
	start := len(b)
	for _, p := range []blockPlace{meta, index} {
		b = binary.AppendUvarint(b, uint64(p.offset))
		b = binary.AppendUvarint(b, uint64(p.length))
	}
	b = append(b, make([]byte, tableFooter-len(tableMagic)-(len(b)-start))...)
	return append(b, tableMagic...)
}

// userKey is the database key of an entry.
func userKey(internal []byte) []byte { return internal[:max(0, len(internal)-internalSuffix)] }

// isValue says that an entry is a value, and not the removal of one.
func isValue(internal []byte) bool {
	return len(internal) > internalSuffix && internal[len(internal)-internalSuffix] == kindValue
}

func tableFile(n int64) storage.FileDesc { return storage.FileDesc{Type: storage.TypeTable, Num: n} }

// fileSize is the length of an open file.
func fileSize(r io.Seeker) (int64, error) { return r.Seek(0, io.SeekEnd) }
