package store

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// Options are all optional.
type Options struct {
	// Now is the wall clock that deadlines of puts are compared with;
	// default time.Now. It may be called from any goroutine.
	Now func() time.Time
	// ClockSlack is how far behind a put's deadline it is still minted.
	ClockSlack time.Duration
	// RecordMax is the largest record in bytes, with all siblings and their
	// header, that a put may make; default 1 MiB and 64 KiB, at most 16 MiB
	// and 256 KiB. Merges are taken beyond it.
	RecordMax int
	// CacheBytes bounds the cache of records and headers; default 64 MiB.
	// Half as much again goes to goleveldb's cache of blocks.
	CacheBytes int
	// WriteBuffer is goleveldb's, in bytes; default 8 MiB, at least twice
	// RecordMax. There are two of them at times.
	WriteBuffer int
	// Burst, optional, is told when the committer begins to call sinks, and
	// when it has ended: what they send may leave together. It must not
	// block.
	Burst Burst
	// Rand draws actors; default math/rand/v2. Only the committer calls it.
	Rand func() uint64
	// Logger gets what operators should see; default none.
	Logger *slog.Logger
	// StandInBytesMax bounds the records kept for other homes, in bytes;
	// default 1 GiB. Above it StandIn fails with ErrStandInsFull.
	StandInBytesMax int64
	// LogBlocksMax is how many blocks of at least 256 dots the dot log of a
	// partition keeps on disk; default 16.
	LogBlocksMax int
	// ClockPersistEvery is how far the clocks on disk lag; default 5 s.
	ClockPersistEvery time.Duration
	// HandOver says that a partition which Adopt drops is kept aside until
	// Store.HandOver was told who else has what it holds; without it, it is
	// deleted at once.
	HandOver bool
}

// Burst learns of many calls of sinks that come together. Every Begin is followed
// by an End, soon.
type Burst interface {
	// Begin comes before the first call, from whoever makes the calls.
	Begin()
	// End comes after the last one, from the same goroutine.
	End()
}

// noBurst is nobody who wants to know.
type noBurst struct{}

func (noBurst) Begin() {}
func (noBurst) End()   {}

const (
	recordMaxDefault   = 1*mib + 64<<10
	recordMaxMax       = 16*mib + 256<<10
	cacheDefault       = 64 * mib
	writeBufferDefault = 8 * mib
	blockCacheMin      = 1 * mib
)

func (o Options) withDefaults() (Options, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.RecordMax == 0 {
		o.RecordMax = recordMaxDefault
	}
	if o.RecordMax < 1024 || o.RecordMax > recordMaxMax {
		return o, fmt.Errorf("record limit of %d bytes: want 1024 to %d", o.RecordMax, recordMaxMax)
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = cacheDefault
	}
	if o.WriteBuffer == 0 {
		o.WriteBuffer = max(writeBufferDefault, 2*o.RecordMax)
	}
	if o.StandInBytesMax == 0 {
		o.StandInBytesMax = 1 << 30
	}
	if o.LogBlocksMax == 0 {
		o.LogBlocksMax = 16
	}
	if o.StandInBytesMax < 0 || o.LogBlocksMax < 0 || o.CacheBytes < 0 || o.WriteBuffer < 0 || o.ClockSlack < 0 || o.ClockPersistEvery < 0 {
		return o, errors.New("store options must not be negative")
	}
	if o.Rand == nil {
		o.Rand = rand.Uint64
	}
	if o.Burst == nil {
		o.Burst = noBurst{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ClockPersistEvery == 0 {
		o.ClockPersistEvery = 5 * time.Second
	}
	return o, nil
}

// Store keeps records. Its methods may be called from any goroutine.
type Store struct {
	options Options
	logger  *slog.Logger
	guard   *guard
	cache   *cache
	clocks  *clocks
	trees   *trees
	dotLog  *dotLog
	endings *endings
	rot     *rot
	drops   *drops
	fences  fences
	// openings tells of the files being opened anew.
	openings openings
	vouch    vouching
	intake   *intake
	readers  *readers

	database atomic.Pointer[engine] // nil while the files are closed
	closed   atomic.Bool
	waiting  atomic.Int64 // operations, against queueOpsMax
	bytes    atomic.Int64 // of them, against queueBytesMax

	boot           atomic.Uint64
	durable        atomic.Uint64 // number of the last batch on disk
	keys           atomic.Int64
	counted        atomic.Bool // keys is complete
	recordsWritten atomic.Int64
	batchesWritten atomic.Int64
	reopenings     atomic.Int64
	standIns       atomic.Int64
	standInBytes   atomic.Int64
	scrubbed       atomic.Int64
	rottenBlocks   atomic.Int64 // and records

	scrubbing scrubbing

	stop       chan struct{}  // closed by Close: background work ends
	reopened   chan *opened   // files that were opened again after a failure
	background sync.WaitGroup // all goroutines but the readers
	closeOnce  sync.Once
	closeError error
}

// Open opens the store on a disk, or makes a new one on an empty disk. It locks
// the disk until Close; the disk stays the caller's, to be closed after Close.
// Losses that it finds do not stop it: Health names them. An error that is
// ErrCorrupt means that the files cannot be used at all.
func Open(disk storage.Storage, o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	g, err := newGuard(disk)
	if err != nil {
		return nil, err
	}
	s := &Store{
		options: o, logger: o.Logger, guard: g,
		cache: newCache(o.CacheBytes), intake: newIntake(),
		trees: newTrees(), dotLog: newDotLog(), endings: newEndings(), rot: newRot(), drops: newDrops(o.HandOver),
		stop: make(chan struct{}), reopened: make(chan *opened, 1),
	}
	s.clocks = newClocks(s.dotLog, s.endings)
	g.unreadable = s.rot.reportUnreadable
	s.vouch.changed, s.vouch.clocks = make(chan struct{}), s.clocks
	first := s.opening()
	first.first = true
	files, err := first.open()
	if err != nil {
		g.release()
		return nil, err
	}
	for _, sentence := range files.losses.Sentences {
		s.logger.Error("synced data was lost; reads of this store do not count", "loss", sentence)
	}
	s.readers = newReaders(s)
	c := newCommitter(s, files)
	s.startCount(files)
	s.background.Go(c.run)
	s.background.Go(s.quarantine)
	s.background.Go(s.dropper)
	return s, nil
}

// opening is a try to open the files.
func (s *Store) opening() opening {
	return opening{guard: s.guard, writeBuffer: s.options.WriteBuffer,
		blockCache:   max(blockCacheMin, s.options.CacheBytes/2),
		rottenBlocks: &s.rottenBlocks, logger: s.logger}
}

// Close finishes the writes that wait, refuses new ones with ErrClosed, and
// closes the files. It may be called more than once.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.closed.Store(true)
		close(s.stop)
		s.readers.close()
		s.intake.close()
		s.background.Wait()
		select {
		case files := <-s.reopened:
			// They came too late for the committer.
			if files != nil {
				s.closeError = errors.Join(s.closeError, files.close())
			}
		default:
		}
		s.guard.release()
	})
	return s.closeError
}

