package store

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// batchBytesMax is the size of a write batch in bytes above which it takes no
// more. A batch of one large record may be larger.
const batchBytesMax = 4 << 20

// batch is what is written and synced at one time.
type batch struct {
	number uint64
	writes leveldb.Batch
	bytes  int
	// records are those written, in order; newest finds the last of a key.
	records []written
	newest  map[string]*entry
	// ops are acknowledged when the batch is on disk: those that wrote, and
	// those that relied on it.
	ops     []item
	newKeys int // less those removed
	// clocked are the partitions whose clock goes to disk with the batch.
	clocked []ring.Partition
	claims  []*claim   // of Incorporate
	notes   []*control // of NotePulled
	// dropped are partitions whose drop begins with the batch, ended those of
	// which it ends.
	dropped, ended []ring.Partition
	// stands are the stand-ins that it changes, nil for those it drops, and
	// by how much their number and size grow.
	stands       map[string][]byte
	standIns     int64
	standInBytes int64
	engine       *engine
	// syncMarks: the marks are to be synced too.
	syncMarks bool
}

// written is a record of a batch.
type written struct {
	*entry    // absent if the record was removed; then its Seen is what it had seen
	partition ring.Partition
	hash      uint32
	// old is the leaf of the record that this one took the place of, zero if
	// there was none; that of the new one is entry.leaf.
	old version.Digest
}

func newBatch() *batch { return &batch{newest: make(map[string]*entry)} }

func (b *batch) reset(number uint64) {
	clear(b.records)
	clear(b.ops)
	clear(b.newest)
	clear(b.stands)
	b.standIns, b.standInBytes = 0, 0
	b.number = number
	b.records, b.ops = b.records[:0], b.ops[:0]
	clear(b.claims)
	clear(b.notes)
	b.clocked, b.claims, b.notes = b.clocked[:0], b.claims[:0], b.notes[:0]
	b.dropped, b.ended = b.dropped[:0], b.ended[:0]
	b.bytes, b.newKeys = 0, 0
	b.syncMarks = false
	b.writes.Reset()
	if cap(b.writes.Dump()) > 2*batchBytesMax {
		b.writes = leveldb.Batch{}
	}
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], number)
	b.writes.Put([]byte(metaBatch), n[:])
}

// empty says that there is nothing to write, and nobody waits.
func (b *batch) empty() bool { return b.writes.Len() == 1 && len(b.ops) == 0 }

func (b *batch) full() bool { return b.bytes >= batchBytesMax/2 }

func (b *batch) putRecord(p ring.Partition, hash uint32, e, prev *entry) {
	b.put([]byte(e.key), e.encoded)
	b.records = append(b.records, written{entry: e, partition: p, hash: hash, old: prev.leaf()})
	b.newest[e.key] = e
}

// removeRecord deletes a record. e is what stands in its place until the batch is
// published: what it has seen is stopped by e, and by the clock afterwards.
func (b *batch) removeRecord(p ring.Partition, hash uint32, e, prev *entry) {
	b.delete([]byte(e.key))
	b.records = append(b.records, written{entry: e, partition: p, hash: hash, old: prev.leaf()})
	b.newest[e.key] = e
	b.withClock(p)
}

// withClock has the partition's clock written with the batch.
func (b *batch) withClock(p ring.Partition) {
	if !slices.Contains(b.clocked, p) {
		b.clocked = append(b.clocked, p)
	}
}

func (b *batch) put(key, value []byte) {
	b.writes.Put(key, value)
	b.bytes += len(key) + len(value)
}

func (b *batch) delete(key []byte) {
	b.writes.Delete(key)
	b.bytes += len(key)
}

// result is what became of a batch.
type result struct {
	batch *batch
	err   error
}

// marksSyncEvery is how long a mark may stay unsynced.
const marksSyncEvery = time.Second

// writer writes batches, one at a time. Whoever sends it a batch owns the marks
// again when the result is there.
type writer struct {
	marks    *marks
	syncedAt time.Time
	in       chan *batch
	out      chan result
}

func (w *writer) run() {
	for b := range w.in {
		w.out <- result{b, w.write(b)}
	}
}

var synced = &opt.WriteOptions{Sync: true, NoWriteMerge: true}

func (w *writer) write(b *batch) error {
	if !b.empty() {
		if err := b.engine.db.Write(&b.writes, synced); err != nil {
			return fmt.Errorf("write batch: %w", err)
		}
		// The mark comes before the acknowledgements: what was
		// acknowledged was marked.
		if err := w.marks.append(b.number); err != nil {
			return err
		}
	}
	if now := time.Now(); b.syncMarks || now.Sub(w.syncedAt) >= marksSyncEvery {
		w.syncedAt = now
		return w.marks.sync()
	}
	return nil
}
