package store

import "sync"

// Bounds of what may wait for the committer. Above either of them a write is
// refused at once with ErrOverloaded.
const (
	queueOpsMax   = 16384
	queueBytesMax = 64 << 20
	opOverhead    = 512 // bytes counted for an operation beside its key and value
)

// link is the committer's part of a Put or Merge. Its buffers are kept when the
// owner uses the operation again.
type link struct {
	key  []byte // in the database
	hash uint32 // of key
	size int64  // counted against queueBytesMax
	// warm is what the cache had or a reader found, good while the cache's
	// generation of the key is still gen.
	warm *entry
	gen  uint64
	mark uint32 // of the partition's drops, when the operation was handed in
	// claims says that a merge claims dots beyond the record that it wrote.
	claims bool
}

// item is one thing that waits for the committer: exactly one field is set.
type item struct {
	put   *Put
	merge *Merge
	stand *standing
	ctl   *control
}

// intake is the committer's queue. Whoever pushes never waits.
type intake struct {
	mu     sync.Mutex // guards what follows
	items  []item
	closed bool
	ready  chan struct{} // holds a token while items may be there
}

func newIntake() *intake { return &intake{ready: make(chan struct{}, 1)} }

// push appends items, all at once; false says that the intake is closed.
func (q *intake) push(items ...item) bool {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	first := len(q.items) == 0 && len(items) > 0
	q.items = append(q.items, items...)
	q.mu.Unlock()
	if first {
		q.wake()
	}
	return true
}

func (q *intake) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take swaps the waiting items for an empty slice.
func (q *intake) take(empty []item) (items []item, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	items, q.items = q.items, empty[:0]
	return items, q.closed
}

// close lets nothing more in; what waits is still taken.
func (q *intake) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.wake()
}
