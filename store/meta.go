package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/syndtr/goleveldb/leveldb"

	"github.com/kithdb/kith/ring"
)

// metaSizeMax bounds a piece of metadata in bytes: the largest is a vote for a
// ring record.
const metaSizeMax = ring.EncodedMax + 1<<10

func checkMetaName(name string) error {
	if name == "" || len(name) > 255 || strings.HasPrefix(name, ".") {
		return fmt.Errorf("metadata name %.64q: want 1 to 255 bytes, not beginning with a dot", name)
	}
	return nil
}

// Meta returns what SetMeta or Adopt last stored under a name, nil if nothing
// was. It waits for the disk, and for up to 10 s while a damaged table is mended.
func (s *Store) Meta(name string) (b []byte, err error) {
	if err := checkMetaName(name); err != nil {
		return nil, err
	}
	err = s.throughMending(func() error {
		b, err = s.meta(name)
		return err
	})
	return b, err
}

func (s *Store) meta(name string) ([]byte, error) {
	if err := s.readable(); err != nil {
		return nil, err
	}
	db := s.database.Load()
	if db == nil || !db.enter() {
		return nil, fmt.Errorf("%w: files are closed", ErrFailed)
	}
	defer db.leave()
	b, err := db.db.Get([]byte(metaPrefix+name), nil)
	if errors.Is(err, leveldb.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: metadata %q: %w", ErrCorrupt, name, err)
	}
	return b, nil
}

// SetMeta stores metadata of up to 2 MiB. It returns when that is on disk,
// together with the writes that were queued before. While a damaged table is
// mended it waits for up to 10 s.
func (s *Store) SetMeta(name string, value []byte) error {
	if err := checkMetaName(name); err != nil {
		return err
	}
	if metaPrefix+name == metaBoot {
		return fmt.Errorf("metadata %q belongs to the store", name)
	}
	if len(value) > metaSizeMax {
		return fmt.Errorf("%w: metadata %q: %d bytes, limit %d", ErrTooLarge, name, len(value), metaSizeMax)
	}
	return s.throughMending(func() error { return s.do(&control{name: metaPrefix + name, value: value}) })
}

// Adopt makes a ring record durable, under the metadata name "ring", and raises
// the fences of the partitions 0 to partitions-1; they never fall. Writes that
// were queued before it commit with it or before it, later ones see the fences.
// It returns when all that is on disk.
//
// With it, everything of the partitions in drops that is this node's is dropped: their
// records, clocks, dot logs, trees and notes. Their fences stay, and so do the ends of
// actors and what is kept there for other homes; the next mint draws a new actor. That
// is settled when Adopt returns, through any crash, and done in moments, with
// Options.HandOver in moments after HandOver: until then whatever asks for one of these
// partitions gets ErrDropping.
func (s *Store) Adopt(record []byte, fences func(p ring.Partition) uint64, partitions int, drops []ring.Partition) error {
	if partitions < 0 || partitions > ring.SlotCount {
		return fmt.Errorf("adopt ring: %d partitions, want up to %d", partitions, ring.SlotCount)
	}
	if len(record) > metaSizeMax {
		return fmt.Errorf("%w: ring record of %d bytes, limit %d", ErrTooLarge, len(record), metaSizeMax)
	}
	epochs := make([]uint64, partitions)
	for p := range epochs {
		epochs[p] = fences(ring.Partition(p))
	}
	for _, p := range drops {
		if err := checkPartition(p); err != nil {
			return fmt.Errorf("adopt ring: %w", err)
		}
	}
	drops = slices.Compact(slices.Sorted(slices.Values(drops)))
	return s.do(&control{name: metaRing, value: record, fences: epochs, drops: drops})
}

// do gives the committer something to do and waits for it.
func (s *Store) do(c *control) error {
	c.done = make(chan error, 1)
	if !s.intake.push(item{ctl: c}) {
		return ErrClosed
	}
	return <-c.done
}

// Bounds of what metadata waits for while damaged tables are mended: LevelDB meets
// them soon after it was opened, and so do the first reads and writes of a node.
const (
	mendWaitMax  = 10 * time.Second
	mendTriesMax = 4
)

// throughMending does something that may be done twice, and does it again after
// damaged tables that were in its way are mended.
func (s *Store) throughMending(do func() error) error {
	timer := time.NewTimer(mendWaitMax)
	defer timer.Stop()
	for try := 1; ; try++ {
		err := do()
		if !errors.Is(err, ErrFailed) && !errors.Is(err, ErrUncertain) || try == mendTriesMax || !s.mended(timer.C) {
			return err
		}
	}
}

// mended waits until no damaged tables stop the store. It is false if something
// else does, or the time is over.
func (s *Store) mended(over <-chan time.Time) bool {
	for {
		changed := s.Changed()
		switch failed := s.Health().Failed; {
		case failed == nil:
			return true
		case !corrupted(failed) && !errors.Is(failed, errRot):
			return false
		}
		select {
		case <-changed:
		case <-over:
			return false
		case <-s.stop:
			return false
		}
	}
}
