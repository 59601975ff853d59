package antientropy

import (
	"context"
	"log/slog"
	"time"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// Store is what repair needs of this node's records; *store.Store satisfies it.
type Store interface {
	// Era changes whenever clocks were emptied or the files opened anew: what
	// was read of clocks before is then void.
	Era() uint64
	// EraOf is the Era in which the clock of a partition was emptied last.
	EraOf(p ring.Partition) uint64
	// ClockOf is a copy of the partition's clock, which claims only what is
	// on disk.
	ClockOf(p ring.Partition) store.Clock
	// ClocksChanged lists, sorted, the partitions whose clock has changed
	// since the reading now of an earlier call with the same Era; 0 lists
	// all that have a clock.
	ClocksChanged(since uint64) (changed []ring.Partition, now uint64)
	// Incorporate claims dots whose effects were merged from a home that
	// claims them, if EraOf is not newer than era. It returns when the merges
	// queued before it are on disk.
	Incorporate(p ring.Partition, dots store.DotSet, era uint64) error
	// KeysOf finds, in the dot log, the keys that the dots were written to,
	// each key once and sorted, and the dots that the log does not know.
	KeysOf(p ring.Partition, dots store.DotSet) (keys []store.LoggedKey, unknown store.DotSet, err error)

	// MergeAll folds records of another home into the stored ones, together.
	// Their sinks learn what becomes of each.
	MergeAll(merges []*store.Merge)
	Get(p ring.Partition, key []byte) ([]byte, error)
	Scan(p ring.Partition, after []byte, limit int, each func(key, record []byte) bool) error

	// TreeOf is a copy of the partition's hash tree, and a number that
	// changes with it; false while it cannot be trusted: it is being built,
	// or the partition is damaged.
	TreeOf(p ring.Partition) (tree *store.Tree, changes uint64, ok bool)
	// PurgeAll removes each record whose leaf is still the given one, all of
	// whose siblings are tombstones or had expired at the time given in
	// milliseconds since 1970, and all of whose past the clock's bases cover.
	// It returns when that is on disk, and says for which of them all of
	// these held.
	PurgeAll(p ring.Partition, records []store.Purged, now uint64) ([]bool, error)

	// Endings lists, sorted by actor, what is known of the ends of actors in a
	// partition, and the reading of ClocksChanged after which the last of them
	// was closed. Nobody changes the slice.
	Endings(p ring.Partition) (all []store.Ending, changed uint64)
	// End fences actors of a partition or closes them: from then on records with
	// dots of theirs are refused as store.Refused says. It returns when that is on
	// disk, with the merges queued before it. A fence of the partition that is
	// newer than epoch, if that is not 0, fails it.
	End(p ring.Partition, ends []store.Ending, epoch uint64) error
	// Minting is the actor that this store mints with in a partition, 0 for none.
	Minting(p ring.Partition) (version.Actor, error)

	// Fence is the epoch below which a partition takes no counted request. It is
	// durable, and no record is dropped before it has risen.
	Fence(p ring.Partition) uint64
	// NotePulledIn notes durably, behind the merges that were queued before, what
	// was pulled for a move, if EraOf is not newer than era. Another By or Since
	// replaces the note, the same unites From. A fence that is newer than Since fails it.
	// A loss in the partition, or its drop, voids the note.
	NotePulledIn(p ring.Partition, note ring.Pulled, era uint64) error
	// Pulled is the note; zero where nothing is noted.
	Pulled(p ring.Partition) ring.Pulled

	// CountsForRead is false for a partition that has lost something.
	CountsForRead(p ring.Partition) bool
	Health() store.Health
	// Changed is closed at the next change of Health.
	Changed() <-chan struct{}
	// Repaired says that the partition holds again what was lost, if EraOf is
	// not newer than era. It returns when that is on disk.
	Repaired(p ring.Partition, era uint64) error
	// DeclareLossOf says that the partition lacks what its clock claims, and
	// why that is known: from then on it does not count for reads, its clock is
	// empty and the Era another one. It returns when that is on disk.
	DeclareLossOf(p ring.Partition, why string) error

	// ToHandOver lists, by partition, the drops of partitions that are kept aside
	// until HandOver says who else has what they hold.
	ToHandOver() []store.Drop
	// HandOver lets a drop go on: a record whose siblings at least need of the clocks
	// claim is deleted, any other becomes a stand-in for the zero home. It does not
	// block; the clocks must not be changed afterwards.
	HandOver(d store.Drop, claims []store.Clock, need int)

	// StandIns gives up to limit records kept for a home, in the order of
	// partition and key, behind the key after of partition p (nil: from the
	// first one of p).
	StandIns(home ring.NodeID, p ring.Partition, after []byte, limit int) ([]store.StandIn, error)
	// StandInHomes lists the homes for which records are kept, sorted.
	StandInHomes() ([]ring.NodeID, error)
	// DropStandIn removes a record that was kept, if it has not changed since
	// StandIns gave it.
	DropStandIn(s *store.StandIn) error
}

// Rings is the ring record on this node; *topology.Topology satisfies it.
type Rings interface {
	// Current is nil until the node belongs to a cluster. It is durable.
	Current() *ring.Record
	// Changed is closed at the next change of Current.
	Changed() <-chan struct{}
	// Learn pulls the record from a member until Current is of at least that
	// epoch.
	Learn(ctx context.Context, from rpc.Peer, epoch uint64) error
}

// Members says where everybody is.
type Members interface {
	View() *gossip.View
	// Changed is closed at the next change of View.
	Changed() <-chan struct{}
}

// Circuits says which peers answer; *rpc.Guard satisfies it.
type Circuits interface {
	Open(id ring.NodeID) bool
	Latency(id ring.NodeID) (mean, p95 time.Duration)
}

// Config is what a Repair works with. All fields are needed but for those with a
// default.
type Config struct {
	// Self is this node's member ID.
	Self ring.NodeID
	// Store has this node's records; it outlives the Repair.
	Store Store
	// Rings tells who is home of what, Members where they are, and Circuits which of
	// them answer.
	Rings    Rings
	Members  Members
	Circuits Circuits
	// Transport carries requests to other members.
	Transport rpc.Transport
	// Now is the wall clock; stamps are the node's, behind Stamp.
	Now func() time.Time
	// Stamp reads the node's hybrid logical clock.
	Stamp func() version.Stamp
	// Served, optional, counts the requests that this node has served for
	// clients, whoever coordinates them. While there are some, repair yields.
	Served func() uint64
	// Certain, optional, says why the record of Rings may be older than one that this
	// node has held before; nil if it is not. It may ask other members, for seconds.
	Certain func(ctx context.Context) error
	// Seed of the jitter.
	Seed uint64
	// Logger gets what operators should see; default none.
	Logger *slog.Logger

	// ClocksEvery is how often clocks are exchanged with each home; default
	// 3 s, with jitter.
	ClocksEvery time.Duration
	// AuditEvery is how long it takes until every partition was audited with
	// every other home of it; default 10 minutes.
	AuditEvery time.Duration
	// ScrubEvery is how long one pass over all records on disk takes; default
	// 24 hours.
	ScrubEvery time.Duration
	// ForgetAfter is how old a tombstone is at least when it is forgotten;
	// default 1 minute. It is no part of what makes that safe.
	ForgetAfter time.Duration
	// CloseAfter is how old a hole in a clock is at least when its actor is
	// closed; default 30 s. It is no part of what makes that safe.
	CloseAfter time.Duration
	// BytesPerSecond bounds what this node pulls; default 64 MiB.
	BytesPerSecond int
}