// errKey refuses keys that cannot be stored.
var errKey = errors.New("bad key")

func checkKey(p ring.Partition, key []byte) error {
	if len(key) == 0 || len(key) > version.KeySizeMax {
		return fmt.Errorf("%w: %d bytes, want 1 to %d", errKey, len(key), version.KeySizeMax)
	}
	return checkPartition(p)
}

func checkPartition(p ring.Partition) error {
	if p >= ring.SlotCount {
		return fmt.Errorf("%w: partition %d, want less than %d", errKey, p, ring.SlotCount)
	}
	return nil
}

// Put mints a dot for the write and stores it. It returns at once; p.Sink learns
// what becomes of it. A refusal may reach the sink before Put returns.
func (s *Store) Put(p *Put) {
	if err := s.admit(&p.link, p.Partition, p.Key, len(p.Value)); err != nil {
		p.Sink.Committed(err)
		return
	}
	e, gen := s.cache.peek(p.link.hash, p.link.key)
	p.link.warm, p.link.gen = e, gen
	if e == nil || !p.Blind && survivorsLackValues(e, p.Context) {
		s.warm(readTask{put: p})
		return
	}
	s.enqueue(item{put: p})
}

// Merge folds a record of another home into the stored one. It returns at once;
// m.Sink learns what becomes of it. A refusal may reach the sink before Merge
// returns.
func (s *Store) Merge(m *Merge) {
	if err := s.admit(&m.link, m.Partition, m.Record.Key, len(m.Encoded)); err != nil {
		m.Sink.Committed(err)
		return
	}
	if !s.hasFor(m) {
		s.warm(readTask{merge: m})
		return
	}
	s.enqueue(item{merge: m})
}

// admit counts an operation against the bounds and prepares its link.
func (s *Store) admit(l *link, p ring.Partition, key []byte, valueSize int) error {
	if s.closed.Load() {
		return ErrClosed
	}
	if err := checkKey(p, key); err != nil {
		return err
	}
	size := int64(len(key) + valueSize + opOverhead)
	if s.waiting.Add(1) > queueOpsMax || s.bytes.Add(size) > queueBytesMax && s.bytes.Load() != size {
		l.size = size
		s.release(l)
		return ErrOverloaded
	}
	l.size = size
	l.key = appendDataKey(l.key[:0], p, key)
	l.hash = hashKey(l.key)
	l.warm, l.claims, l.mark = nil, false, s.drops.mark(p)
	return nil
}

// release ends the counting of an operation.
func (s *Store) release(l *link) {
	s.waiting.Add(-1)
	s.bytes.Add(-l.size)
	l.warm = nil
}

// enqueue hands an operation to the committer.
func (s *Store) enqueue(i item) {
	if !s.intake.push(i) {
		s.refuse(i, ErrClosed)
	}
}

