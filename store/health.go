package store

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/kithdb/kith/ring"
)

// vouching is what the store says of itself; Health is a copy of it.
type vouching struct {
	mu      sync.Mutex // guards what follows
	failed  error
	reads   bool // reads are served although failed
	losses  losses
	changed chan struct{}

	// all and lossy mirror losses, and unread says that no reads are
	// served, for those who ask with every request.
	all    atomic.Bool
	unread atomic.Bool
	lossy  [ring.SlotCount / 64]atomic.Uint64
}

func (v *vouching) health() Health {
	v.mu.Lock()
	defer v.mu.Unlock()
	return Health{
		Failed:   v.failed,
		ReadOnly: v.failed != nil && v.reads,
		LossyAll: v.losses.All,
		Lossy:    slices.Clone(v.losses.Partitions),
		Losses:   slices.Clone(v.losses.Sentences),
	}
}

// counts says that what the store reads in p may count for a quorum.
func (v *vouching) counts(p ring.Partition) bool {
	return !v.all.Load() && !v.unread.Load() && v.lossy[p/64].Load()&(1<<(p%64)) == 0
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
	v.all.Store(l.All)
	for _, p := range l.Partitions {
		v.lossy[p/64].Or(1 << (p % 64))
	}
	v.wake()
}

// lose notes that synced data of a partition was lost. It says whether that is
// news. Where many are lost, all are.
func (v *vouching) lose(p ring.Partition, format string, args ...any) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lossy[p/64].Or(1<<(p%64))&(1<<(p%64)) != 0 {
		return false
	}
	switch {
	case len(v.losses.Partitions) < lossPartitionsMax:
		v.losses.Partitions = append(v.losses.Partitions, p)
		v.losses.say(format, args...)
	case !v.losses.All:
		v.losses.loseAll("more than %d partitions are damaged", lossPartitionsMax)
		v.all.Store(true)
	}
	v.wake()
	return true
}

// loseAll notes that synced data of any partition may be lost.
func (v *vouching) loseAll(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.losses.loseAll(format, args...)
	v.all.Store(true)
	v.wake()
}

// known is a copy of the losses.
func (v *vouching) known() losses {
	v.mu.Lock()
	defer v.mu.Unlock()
	return losses{All: v.losses.All, Partitions: slices.Clone(v.losses.Partitions), Sentences: slices.Clone(v.losses.Sentences)}
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
