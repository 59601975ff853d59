package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/util"
)

// goleveldb opens a damaged journal without an error and says in its log, at
// most, that it dropped something. So the store reads the journals itself
// before goleveldb does, by the number that stands first in every batch.
//
// One batch is written at a time, and the next only after a sync. So an
// unfinished batch that a crash left at the very end is ordinary; damage that
// has anything valid of a later batch behind it is not.

// LevelDB's journal format: blocks of 32 KiB, in them chunks that do not cross
// blocks: a masked CRC32C, a length of two bytes, a type.
const (
	journalBlock  = 32 << 10
	chunkHeader   = 7
	chunkFull     = 1
	chunkFirst    = 2
	chunkMiddle   = 3
	chunkLast     = 4
	batchHeadSize = 12 // sequence number and count, before a batch's first entry
)

// journals is what the journals say that goleveldb is about to replay.
type journals struct {
	last    uint64 // the last batch that goleveldb will find, 0 for none
	highest uint64 // the last batch that was synced for certain
	torn    bool   // the end of the newest one is not a whole batch
	gap     string // why a batch is missing before last; empty if none is
	blank   bool   // a journal held no batch at all
	missing bool   // the journal that the manifest names is not there
	bytes   int64
}

// readJournals reads the journals that the manifest needs, the oldest first.
func readJournals(disk storage.Storage, first int64) (journals, error) {
	var out journals
	all, err := disk.List(storage.TypeJournal)
	if err != nil {
		return out, fmt.Errorf("list journals: %w", err)
	}
	var nums []int64
	for _, fd := range all {
		if fd.Num >= first {
			nums = append(nums, fd.Num)
		}
	}
	slices.Sort(nums)
	if first > 0 && (len(nums) == 0 || nums[0] != first) {
		out.missing = true
		out.gap = fmt.Sprintf("journal %d is missing", first)
	}
	for _, n := range nums {
		if err := out.read(disk, storage.FileDesc{Type: storage.TypeJournal, Num: n}); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (j *journals) read(disk storage.Storage, fd storage.FileDesc) error {
	r, err := disk.Open(fd)
	if err != nil {
		return fmt.Errorf("open %v: %w", fd, err)
	}
	block := make([]byte, journalBlock)
	s := journalScan{journals: j, fd: fd}
	for {
		n, err := io.ReadFull(r, block)
		j.bytes += int64(n)
		s.block(block[:n])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return errors.Join(fmt.Errorf("read %v: %w", fd, err), r.Close())
		}
	}
	if s.open {
		j.torn = true
	}
	j.blank = j.blank || !s.any
	return r.Close()
}

// journalScan reads one journal as goleveldb does.
type journalScan struct {
	*journals
	fd   storage.FileDesc
	any  bool   // it holds a whole batch
	open bool   // inside a batch of several chunks
	head []byte // the beginning of that batch
}

func (s *journalScan) block(b []byte) {
	for len(b) >= chunkHeader {
		kind, payload, ok := parseChunk(b)
		if !ok {
			// goleveldb drops the rest of the block.
			s.damaged(b)
			return
		}
		b = b[chunkHeader+len(payload):]
		s.chunk(kind, payload)
	}
}

func parseChunk(b []byte) (kind byte, payload []byte, ok bool) {
	n := int(binary.LittleEndian.Uint16(b[4:]))
	kind = b[6]
	if kind < chunkFull || kind > chunkLast || chunkHeader+n > len(b) {
		return 0, nil, false
	}
	payload = b[chunkHeader : chunkHeader+n]
	return kind, payload, binary.LittleEndian.Uint32(b) == util.NewCRC(b[6:chunkHeader+n]).Value()
}

func (s *journalScan) chunk(kind byte, payload []byte) {
	switch kind {
	case chunkFull, chunkFirst:
		if s.open {
			s.torn = true
		}
		s.head = append(s.head[:0], payload[:min(len(payload), 64)]...)
		s.open = kind == chunkFirst
		s.proves(kind, batchNumber(s.head))
	default:
		if !s.open {
			s.torn = true // a chunk without its beginning
			return
		}
		s.head = append(s.head, payload[:min(len(payload), max(0, 64-len(s.head)))]...)
		s.open = kind == chunkMiddle
	}
	if !s.open {
		s.batch(batchNumber(s.head))
	}
}

// batch takes the number of a whole batch.
func (s *journalScan) batch(n uint64) {
	switch {
	case n == 0:
		s.lose("%v holds a batch without a number", s.fd)
	case s.last != 0 && n != s.last+1:
		s.lose("batches %d to %d are missing in %v", s.last+1, n-1, s.fd)
	case s.torn:
		s.lose("%v is damaged before batch %d", s.fd, n)
	case s.blank:
		// A journal is followed by another one only once it is full.
		s.lose("journals before %v are empty", s.fd)
	}
	s.last, s.any = n, true
}

// proves takes the beginning of a batch: the batch before it was synced. A batch
// that is whole may have been.
func (s *journalScan) proves(kind byte, n uint64) {
	if kind == chunkFirst && n > 0 {
		n--
	}
	s.highest = max(s.highest, n)
}

func (s *journalScan) lose(format string, args ...any) {
	if s.gap == "" {
		s.gap = fmt.Sprintf(format, args...)
	}
}

// damaged searches the rest of a bad block for the beginning of a later batch.
func (s *journalScan) damaged(b []byte) {
	s.torn = true
	s.open = false
	for at := 1; at+chunkHeader <= len(b); at++ {
		kind, payload, ok := parseChunk(b[at:])
		if !ok || kind != chunkFull && kind != chunkFirst {
			continue
		}
		if n := batchNumber(payload); n > s.last && n <= s.last+journalBlock {
			s.proves(kind, n)
		}
	}
}

// batchNumber reads the number of a batch that begins so, 0 if it has none.
func batchNumber(b []byte) uint64 {
	const entry = 2 + len(metaBatch) + 1 // kind and key length, key, value length
	if len(b) < batchHeadSize+entry+8 {
		return 0
	}
	b = b[batchHeadSize:]
	if b[0] != 1 || int(b[1]) != len(metaBatch) || string(b[2:entry-1]) != metaBatch || b[entry-1] != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b[entry:])
}
