package store

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/kithdb/kith/ring"
)

// vouching is what the store says of itself; Health is a copy of it.
type vouching struct {
	clocks *clocks // emptied with every loss, in one step

	mu     sync.Mutex // guards what follows
	failed error
	reads  bool // reads are served although failed
	losses losses
	count  int // partitions in the ring; all that can be while that is not known
	// again are lossy partitions in which more was lost: who repairs them has
	// to begin anew.
	again   map[ring.Partition]struct{}
	changed chan struct{}

	// lossy mirrors losses, and unread says that no reads are served, for
	// those who ask with every request.
	unread atomic.Bool
	lossy  [ring.SlotCount / 64]atomic.Uint64
}

func (v *vouching) health() Health {
	v.mu.Lock()
	defer v.mu.Unlock()
	h := Health{
		Failed:   v.failed,
		ReadOnly: v.failed != nil && v.reads,
		LossyAll: v.losses.All && len(v.losses.Mended) == 0,
		Lossy:    slices.Clone(v.losses.Partitions),
		Losses:   slices.Clone(v.losses.Sentences),
		MetaLost: v.losses.Meta,
	}
	if v.losses.All && !h.LossyAll {
		for p := range ring.Partition(v.count) {
			if v.losses.has(p) {
				h.Lossy = append(h.Lossy, p)
			}
		}
	}
	return h
}

// counts says that what the store reads in p may count for a quorum.
func (v *vouching) counts(p ring.Partition) bool {
	return !v.unread.Load() && v.lossy[p/64].Load()&(1<<(p%64)) == 0
}

// setFailed says why no writes are taken; nil that they are.
func (v *vouching) setFailed(err error, reads bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failed, v.reads = err, reads
	v.unread.Store(err != nil && !reads)
	v.wake()
}

// setLosses puts what an opening has found in place of all.
func (v *vouching) setLosses(l losses) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.losses = l
	clear(v.again)
	v.losses.settle(v.count)
	v.mirror()
	v.wake()
}

// setCount says how many partitions there are.
func (v *vouching) setCount(partitions int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.count = partitions
	if v.losses.All {
		v.losses.settle(v.count)
		v.mirror()
		v.wake()
	}
}

// mirror brings lossy up to date. Partitions that do not exist are not lossy, or
// somebody would try to repair them. v.mu is held.
func (v *vouching) mirror() {
	var words [len(v.lossy)]uint64
	if v.losses.All {
		for p := range ring.Partition(v.count) {
			if v.losses.has(p) {
				words[p/64] |= 1 << (p % 64)
			}
		}
	}
	for _, p := range v.losses.Partitions {
		words[p/64] |= 1 << (p % 64)
	}
	for i, word := range words {
		v.lossy[i].Store(word)
	}
}

// lose notes that synced data of a partition was lost. It says whether that is
// news.
func (v *vouching) lose(p ring.Partition, format string, args ...any) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.losses.has(p) {
		if v.again == nil {
			v.again = make(map[ring.Partition]struct{})
		}
		v.again[p] = struct{}{}
		if v.clocks.pulled(p).Since == 0 {
			return false
		}
		v.clocks.forget(p) // its note is of what was pulled since it was lossy
		return true
	}
	all := v.losses.All
	v.losses.lose(p, format, args...)
	v.mirror()
	if v.losses.All != all {
		v.clocks.forgetAll()
	} else {
		v.clocks.forget(p)
	}
	v.wake()
	return true
}

// loseEvery notes that synced data of every partition may be lost, and no metadata.
func (v *vouching) loseEvery(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.losses.loseEvery(format, args...)
	v.lostAll()
}

// loseAll notes that synced data of any partition may be lost, and metadata.
func (v *vouching) loseAll(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.losses.loseAll(format, args...)
	v.lostAll()
}

// lostAll tells everybody. v.mu is held.
func (v *vouching) lostAll() {
	v.mirror()
	v.clocks.forgetAll()
	v.wake()
}

// repaired ends the loss of a partition, if no clock was emptied since the era
// began. It returns the losses that are left, as they are kept on disk, nil if
// there was nothing to end.
func (v *vouching) repaired(p ring.Partition, era uint64) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if now := v.clocks.eraOf(p); now > era {
		return nil, fmt.Errorf("%w: partition %d: era %d, now %d", ErrEra, p, era, now)
	}
	if !v.losses.has(p) {
		return nil, nil
	}
	if _, more := v.again[p]; more {
		// The repair may have met what was lost before it was.
		delete(v.again, p)
		v.clocks.forget(p)
		return nil, fmt.Errorf("%w: partition %d: more was lost while it was repaired", ErrEra, p)
	}
	v.losses.mend(p)
	v.losses.settle(v.count)
	v.mirror()
	v.wake()
	return v.losses.encode(), nil
}

// moreLost says that more was lost of a partition that was lossy already, and voids
// what its clock and note say: once.
func (v *vouching) moreLost(p ring.Partition) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, more := v.again[p]
	if more {
		delete(v.again, p)
		v.clocks.forget(p)
	}
	return more
}

// known is a copy of the losses.
func (v *vouching) known() losses {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.losses.clone()
}

// encoded is the losses as they are kept on disk.
func (v *vouching) encoded() []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.losses.encode()
}

// wake tells those who wait. v.mu is held.
func (v *vouching) wake() {
	close(v.changed)
	v.changed = make(chan struct{})
}

func (v *vouching) wait() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}
