package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/iterator"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// standInPieceBytes bounds what StandIns gives at once, beside the last record.
const standInPieceBytes = 4 << 20

// StandIns gives up to limit records that are kept for a home (0: 256), up to
// about 4 MiB, in the order of partition and key, behind the key after of
// partition p (nil: from the first one of p). Only an empty answer says that
// there are no more. It waits for the disk.
//
// A damaged one is dropped, and a sentence of Health says so.
func (s *Store) StandIns(home ring.NodeID, p ring.Partition, after []byte, limit int) ([]StandIn, error) {
	if limit <= 0 {
		limit = scanPiece
	}
	span := util.BytesPrefix(append([]byte(standInPrefix), home[:]...))
	span.Start = appendStandInKey(nil, home, p, after)
	if after != nil {
		span.Start = append(span.Start, 0)
	}
	var out, bad []StandIn
	size := 0
	err := s.withIterator(span, func(it iterator.Iterator) {
		for len(out) < limit && size < standInPieceBytes && it.Next() {
			if len(it.Key()) <= standInKeySize {
				s.remove(it.Key())
				continue
			}
			in, err := parseStandIn(it.Key(), it.Value())
			if err != nil {
				s.standInLost(in.Home, in.Partition, in.Record.Key, err)
				bad = append(bad, in)
				continue
			}
			out = append(out, in)
			size += len(in.Encoded)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read stand-ins for %s: %w", home, err)
	}
	for i := range bad {
		if err := errors.Join(s.DropStandIn(&bad[i]), s.do(&control{losses: true})); err != nil {
			return nil, fmt.Errorf("drop a damaged stand-in for %s: %w", home, err)
		}
	}
	return out, nil
}

// StandInHomes lists the homes for which records are kept, sorted. It waits for
// the disk.
func (s *Store) StandInHomes() ([]ring.NodeID, error) {
	var out []ring.NodeID
	err := s.withIterator(util.BytesPrefix([]byte(standInPrefix)), func(it iterator.Iterator) {
		for ok := it.First(); ok; {
			if len(it.Key()) <= standInKeySize {
				s.remove(it.Key())
				ok = it.Next()
				continue
			}
			home := ring.NodeID(it.Key()[len(standInPrefix):])
			out = append(out, home)
			behind := util.BytesPrefix(append([]byte(standInPrefix), home[:]...)).Limit
			ok = behind != nil && it.Seek(behind)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list homes of stand-ins: %w", err)
	}
	return out, nil
}

// withIterator reads with an iterator over a span.
func (s *Store) withIterator(span *util.Range, read func(it iterator.Iterator)) error {
	if err := s.readable(); err != nil {
		return err
	}
	db := s.database.Load()
	if db == nil || !db.enter() {
		return fmt.Errorf("%w: files are closed", ErrFailed)
	}
	defer db.leave()
	it := db.db.NewIterator(span, &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	read(it)
	if err := it.Error(); err != nil {
		s.rotten(err)
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}

// parseStandIn reads a stand-in under a key that is long enough; nothing in it
// refers to its arguments.
func parseStandIn(key, value []byte) (StandIn, error) {
	in := StandIn{
		Home:      ring.NodeID(key[len(standInPrefix):]),
		Partition: ring.Partition(binary.BigEndian.Uint16(key[standInKeySize-2:])),
		Encoded:   bytes.Clone(value),
	}
	var err error
	in.Record, err = version.Parse(in.Encoded)
	if err == nil && !bytes.Equal(in.Record.Key, key[standInKeySize:]) {
		err = fmt.Errorf("found key %.64q", in.Record.Key)
	}
	if err != nil {
		in.Record.Key = bytes.Clone(key[standInKeySize:])
		return in, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return in, nil
}

// countKept counts the stand-ins of a snapshot; those that come later are counted
// as they come.
func (s *Store) countKept(db *engine, snapshot *leveldb.Snapshot) {
	if !db.enter() {
		return
	}
	defer db.leave()
	n, size, err := countStandIns(snapshot)
	if err != nil {
		s.rotten(err)
		s.logger.Warn("stand-ins cannot be counted", "error", err)
	}
	s.standIns.Add(n)
	s.standInBytes.Add(size)
}

func countStandIns(snapshot *leveldb.Snapshot) (n, size int64, err error) {
	it := snapshot.NewIterator(util.BytesPrefix([]byte(standInPrefix)), &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	for it.Next() {
		n++
		size += standInSize(it.Key(), it.Value())
	}
	return n, size, it.Error()
}

func encodeStandInCounts(n, size int64) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(n))
	return binary.BigEndian.AppendUint64(b, uint64(size))
}

// readStandIns reads what encodeStandInCounts wrote.
func (o *opened) readStandIns(b []byte) error {
	if len(b) != 16 {
		return fmt.Errorf("%w: %d bytes", ErrCorrupt, len(b))
	}
	o.standIns = int64(binary.BigEndian.Uint64(b))
	o.standInBytes = int64(binary.BigEndian.Uint64(b[8:]))
	return nil
}
