package store

import (
	"errors"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// Errors of writes and reads. Every error but ErrUncertain means that nothing
// was written.
var (
	// ErrUncertain: the disk failed while the write was on its way; it may
	// be there after the store has reopened.
	ErrUncertain = errors.New("disk failed: write may or may not be stored")
	// ErrFailed: the store takes nothing until it has reopened its files.
	ErrFailed = errors.New("store is not serving")
	// ErrFenced: the epoch is older than the partition's fence.
	ErrFenced = errors.New("epoch is older than the partition's fence")
	// ErrExpired: the put's deadline had passed before it was minted.
	ErrExpired = errors.New("deadline passed before the write")
	// ErrTooLarge: the record with all its siblings would be over the limit.
	ErrTooLarge = errors.New("record too large")
	// ErrTooManySiblings: a put without context of a key with
	// SiblingsBlindMax siblings.
	ErrTooManySiblings = errors.New("too many siblings for a write without context")
	// ErrBadContext: a context names a dot that this home never minted.
	ErrBadContext = errors.New("context names a write that does not exist")
	// ErrCorrupt: what the disk returned is damaged. It is never "absent".
	ErrCorrupt = errors.New("damaged data on disk")
	// ErrOverloaded: too many writes wait already.
	ErrOverloaded = errors.New("too many writes are waiting")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store is closed")
)

// SiblingsBlindMax is how many siblings a key may have before puts without
// context are refused.
const SiblingsBlindMax = 100

// Put is a write that this store mints. Its owner fills the fields, keeps it
// unchanged until Committed, and may use it again afterwards.
type Put struct {
	Partition ring.Partition
	// Epoch of the ring record that the put was routed by.
	Epoch uint64
	Key   []byte
	// Value of the new sibling; with Tombstone there is none.
	Value       []byte
	ValueDigest version.Digest // version.DigestOf(Value)
	Tombstone   bool
	Expiry      uint64
	Stamp       version.Stamp
	// Blind puts have seen whatever the store holds; others saw Context.
	Blind   bool
	Context version.Context
	// NotAfter is the wall-clock time after which nothing is minted; zero
	// is never. It is compared with Options.Now, plus Options.ClockSlack.
	NotAfter time.Time
	Sink     PutSink

	link link // the committer's
}

// PutSink takes what becomes of a put. Its methods are called from the
// committer: they must be quick and never block or call the store back.
type PutSink interface {
	// Minted gives the encoded record with the put's dot, before it is on
	// disk, for the other homes. It is not called for a put that is
	// refused. The record may be kept, and must not be written to.
	// siblings counts those of the record.
	Minted(record []byte, dot version.Dot, seen version.Context, siblings int)
	// Committed is called once: nil says that the put is on disk.
	Committed(err error)
}

// Merge is a record from another home.
type Merge struct {
	Partition ring.Partition
	// Epoch of the request if it counts for anything, and then checked
	// against the fence; 0 for a repair that counts for nothing.
	Epoch uint64
	// Record was checked by version.Parse, and Encoded is its encoding.
	Record  version.Record
	Encoded []byte
	// Verdict says that the sender is a home of the partition that also says
	// what it has incorporated, in Base: of a sibling that Base covers and
	// Record lacks it knows that it was replaced or forgotten, so it goes
	// here too. With a verdict Record may have nothing but its Key, and
	// Encoded be nil: the sender has no record of it.
	Verdict bool
	Base    version.Context
	// Judged are the siblings here that the verdict was weighed against. It takes
	// no other: a value that came since may be one that the sender has lost.
	Judged []version.Dot
	Sink   MergeSink

	link link
}

// LoggedKey is a dot with the key that it was written to.
type LoggedKey struct {
	Dot version.Dot
	Key []byte
	// Dots are all those of the key that were looked for, Dot among them, the
	// newest first.
	Dots []version.Dot
}

// StandIn is a record that this node keeps for a home which was believed dead.
// It is no copy: it counts for no read, and goes home.
type StandIn struct {
	// Home is zero for what this node held itself as a home, before it gave up the
	// partition: see HandOver.
	Home      ring.NodeID
	Partition ring.Partition
	// Record was checked by version.Parse, and Encoded is its encoding.
	Record  version.Record
	Encoded []byte
	// Sink learns when it is on disk, or why not.
	Sink MergeSink
}

// MergeSink takes what becomes of a merge, from the committer, as PutSink does.
type MergeSink interface {
	// Committed is called once: nil says that the merge, or what made it
	// redundant, is on disk.
	Committed(err error)
}

// ReadSink takes the result of a read.
type ReadSink interface {
	// Read is called once, from any goroutine: with the encoded record, nil
	// for a key never written, or an error. The record must not be written
	// to.
	Read(record []byte, err error)
}

// Health says what a store can vouch for.
type Health struct {
	// Failed is why the store takes no writes now; nil while it does.
	Failed error
	// ReadOnly says that reads are still served although Failed is set.
	ReadOnly bool
	// LossyAll and Lossy name the partitions in which synced data was lost
	// and not yet repaired: they take writes and do not count for reads.
	// LossyAll is true while that is all of them.
	LossyAll bool
	Lossy    []ring.Partition
	// Losses are sentences that say what was lost, oldest first, while any
	// partition is lossy.
	Losses []string
	// MetaLost says that anything may have been lost at some time: metadata,
	// which no other home has, may be older than what SetMeta had stored. It
	// stays true when the partitions were repaired.
	MetaLost bool
}

// Stats are counters since the store was opened, but for Keys and DiskBytes.
type Stats struct {
	Keys       int64 // records, tombstones and what is still to be dropped included
	DiskBytes  int64
	Records    int64 // written
	Batches    int64 // written, each with one fsync
	CacheHits  int64
	CacheMiss  int64
	Reopenings int64
	// StandIns are records kept for other homes, and StandInBytes their size.
	StandIns     int64
	StandInBytes int64
	// Scrubbed are records that ScrubPiece has read. Rotten are damaged blocks
	// and records that were found, by whatever read them, and put out of
	// the way.
	Scrubbed int64
	Rotten   int64
}
