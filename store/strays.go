package store

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/syndtr/goleveldb/leveldb/iterator"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/kithdb/kith/ring"
)

// A damaged block may hold deletions. Once it is out of the way, older tables show again
// what was deleted, and of a partition that was dropped long ago records are there again.
// The store cannot tell them from others: who knows which partitions this node keeps asks
// for them with each opening of the files, and has them dropped once more.

// openings wakes those who wait for the next opening of the files.
type openings struct {
	mu sync.Mutex
	ch chan struct{} // guarded by mu; nil while nobody waits
}

// next is closed with the next opening.
func (o *openings) next() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ch == nil {
		o.ch = make(chan struct{})
	}
	return o.ch
}

// over says that the files were opened.
func (o *openings) over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ch != nil {
		close(o.ch)
		o.ch = nil
	}
}

// Reopened returns a channel that is closed when the files are opened anew next, as they
// are after damage was taken out of them: what was read of them before may be different
// then.
func (s *Store) Reopened() <-chan struct{} { return s.openings.next() }

// Strays lists those of some partitions, which are sorted, that have records here, but
// for those that are being dropped. It waits for the disk, and reads no more than one
// record for each partition that has some.
//
// An error means that the list is not complete; damage is ErrCorrupt.
func (s *Store) Strays(among []ring.Partition) (found []ring.Partition, err error) {
	for _, p := range among {
		if err := checkPartition(p); err != nil {
			return nil, err
		}
	}
	err = s.withIterator(util.BytesPrefix([]byte(dataPrefix)), func(it iterator.Iterator) {
		for i := 0; i < len(among); {
			ok := it.Seek(appendDataKey(nil, among[i], nil))
			for ok && len(it.Key()) < dataKeySize {
				ok = it.Next() // it is of no partition
			}
			if !ok {
				return
			}
			// All before p are empty.
			p := ring.Partition(binary.BigEndian.Uint16(it.Key()[len(dataPrefix):]))
			at, is := slices.BinarySearch(among[i:], p)
			i += at
			if is {
				if !s.drops.busy(p) {
					found = append(found, p)
				}
				i++
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("look for records of %d partitions: %w", len(among), err)
	}
	return found, nil
}
