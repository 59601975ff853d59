package store

import (
	"encoding/binary"

	"github.com/kithdb/kith/ring"
)

// control is what the committer does beside puts and merges, in order with
// them. done is given the outcome once it is on disk; it never blocks.
type control struct {
	name  string // metadata to store, with its prefix
	value []byte

	// fences to raise, by partition, with the ring record that says so, and the
	// partitions to drop with it.
	fences []uint64
	drops  []ring.Partition

	// lost is a partition of which synced data was lost.
	lost *ring.Partition
	// lostAll says that synced data of any partition may be lost.
	lostAll bool
	// losses says that Health has changed otherwise.
	losses bool

	// remove is a database key that holds nothing of use.
	remove []byte
	// bad is the database key of a record that cannot be read: it is removed
	// if it still cannot be.
	bad []byte
	// built says that a scan for hash trees is over.
	built bool
	// quarantine is why the files are to be closed and opened anew.
	quarantine error

	claim    *claim
	purge    *purge
	repaired *claim // its partition and era
	ending   *ending
	minting  *minting
	pulled   *pulled
	drop     *dropPiece

	done chan error
	err  error // found while it was published
}

// claim is about dots of a partition, as things are in an era.
type claim struct {
	partition ring.Partition
	era       uint64
	dots      DotSet
}

func (c *committer) applyControl(ctl *control) {
	if c.applyState(ctl) {
		return
	}
	b := c.building
	if ctl.name != "" {
		b.put([]byte(ctl.name), ctl.value)
	}
	if len(ctl.fences) > 0 {
		for p, epoch := range ctl.fences {
			c.fences.raise(p, epoch)
		}
		c.vouch.setCount(len(ctl.fences))
		b.put([]byte(metaFences), c.fences.encode())
	}
	c.beginDrops(ctl.drops)
	if ctl.lost != nil || ctl.lostAll {
		c.forget(ctl)
	}
	c.applyUpkeep(ctl)
	var err error
	switch {
	case ctl.claim != nil:
		err = c.applyClaim(ctl.claim)
	case ctl.purge != nil:
		err = c.applyPurge(ctl.purge)
	case ctl.repaired != nil:
		err = c.applyRepaired(ctl.repaired)
	case ctl.ending != nil:
		err = c.applyEnding(ctl)
	case ctl.pulled != nil:
		err = c.applyPulled(ctl)
	case ctl.drop != nil:
		err = c.applyDropPiece(ctl.drop)
	}
	if err != nil {
		c.complete(item{ctl: ctl}, err)
		return
	}
	b.ops = append(b.ops, item{ctl: ctl})
}

// forget gives up what a lossy partition may not claim any longer: its clock
// since the loss, which may rest on records that only the cache still held, and
// its actor.
func (c *committer) forget(ctl *control) {
	b := c.building
	c.cache.clear()
	if ctl.lostAll {
		c.clocks.void(b.number)
		c.clocks.forgetAll()
		c.actors.retireAll()
		b.put([]byte(metaClocks), binary.BigEndian.AppendUint64(nil, b.number))
		c.renameDrops()
	} else {
		c.clocks.forget(*ctl.lost)
		c.actors.retire(*ctl.lost)
		b.delete(clockKey(*ctl.lost))
		b.delete(pulledKey(*ctl.lost))
	}
	b.put([]byte(metaLosses), c.vouch.encoded())
}

// applyUpkeep does what the store asks of itself.
func (c *committer) applyUpkeep(ctl *control) {
	if ctl.losses {
		c.building.put([]byte(metaLosses), c.vouch.encoded())
	}
	if ctl.remove != nil {
		c.building.delete(ctl.remove)
	}
	if ctl.bad != nil {
		c.removeBad(ctl.bad)
	}
}

// applyState does what changes nothing on disk. It says whether that was all.
func (c *committer) applyState(ctl *control) bool {
	switch {
	case ctl.minting != nil:
		*ctl.minting.actor = c.actors.current(ctl.minting.partition).actor
	case ctl.built:
		c.rebuilds.running = false
	case ctl.quarantine != nil:
		if c.rot.pending() {
			c.quarantining = ctl.quarantine
		}
	default:
		return false
	}
	c.complete(item{ctl: ctl}, nil)
	return true
}
