package store

import (
	"sync"

	"github.com/kithdb/kith/ring"
)

// Readers wait for the disk, so that neither the committer nor a connection
// does.
const (
	readersMax     = 4
	readTasksMax   = 4096
	scanPieceBytes = 1 << 20
	scanPiece      = 256 // records
)

// readTask is a read for a sink, or the read that a write needs before it is
// queued.
type readTask struct {
	put   *Put
	merge *Merge

	sink      ReadSink
	partition ring.Partition
	key       []byte // in the database
	hash      uint32
	gen       uint64
	mark      uint32 // of the partition's drops
}

// readers is a small pool.
type readers struct {
	store *Store
	tasks chan readTask
	wg    sync.WaitGroup

	mu     sync.RWMutex // guards closed: nothing is sent once it is set
	closed bool
}

func newReaders(s *Store) *readers {
	r := &readers{store: s, tasks: make(chan readTask, readTasksMax)}
	for range readersMax {
		r.wg.Go(r.run)
	}
	return r
}

// submit never waits. It fails with ErrOverloaded or ErrClosed.
func (r *readers) submit(t readTask) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return ErrClosed
	}
	select {
	case r.tasks <- t:
		return nil
	default:
		return ErrOverloaded
	}
}

// close waits for all tasks.
func (r *readers) close() {
	r.mu.Lock()
	r.closed = true
	close(r.tasks)
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *readers) run() {
	for t := range r.tasks {
		switch {
		case t.put != nil:
			r.warm(&t.put.link, t.put.Partition, item{put: t.put})
		case t.merge != nil:
			r.warm(&t.merge.link, t.merge.Partition, item{merge: t.merge})
		default:
			r.read(t)
		}
	}
}

// warm finds what a write needs and queues it. What cannot be read refuses the
// write: damage is never "absent".
func (r *readers) warm(l *link, p ring.Partition, i item) {
	e, err := r.store.load(p, l.key)
	if err != nil {
		r.store.refuse(i, err)
		return
	}
	if r.store.cache.add(l.hash, e, l.gen) {
		l.warm = e
	}
	r.store.enqueue(i)
}

func (r *readers) read(t readTask) {
	if err := r.store.readable(); err != nil {
		t.sink.Read(nil, err)
		return
	}
	e, err := r.store.load(t.partition, t.key)
	if err == nil {
		err = r.store.drops.intact(t.partition, t.mark)
	}
	if err != nil {
		t.sink.Read(nil, err)
		return
	}
	r.store.cache.add(t.hash, e, t.gen)
	t.sink.Read(e.encoded, nil)
}

// warm sends a write to a reader.
func (s *Store) warm(t readTask) {
	if err := s.readers.submit(t); err != nil {
		s.refuse(item{put: t.put, merge: t.merge}, err)
	}
}

// Read gives the encoded record of a key to sink, from the cache before it
// returns or else from a reader. It never waits; with too many reads waiting
// already the sink gets ErrOverloaded.
func (s *Store) Read(p ring.Partition, key []byte, sink ReadSink) {
	err := checkKey(p, key)
	if err == nil {
		err = s.readable()
	}
	mark := uint32(0)
	if err == nil {
		mark = s.drops.mark(p)
		err = s.drops.intact(p, mark)
	}
	if err != nil {
		sink.Read(nil, err)
		return
	}
	var buf [128]byte
	k := appendDataKey(buf[:0], p, key)
	hash := hashKey(k)
	e, gen := s.cache.get(hash, k)
	if e != nil && (e.full || e.absent()) {
		sink.Read(e.encoded, nil)
		return
	}
	t := readTask{sink: sink, partition: p, key: append([]byte(nil), k...), hash: hash, gen: gen, mark: mark}
	if err := s.readers.submit(t); err != nil {
		sink.Read(nil, err)
	}
}
