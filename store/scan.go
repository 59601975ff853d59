package store

import (
	"fmt"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/iterator"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// Scan gives the records of a partition to each, in the order of their keys,
// beginning behind the key after (nil: at the first), at most limit of them
// (0: all), until each returns false. It sees every record that was committed
// before it began, and perhaps some later ones. Both slices may be kept.
//
// An error means that not all were given, and never that there are no more:
// damage is ErrCorrupt.
func (s *Store) Scan(p ring.Partition, after []byte, limit int, each func(key, record []byte) bool) error {
	if err := checkPartition(p); err != nil {
		return err
	}
	if limit <= 0 {
		limit = int(^uint(0) >> 1)
	}
	span := util.BytesPrefix(appendDataKey(nil, p, nil))
	if after != nil {
		span.Start = append(appendDataKey(nil, p, after), 0)
	}
	mark := s.drops.mark(p)
	for limit > 0 {
		if err := s.readable(); err != nil {
			return err
		}
		records, more, err := s.piece(p, span, min(limit, scanPiece))
		if err := s.drops.intact(p, mark); err != nil {
			return err
		}
		for _, r := range records {
			if !each(version.KeyOf(r), r) {
				return nil
			}
		}
		if err != nil || !more {
			return err
		}
		limit -= len(records)
		span.Start = append(appendDataKey(nil, p, version.KeyOf(records[len(records)-1])), 0)
	}
	return nil
}

// piece reads some records at the beginning of a span. Iterators live for one
// piece: they keep old files alive.
func (s *Store) piece(p ring.Partition, span *util.Range, limit int) (records [][]byte, more bool, err error) {
	db := s.database.Load()
	if db == nil || !db.enter() {
		return nil, false, fmt.Errorf("%w: files are closed", ErrFailed)
	}
	defer db.leave()
	it := db.db.NewIterator(span, nil)
	defer it.Release()
	bytes := 0
	for it.Next() {
		b := append([]byte(nil), it.Value()...)
		if err := checkRecord(it.Key(), b); err != nil {
			return records, false, s.badRecord(p, it.Key(), err)
		}
		records = append(records, b)
		bytes += len(b)
		if len(records) >= limit || bytes >= scanPieceBytes {
			return records, true, nil
		}
	}
	if err := it.Error(); err != nil {
		return records, false, s.damage(p, fmt.Errorf("scan: %w", err))
	}
	return records, false, nil
}

func checkRecord(key, record []byte) error {
	if len(key) <= dataKeySize {
		return fmt.Errorf("database key %.64q", key)
	}
	r, err := version.Parse(record)
	if err == nil && string(r.Key) != string(key[dataKeySize:]) {
		err = fmt.Errorf("found key %.64q", r.Key)
	}
	if err != nil {
		return fmt.Errorf("read key %.64q: %w", key[dataKeySize:], err)
	}
	return nil
}

// startCount counts the records that were there when the files were opened, and
// rebuilds the clocks from them, in the background. New ones are counted as
// they come.
func (s *Store) startCount(o *opened) {
	s.counted.Store(o.snapshot == nil)
	if o.snapshot != nil {
		s.background.Go(func() { s.count(o.engine, o.snapshot, o.round) })
	}
}

func (s *Store) count(db *engine, snapshot *leveldb.Snapshot, round uint64) {
	defer snapshot.Release()
	s.countKept(db, snapshot)
	span := util.BytesPrefix([]byte(dataPrefix))
	bad := 0
	for {
		select {
		case <-s.stop:
			return
		default:
		}
		if !db.enter() {
			return // reopened: another count has begun
		}
		n, next, err := s.countPiece(round, span.Start, snapshot.NewIterator(span, nil))
		s.keys.Add(int64(n)) // before the files can be closed, and the count begun anew
		db.leave()
		switch {
		case starved(err):
			if !s.sleep(rebuildRetry) {
				return
			}
		case err != nil:
			bad++
		}
		if next == nil || bad > lossPartitionsMax {
			break
		}
		span.Start = next
	}
	if bad <= lossPartitionsMax {
		s.treesScanned(round)
	}
	if bad == 0 && s.database.Load() == db {
		s.counted.Store(true)
	}
}

// countPiece counts some records from the database key start on, and returns where
// to go on, nil at the end. An error was said already, but for one that is
// starved: that piece is to be tried again.
func (s *Store) countPiece(round uint64, start []byte, it iterator.Iterator) (n int, next []byte, bad error) {
	defer it.Release()
	p := partitionOf(start)
	at, buf := start, []byte(nil) // behind what was read
	for it.Next() {
		p = partitionOf(it.Key())
		buf = append(append(buf[:0], it.Key()...), 0)
		at = buf
		r, err := version.ParseHeader(it.Value())
		if err == nil && (len(it.Key()) <= dataKeySize || string(r.Key) != string(it.Key()[dataKeySize:])) {
			err = fmt.Errorf("found key %.64q", r.Key)
		}
		if err != nil {
			bad = s.badRecord(p, it.Key(), fmt.Errorf("read key %.64q: %w", it.Key()[len(dataPrefix):], err))
			continue
		}
		s.clocks.scanned(p, &r)
		s.trees.found(round, p, hashKey(it.Key()), version.LeafOf(it.Value()))
		if n++; n >= 4*scanPiece {
			return n, at, bad
		}
	}
	if err := it.Error(); starved(err) {
		return n, at, err
	} else if err != nil {
		// goleveldb goes no further. Nor does this partition.
		bad = s.damage(p, fmt.Errorf("scan: %w", err))
		if p < ring.SlotCount-1 {
			next = appendDataKey(nil, p+1, nil)
		}
	}
	return n, next, bad
}
