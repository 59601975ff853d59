package store

import (
	"slices"
	"sync"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// The dot log finds the keys that dots were written to. It is an index and not
// truth: whatever is missing in it is found by a scan of the partition. Each
// partition has a tail in memory; a full tail becomes a block, written with the
// next batch; of the blocks the oldest go. A clean close writes the tails, a
// crash forgets them.
const (
	logTailMax      = 256        // dots in a tail, and then some of the same batch
	logTailMin      = 16         // where there are very many partitions
	logTailBytesMax = 16 << 10   // keys in a tail
	logEntriesMax   = 1024 * 256 // dots in all tails
)

// logged is a dot with the key that it was written to, as the database has it.
type logged struct {
	dot version.Dot
	key string
}

// loggedAs is the key in the database under which dots are logged, as a string
// that may be kept or as bytes that may not; the zero loggedAs keeps them out of
// the log.
type loggedAs struct {
	key   string
	bytes []byte
}

func (l *loggedAs) known() bool { return l.key != "" || l.bytes != nil }

func (l *loggedAs) get() string {
	if l.key == "" {
		l.key = string(l.bytes)
	}
	return l.key
}

// logTail is what the log of a partition has in memory.
type logTail struct {
	entries []logged // the newest last
	bytes   int      // of their keys
	full    bool     // waits in dotLog.full
	// sealed are entries in a block on its way to the disk with batch
	// sealedBy.
	sealed   []logged
	sealedBy uint64
}

// dotLog is the part in memory of the logs of all partitions.
type dotLog struct {
	mu     sync.Mutex // guards what follows
	tails  map[ring.Partition]*logTail
	full   []ring.Partition // to be written
	sealed []ring.Partition // being written
}

func newDotLog() *dotLog { return &dotLog{tails: make(map[ring.Partition]*logTail)} }

// note logs a dot that the partition's clock has newly claimed. key is the one
// in the database, and is kept.
func (l *dotLog) note(p ring.Partition, d version.Dot, key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tails[p]
	if t == nil {
		t = new(logTail)
		l.tails[p] = t
	}
	t.entries = append(t.entries, logged{d, key})
	t.bytes += len(key)
	if !t.full && (len(t.entries) >= l.tailMax() || t.bytes >= logTailBytesMax) {
		t.full = true
		l.full = append(l.full, p)
	}
}

// tailMax keeps all tails together within their bound. l.mu is held.
func (l *dotLog) tailMax() int {
	return max(logTailMin, min(logTailMax, logEntriesMax/len(l.tails)))
}

// nextFull seals the tail of the next partition whose tail is full, for the
// batch of the given number. ok is false if there is none.
func (l *dotLog) nextFull(batch uint64) (p ring.Partition, entries []logged, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.full) == 0 {
		return 0, nil, false
	}
	p, l.full = l.full[0], l.full[1:]
	return p, l.seal(p, batch), true
}

// seal moves a tail out of the way of new entries. l.mu is held.
func (l *dotLog) seal(p ring.Partition, batch uint64) []logged {
	t := l.tails[p]
	t.sealed, t.sealedBy = t.entries, batch
	t.entries, t.bytes, t.full = nil, 0, false
	l.sealed = append(l.sealed, p)
	return t.sealed
}

// written forgets what is on disk with a batch.
func (l *dotLog) written(batch uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sealed = slices.DeleteFunc(l.sealed, func(p ring.Partition) bool {
		t := l.tails[p]
		if t.sealedBy > batch {
			return false
		}
		t.sealed, t.sealedBy = nil, 0
		return true
	})
}

// drop forgets the tail of a partition.
func (l *dotLog) drop(p ring.Partition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.tails, p)
	is := func(q ring.Partition) bool { return q == p }
	l.full, l.sealed = slices.DeleteFunc(l.full, is), slices.DeleteFunc(l.sealed, is)
}

// reset forgets all tails.
func (l *dotLog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.tails)
	l.full, l.sealed = nil, nil
}

// inMemory copies what memory has of a partition, the newest last.
func (l *dotLog) inMemory(p ring.Partition) []logged {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tails[p]
	if t == nil {
		return nil
	}
	return slices.Concat(t.sealed, t.entries)
}

// partitions lists, sorted, those that have a tail.
func (l *dotLog) partitions() []ring.Partition {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []ring.Partition
	for p, t := range l.tails {
		if len(t.entries) > 0 {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}
