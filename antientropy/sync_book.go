package antientropy

import (
	"slices"
	"sync"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
)

// syncBook has the pulls that moves need, and how far they are: what has failed goes on
// from there.
type syncBook struct {
	mu    sync.Mutex // guards what follows, and the progress of the sources
	parts map[ring.Partition]*syncing
	bytes uint64 // pulled since the start
}

// syncing is a pull of one partition, under one epoch and in one era of this node's.
// But for what the book guards, it belongs to who has the partition's turn.
type syncing struct {
	p          ring.Partition
	since, era uint64
	sources    map[ring.NodeID]*syncSource
}

// syncSource is how far the pull from one source is.
type syncSource struct {
	id ring.NodeID
	// era is the source's, 0 before it has answered; told is what it had
	// incorporated when it began to answer in it.
	era  uint64
	told store.Clock
	// whole says that all records are looked at, else those of the dots want.
	whole bool
	want  store.DotSet
	after []byte
	// scanned says that all records up to after were looked at.
	scanned bool
	// hidden are wanted dots that the source claims and does not show.
	hidden []wantedKey
	// done says that all is merged here, noted that the store has a note of it.
	done, noted bool

	keys, bytes, about uint64
}

func (b *syncBook) init() { b.parts = map[ring.Partition]*syncing{} }

// of gives the pull of a partition; one of another epoch or era is over. What the moves
// of the record have left behind goes.
func (b *syncBook) of(rec *ring.Record, pull ring.Pull, era uint64) *syncing {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, y := range b.parts {
		if rec.Since[p] != y.since {
			delete(b.parts, p)
		}
	}
	y := b.parts[pull.Partition]
	if y == nil || y.since != pull.Since || y.era != era {
		y = &syncing{p: pull.Partition, since: pull.Since, era: era, sources: map[ring.NodeID]*syncSource{}}
		b.parts[pull.Partition] = y
	}
	return y
}

// add begins a pull from one more source.
func (b *syncBook) add(y *syncing, from *syncSource) {
	b.mu.Lock()
	defer b.mu.Unlock()
	y.sources[from.id] = from
}

// begin has a pull from a source begin anew: it is asked for the first time, or has lost
// something or was started since.
func (b *syncBook) begin(from *syncSource, begun *syncResponse, missing store.DotSet) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*from = syncSource{id: from.id, era: begun.Era, told: begun.Clock, whole: from.whole || crowded(&begun.Clock), about: begun.Of}
	if !from.whole {
		from.want, from.about = missing, missing.Count()
	}
}

// page notes that a page is merged.
func (b *syncBook) page(from *syncSource, page *syncResponse, want store.DotSet, size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	from.keys += uint64(len(page.Items))
	from.bytes += uint64(size)
	b.bytes += uint64(size)
	from.hidden = append(from.hidden, page.Hidden...)
	from.scanned = page.Scanned && (from.scanned || from.after == nil)
	from.after = page.Next
	if !page.Done {
		return
	}
	from.after = nil
	if from.scanned {
		from.want = nil // all was looked at
	} else {
		pulled := clockOfDots(want)
		from.want = from.want.Without(&pulled)
	}
	from.done = len(from.want) == 0
}

func (b *syncBook) done(from *syncSource) {
	b.mu.Lock()
	defer b.mu.Unlock()
	from.done = true
}

// end forgets a pull.
func (b *syncBook) end(y *syncing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.parts, y.p)
}

// SyncProgress is how far the pull of a partition from one member is, for a move.
type SyncProgress struct {
	Partition ring.Partition
	From      ring.NodeID
	// Keys and Bytes were pulled; Of is about how many keys there are, 0 for
	// unknown. Where little is missing, only that is pulled.
	Keys, Bytes, Of uint64
}

// SyncStatus lists the pulls for moves that are under way, or are to go on after a
// failure, by partition and member.
func (r *Repair) SyncStatus() []SyncProgress {
	b := &r.syncs
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []SyncProgress
	for p, y := range b.parts {
		for id, from := range y.sources {
			out = append(out, SyncProgress{Partition: p, From: id, Keys: from.keys, Bytes: from.bytes, Of: max(from.about, from.keys)})
		}
	}
	slices.SortFunc(out, func(x, y SyncProgress) int {
		if x.Partition != y.Partition {
			return int(x.Partition) - int(y.Partition)
		}
		return x.From.Compare(y.From)
	})
	return out
}

// SyncBytes is how many bytes of records were pulled for moves since the start.
func (r *Repair) SyncBytes() uint64 {
	r.syncs.mu.Lock()
	defer r.syncs.mu.Unlock()
	return r.syncs.bytes
}
