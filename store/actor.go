package store

import (
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// mint is the actor that a partition mints with, and its last number. An actor
// lives no longer than the files stay open: whatever the disk forgets or
// remembers, no dot is minted twice.
type mint struct {
	actor version.Actor // 0: none drawn yet
	last  uint64
}

// actors belong to the committer.
type actors struct {
	byPartition [ring.SlotCount]mint
	rand        func() uint64
	known       func(p ring.Partition, a version.Actor) bool
}

// of returns the partition's actor, drawing one if there is none.
func (a *actors) of(p ring.Partition) *mint {
	m := &a.byPartition[p]
	for m.actor == 0 {
		drawn := version.Actor(a.rand())
		if drawn != 0 && !a.known(p, drawn) {
			*m = mint{actor: drawn}
		}
	}
	return m
}

// current returns the partition's actor, 0 if none was drawn.
func (a *actors) current(p ring.Partition) mint { return a.byPartition[p] }

// retire ends the partition's actor; the next mint draws another one.
func (a *actors) retire(p ring.Partition) { a.byPartition[p] = mint{} }

// retireAll ends all actors.
func (a *actors) retireAll() { clear(a.byPartition[:]) }
