package store

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/kithdb/kith/ring"
)

// Bounds of what one batch deletes of dropped partitions, beside its writes.
const (
	dropPieceKeys  = 1024
	dropPieceBytes = 256 << 10 // of keys, and of records that become stand-ins
)

const (
	dropRetry = time.Second
	// dropPause is the rest before each step. It also keeps the steps apart from
	// what comes at the instants at which they would follow at once where the disk
	// is fast.
	dropPause = 1170 * time.Microsecond
)

// dropper deletes what is to be dropped, piece by piece, until the store is closed.
// Nothing is written to these partitions meanwhile, so that what it has passed by
// stays empty.
func (s *Store) dropper() {
	for {
		select {
		case <-s.stop:
			return
		case <-s.drops.wake:
		}
		for w := newDropWork(s); w.more(); {
			if !s.sleep(dropPause) {
				return
			}
			if err := w.step(); errors.Is(err, ErrClosed) {
				return
			} else if err != nil {
				s.logger.Warn("partitions cannot be dropped yet", "partitions", len(w.left), "error", err)
				if !s.sleep(dropRetry) {
					return
				}
				w = newDropWork(s)
			}
		}
	}
}

// dropWork is a pass over the partitions to drop.
type dropWork struct {
	*Store
	opening int64
	left    []readyDrop
	// spans are what is left to be read of the first of them.
	spans []*util.Range
}

func newDropWork(s *Store) *dropWork {
	// The number first: what is listed is that of this opening, or a later one.
	opening := s.reopenings.Load()
	w := &dropWork{Store: s, opening: opening, left: s.drops.ready()}
	w.first()
	return w
}

func (w *dropWork) more() bool { return len(w.left) > 0 }

// first begins to read the first partition that is left.
func (w *dropWork) first() {
	w.spans = nil
	if len(w.left) > 0 {
		p := w.left[0].partition
		w.spans = []*util.Range{util.BytesPrefix(appendDataKey(nil, p, nil)), logSpan(p)}
	}
}

// step deletes a piece, and ends the drops of the partitions that are empty by then.
func (w *dropWork) step() error {
	d := &dropPiece{opening: w.opening}
	over, err := w.collect(d)
	if err != nil {
		return err
	}
	if len(d.keys) > 0 {
		if err := w.do(&control{drop: d}); err != nil {
			return err
		}
	}
	if len(over) == 0 {
		return nil
	}
	// A reader that began before the drop may have read before the deletion, and keep
	// it only if it has done so by now.
	w.cache.forget(func(p ring.Partition) bool {
		_, found := slices.BinarySearch(over, p)
		return found
	})
	return w.do(&control{drop: &dropPiece{opening: w.opening, ended: over}})
}

// collect reads keys to delete. over are the partitions that have no others, sorted.
func (w *dropWork) collect(d *dropPiece) (over []ring.Partition, err error) {
	db := w.database.Load()
	if db == nil || !db.enter() {
		return nil, fmt.Errorf("%w: files are closed", ErrFailed)
	}
	defer db.leave()
	size := 0
	for len(w.left) > 0 {
		for len(w.spans) > 0 {
			whole, err := w.read(db, d, &size)
			if err != nil {
				return nil, err
			}
			if !whole {
				return over, nil
			}
			w.spans = w.spans[1:]
		}
		over = append(over, w.left[0].partition)
		w.left = w.left[1:]
		w.first()
	}
	return over, nil
}

// read reads keys of the first span; whole says that it has no more.
func (w *dropWork) read(db *engine, d *dropPiece, size *int) (whole bool, err error) {
	it := db.db.NewIterator(w.spans[0], &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	for it.Next() {
		key := slices.Clone(it.Key())
		if len(d.keys) >= dropPieceKeys || *size >= dropPieceBytes {
			w.spans[0].Start = key
			return false, nil
		}
		d.keys = append(d.keys, key)
		*size += len(key)
		if string(key[:len(dataPrefix)]) == dataPrefix {
			d.records++
			if kept, is := w.left[0].keeps(key, it.Value()); is {
				d.kept = append(d.kept, kept)
				*size += len(kept.encoded)
			}
		}
	}
	if err := it.Error(); err != nil {
		w.rotten(err)
		return false, fmt.Errorf("read what is to be dropped: %w", err)
	}
	return true, nil
}
