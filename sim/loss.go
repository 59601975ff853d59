package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// breaking is the machine whose disk LossFaults break. From then on nobody wonders
// if it cannot be read.
func (c *Cluster) breaking() *Machine {
	c.broken = c.Machines[c.opts.Seed%uint64(c.opts.Nodes)]
	return c.broken
}

// tableRot changes a bit of what lies on the disk of a machine that runs. It begins
// with a clean restart, after which that is all that there was.
var tableRot = Fault{"table rot", func(c *Cluster, rng *rand.Rand) (string, func() error) {
	m := c.breaking()
	if !m.Running() {
		return m.Name + " is down already", nil
	}
	if m.spent() {
		return m.Name + " has lost enough already", nil
	}
	m.Stop()
	if err := m.revive(); err != nil {
		return "", func() error { return err }
	}
	files := m.Disk.Files(storage.TypeTable)
	if len(files) == 0 {
		return m.Name + " has no tables", nil
	}
	fd := files[rng.IntN(len(files))]
	if size := m.Disk.Size(fd); size > 0 {
		m.Disk.Flip(fd, rng.IntN(size), 1<<rng.IntN(8))
	}
	return m.Name, nil
}}

// lostDisk ends with a node that takes the place of the lost one.
var lostDisk = Fault{"lost disk", func(c *Cluster, _ *rand.Rand) (string, func() error) {
	m := c.breaking()
	r, err := c.Ring()
	if !m.Running() || err != nil || r.HomeCount(m.ID()) == 0 || !m.mayLose() {
		return m.Name + " has nothing to lose now", nil
	}
	m.LoseDisk()
	return m.Name, m.revive
}}

// bitRot begins with a clean restart, so that the machine knows who it is, and
// ends with a flipped bit in what it has written since.
var bitRot = Fault{"bit rot", func(c *Cluster, rng *rand.Rand) (string, func() error) {
	m := c.breaking()
	if !m.Running() {
		return m.Name + " is down already", nil
	}
	if m.spent() {
		return m.Name + " has lost enough already", nil
	}
	m.Stop()
	if err := m.revive(); err != nil {
		return "", func() error { return err }
	}
	return m.Name, func() error {
		if !m.Running() {
			return nil
		}
		m.Kill()
		if fd, ok := m.Disk.Newest(storage.TypeJournal); ok && m.Disk.Size(fd) > 0 {
			m.Disk.Flip(fd, rng.IntN(m.Disk.Size(fd)), 1<<rng.IntN(8))
		}
		return m.revive()
	}
}}

// rotBehindCut has one machine miss what the others write, and rot take that from
// the broken one of the others. Then the two that lack it are left to themselves,
// without the rest: what they tell each other must not end what is written.
var rotBehindCut = Fault{"rot behind a cut", func(c *Cluster, rng *rand.Rand) (string, func() error) {
	m := c.breaking()
	order := c.othersThan(m, rng)
	misses, knows := order[0], order[1]
	c.Isolate(misses)
	rest(context.Background(), time.Second+time.Duration(rng.Int64N(int64(2*time.Second))))
	if !m.Running() || m.spent() {
		return m.Name + " is down already, or has lost enough", c.healNetwork
	}
	m.Stop()
	if err := m.revive(); err != nil {
		return "", func() error { return err }
	}
	for _, fd := range m.Disk.Files(storage.TypeTable) {
		if size := m.Disk.Size(fd) * 3 / 4; size > 0 { // behind that stand filters and indexes
			m.Disk.Flip(fd, rng.IntN(size), 1<<rng.IntN(8))
		}
	}
	rest(context.Background(), time.Duration(rng.Int64N(int64(2*time.Second))))
	c.Network.Heal()
	c.Isolate(knows)
	return fmt.Sprint(m.Name, ", behind that of ", c.Names(misses), ", then ", c.Names(knows), " cut off"), c.healNetwork
}}

// lossBehindCut cuts the broken machine off from some of the others. It goes on to
// take writes, with what it reaches, until it loses its disk: what it has
// acknowledged is there in the end only if somebody else has kept it.
var lossBehindCut = Fault{"loss behind a cut", func(c *Cluster, rng *rand.Rand) (string, func() error) {
	m := c.breaking()
	order := c.othersThan(m, rng)
	with := 1 + rng.IntN((len(order)+1)/2)
	c.Partition(append([]int{m.index}, order[:with]...), order[with:])
	rest(context.Background(), 4*time.Second+time.Duration(rng.Int64N(int64(12*time.Second))))
	note, end := lostDisk.Begin(c, rng)
	note += fmt.Sprint(", with ", c.Names(order[:with]...), " behind a cut")
	if end == nil {
		return note, c.healNetwork
	}
	return note, func() error {
		c.Network.Heal()
		return end()
	}
}}

// othersThan are all machines but one, in a random order.
func (c *Cluster) othersThan(m *Machine, rng *rand.Rand) []int {
	var out []int
	for _, i := range rng.Perm(len(c.Machines)) {
		if i != m.index {
			out = append(out, i)
		}
	}
	return out
}