func (s *Store) refuse(i item, err error) {
	switch {
	case i.put != nil:
		s.release(&i.put.link)
		i.put.Sink.Committed(err)
	case i.merge != nil:
		s.release(&i.merge.link)
		i.merge.Sink.Committed(err)
	case i.stand != nil:
		s.release(&i.stand.link)
		i.stand.sink.Committed(err)
	default:
		i.ctl.done <- err
	}
}

// Get returns the encoded record of a key, nil if it was never written. It is
// committed, and checked if it came from disk. It must not be written to. Get
// waits for the disk.
func (s *Store) Get(p ring.Partition, key []byte) ([]byte, error) {
	if err := checkKey(p, key); err != nil {
		return nil, err
	}
	if err := s.readable(); err != nil {
		return nil, err
	}
	mark := s.drops.mark(p)
	if err := s.drops.intact(p, mark); err != nil {
		return nil, err
	}
	var buf [128]byte
	k := appendDataKey(buf[:0], p, key)
	hash := hashKey(k)
	e, gen := s.cache.get(hash, k)
	if e != nil && (e.full || e.absent()) {
		return e.encoded, nil
	}
	e, err := s.load(p, k)
	if err == nil {
		err = s.drops.intact(p, mark)
	}
	if err != nil {
		return nil, err
	}
	s.cache.add(hash, e, gen)
	return e.encoded, nil
}

// readable says why nothing may be read now.
func (s *Store) readable() error {
	if s.closed.Load() {
		return ErrClosed
	}
	if s.vouch.unread.Load() {
		return fmt.Errorf("%w: %w", ErrFailed, s.vouch.health().Failed)
	}
	return nil
}

// load reads a key from the database. Reading damage makes the partition lossy.
func (s *Store) load(p ring.Partition, key []byte) (*entry, error) {
	db := s.database.Load()
	if db == nil || !db.enter() {
		if s.closed.Load() {
			return nil, ErrClosed
		}
		return nil, fmt.Errorf("%w: files are closed", ErrFailed)
	}
	b, err := db.db.Get(key, nil)
	db.leave()
	if errors.Is(err, leveldb.ErrNotFound) {
		return &entry{key: string(key), full: true}, nil
	}
	if err != nil {
		return nil, s.damage(p, fmt.Errorf("read key %.64q: %w", key[dataKeySize:], err))
	}
	rec, err := version.Parse(b)
	if err == nil && string(rec.Key) != string(key[dataKeySize:]) {
		err = fmt.Errorf("found key %.64q", rec.Key)
	}
	if err != nil {
		return nil, s.badRecord(p, key, fmt.Errorf("read key %.64q: %w", key[dataKeySize:], err))
	}
	return &entry{key: string(key), rec: rec, encoded: b, full: true}, nil
}

// damage notes that something of a partition could not be read.
func (s *Store) damage(p ring.Partition, cause error) error {
	if starved(cause) {
		return fmt.Errorf("%w: %w", ErrFailed, cause)
	}
	s.trees.doubt(p)
	s.rotten(cause)
	err := fmt.Errorf("%w: partition %d: %w", ErrCorrupt, p, cause)
	if s.vouch.lose(p, "partition %d: %v", p, cause) {
		s.logger.Error("synced data was lost; reads of this partition do not count", "partition", p, "error", cause)
		s.intake.push(item{ctl: &control{lost: &p, done: make(chan error, 1)}})
	}
	return err
}

// Fence is the epoch below which the partition takes no counted request.
func (s *Store) Fence(p ring.Partition) uint64 { return s.fences[p].Load() }

// Boot counts how often the store was opened: the copy of a directory that is
// put back in place of a newer one shows a smaller number.
func (s *Store) Boot() uint64 { return s.boot.Load() }

// Batches counts the batches that are on disk, since the store was made. It never
// falls, unless the disk loses what it had synced or an older copy of the
// directory takes its place.
func (s *Store) Batches() uint64 { return s.durable.Load() }

// Health says what the store can vouch for.
func (s *Store) Health() Health { return s.vouch.health() }

// CountsForRead says that reads of a partition may count for a quorum.
func (s *Store) CountsForRead(p ring.Partition) bool { return s.vouch.counts(p) && !s.drops.busy(p) }

// Changed returns a channel that is closed at the next change of Health, or of what
// CountsForRead says.
func (s *Store) Changed() <-chan struct{} { return s.vouch.wait() }

// Stats returns the counters.
func (s *Store) Stats() Stats {
	out := Stats{
		Keys:       s.keys.Load(),
		Records:    s.recordsWritten.Load(),
		Batches:    s.batchesWritten.Load(),
		Reopenings: s.reopenings.Load(),
		DiskBytes:  s.guard.journalBytes.Load(),

		StandIns:     s.standIns.Load(),
		StandInBytes: s.standInBytes.Load(),
		Scrubbed:     s.scrubbed.Load(),
		Rotten:       s.rottenBlocks.Load(),
	}
	out.CacheHits, out.CacheMiss = s.cache.counts()
	if db := s.database.Load(); db != nil && db.enter() {
		var d leveldb.DBStats
		if err := db.db.Stats(&d); err == nil {
			out.DiskBytes += d.LevelSizes.Sum()
		}
		db.leave()
	}
	return out
}
