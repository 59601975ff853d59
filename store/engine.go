package store

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/syndtr/goleveldb/leveldb"
	ldberrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/filter"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

// engine is one opening of the database, counting who uses it: goleveldb must
// not be closed under a reader.
type engine struct {
	db *leveldb.DB

	mu      sync.Mutex // guards what follows
	users   int
	closing bool
	idle    chan struct{} // closed when closing and nobody uses it any more
}

func newEngine(db *leveldb.DB) *engine { return &engine{db: db, idle: make(chan struct{})} }

// enter says that the caller may use db until it calls leave.
func (e *engine) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing {
		return false
	}
	e.users++
	return true
}

func (e *engine) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.users--
	if e.closing && e.users == 0 {
		close(e.idle)
	}
}

// close waits for the users and closes the database.
func (e *engine) close() error {
	e.mu.Lock()
	e.closing = true
	if e.users == 0 {
		close(e.idle)
	}
	e.mu.Unlock()
	<-e.idle
	return e.db.Close()
}

// openMode says how strict goleveldb is.
type openMode struct {
	// tornManifest: the manifest's last record is unfinished, and the store
	// has checked that nothing is missing without it.
	tornManifest bool
	// dropDamaged: compactions leave damaged blocks out instead of stopping
	// the database for ever. Only where the loss is known already.
	dropDamaged bool
	// rebuild: make a new manifest from the tables that are there.
	rebuild bool
	// quiet: no table is compacted, so that damage does not stop writes.
	quiet bool
}

const mib = 1 << 20

func engineOptions(writeBuffer, blockCache int, mode openMode) *opt.Options {
	strict := opt.DefaultStrict | opt.StrictManifest
	if mode.tornManifest {
		strict &^= opt.StrictManifest
	}
	if mode.dropDamaged {
		strict &^= opt.StrictCompaction
	}
	o := &opt.Options{
		Strict:                        strict,
		Filter:                        filter.NewBloomFilter(10),
		WriteBuffer:                   writeBuffer,
		CompactionTableSize:           min(8*mib, writeBuffer),
		CompactionTotalSize:           64 * mib,
		CompactionL0Trigger:           8,
		WriteL0SlowdownTrigger:        24,
		WriteL0PauseTrigger:           36,
		BlockCacheCapacity:            blockCache,
		OpenFilesCacheCapacity:        128,
		Compression:                   opt.NoCompression,
		DisableSeeksCompaction:        true,
		NoWriteMerge:                  true,
		DisableLargeBatchTransaction:  true, // every batch goes through the journal
		CompactionTotalSizeMultiplier: 10,
	}
	if mode.quiet {
		o.CompactionL0Trigger, o.WriteL0SlowdownTrigger, o.WriteL0PauseTrigger = math.MaxInt32, math.MaxInt32, math.MaxInt32
		o.CompactionTotalSize, o.CompactionTotalSizeMultiplier = math.MaxInt/2, 1
	}
	return o
}

// openDB opens the database. goleveldb may panic on damaged files.
func openDB(disk storage.Storage, o *opt.Options, mode openMode) (db *leveldb.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, fmt.Errorf("%w: goleveldb: %v", ErrCorrupt, p)
		}
	}()
	if mode.rebuild {
		return leveldb.Recover(disk, o)
	}
	return leveldb.Open(disk, o)
}

// corrupted says that an error tells of damaged or missing files, and not of a
// disk that fails now.
func corrupted(err error) bool {
	var table *ldberrors.ErrCorrupted
	var file *storage.ErrCorrupted
	return errors.Is(err, ErrCorrupt) || errors.As(err, &table) || errors.As(err, &file)
}
