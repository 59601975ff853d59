package store

import (
	"github.com/kithdb/kith/ring"
)

// control is what the committer does beside puts and merges, in order with
// them. done is given the outcome once it is on disk; it never blocks.
type control struct {
	name  string // metadata to store, with its prefix
	value []byte

	// fences to raise, by partition, with the ring record that says so.
	fences []uint64

	// lost is a partition of which synced data was lost.
	lost *ring.Partition
	// lostAll says that synced data of any partition may be lost.
	lostAll bool

	done chan error
}

func (c *committer) applyControl(ctl *control) {
	b := c.building
	if ctl.name != "" {
		b.put([]byte(ctl.name), ctl.value)
	}
	if ctl.fences != nil {
		for p, epoch := range ctl.fences {
			c.fences.raise(p, epoch)
		}
		b.put([]byte(metaFences), c.fences.encode())
	}
	if ctl.lost != nil {
		c.forget(*ctl.lost)
	}
	if ctl.lostAll {
		for p := range ring.Partition(ring.SlotCount) {
			c.forget(p)
		}
	}
	if ctl.lost != nil || ctl.lostAll {
		b.put([]byte(metaLosses), c.vouch.encoded())
	}
	b.ops = append(b.ops, item{ctl: ctl})
}

// forget gives up what a lossy partition may not claim any longer.
func (c *committer) forget(p ring.Partition) {
	c.clocks.forget(p)
	c.actors.retire(p)
	c.building.delete(clockKey(p))
}
