package sim

import (
	"encoding/binary"
	"fmt"
	carries "math/bits"
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// convergeMax is how long a cluster that is healed may take until all homes of
// every partition have equal copies, though nobody reads a key.
const convergeMax = time.Minute

// Converge waits until all homes of every partition have equal hash trees, no
// copy is counted out because its home has lost something, and no stand-in keeps
// anything. It says how long that took. Nobody reads or writes meanwhile.
//
// What an operator has asked for may come minutes late, when he has long given it up. The
// ring is settled anew then, and the limit is that from the last change on.
func (c *Cluster) Converge(limit time.Duration) (time.Duration, error) {
	r, err := c.still(nil)
	began := time.Now()
	for since := began; err == nil; {
		if err = c.converged(r); err == nil {
			return time.Since(began), nil
		}
		if time.Since(since) >= limit {
			return 0, broken(Repaired, "%v after the last fault: %v", limit, err)
		}
		time.Sleep(211 * time.Millisecond)
		was := r
		if r, err = c.still(was); err == nil && r.Epoch != was.Epoch {
			since = time.Now()
		}
	}
	return 0, err
}

// still gives the newest ring record. If it is not was, or slots are being moved, it
// waits until nothing is left to be done about the ring.
func (c *Cluster) still(was *ring.Record) (*ring.Record, error) {
	r, err := c.Ring()
	if err != nil || len(r.Moves) == 0 && (was == nil || r.Epoch == was.Epoch) {
		return r, err
	}
	if err := c.CheckSettled(settledMax); err != nil {
		return nil, err
	}
	return c.Ring()
}

// converged says what is not as Converge wants it.
func (c *Cluster) converged(r *ring.Record) error {
	for p := range ring.Partition(r.Partitions) {
		var first *store.Tree
		var with *Machine
		for _, id := range r.Homes(p) {
			m := c.machineOf(id)
			if m == nil || !m.Running() {
				return fmt.Errorf("home %s of partition %d does not run", id.Short(), p)
			}
			s := m.node.Store()
			if !s.CountsForRead(p) {
				return fmt.Errorf("%s has lost something of partition %d, and is not filled again", m.Name, p)
			}
			tree, _, ok := s.TreeOf(p)
			switch {
			case !ok:
				return fmt.Errorf("%s does not trust its tree of partition %d", m.Name, p)
			case first == nil:
				first, with = tree, m
			case first.Leaves != tree.Leaves:
				return fmt.Errorf("%s and %s differ in partition %d: %s", with.Name, m.Name, p, c.difference(p, with, m))
			}
		}
	}
	for _, m := range c.Machines {
		if m.retired {
			continue
		}
		homes, err := m.node.Store().StandInHomes()
		if err != nil {
			return fmt.Errorf("stand-ins of %s: %w", m.Name, err)
		}
		if len(homes) > 0 {
			return fmt.Errorf("%s still keeps records for %d homes", m.Name, len(homes))
		}
	}
	return nil
}

// machineOf is the machine that a member runs on now.
func (c *Cluster) machineOf(id ring.NodeID) *Machine {
	i := slices.IndexFunc(c.Machines, func(m *Machine) bool { return m.ID() == id })
	if i < 0 {
		return nil
	}
	return c.Machines[i]
}

// difference tells the first key of which two machines have different copies.
func (c *Cluster) difference(p ring.Partition, a, b *Machine) string {
	x, errX := copies(a, p)
	y, errY := copies(b, p)
	if errX != nil || errY != nil {
		return fmt.Sprintf("not readable: %v %v", errX, errY)
	}
	for _, key := range sortedKeys(x, y) {
		if x[key] != y[key] {
			return fmt.Sprintf("key %q, of digests %x and %x", key, x[key], y[key])
		}
	}
	return "no key differs by now"
}

// copies are the digests of all records of a partition that lie on a machine's
// disk.
func copies(m *Machine, p ring.Partition) (map[string]version.Digest, error) {
	out := map[string]version.Digest{}
	err := m.node.Store().Scan(p, nil, 0, func(key, record []byte) bool {
		out[string(key)] = version.LeafOf(record)
		return true
	})
	return out, err
}

func sortedKeys(maps ...map[string]version.Digest) []string {
	var out []string
	for _, m := range maps {
		for key := range m {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// CheckTrees wants every tree to be the one that a scan of the records gives.
// Nothing is written meanwhile. Where the ring is changed meanwhile it looks again once
// that is over: who gives a partition up has no tree of it.
func (c *Cluster) CheckTrees() error {
	r, err := c.still(nil)
	for err == nil {
		found := c.checkTrees(r)
		if found == nil {
			return nil
		}
		was := r
		if r, err = c.still(was); err == nil && r.Epoch == was.Epoch {
			return found
		}
	}
	return err
}

// checkTrees is CheckTrees by a ring record.
func (c *Cluster) checkTrees(r *ring.Record) error {
	for _, m := range c.Machines {
		if m.retired {
			continue
		}
		for p := range ring.Partition(r.Partitions) {
			if r.HomeIndex(p, m.ID()) < 0 {
				continue
			}
			tree, _, ok := m.node.Store().TreeOf(p)
			if !ok {
				return broken(TreesTrue, "%s does not trust its tree of partition %d", m.Name, p)
			}
			found, err := copies(m, p)
			if err != nil {
				return fmt.Errorf("%s: scan of partition %d: %w", m.Name, p, err)
			}
			var sums [store.TreeLeaves]store.Sum
			for key, leaf := range found {
				addTo(&sums[store.TreeLeaf(p, []byte(key))], leaf)
			}
			for leaf := range sums {
				if sums[leaf] != tree.Leaves[leaf] {
					return broken(TreesTrue, "%s: leaf %d of partition %d is %v, and the records add up to %v",
						m.Name, leaf, p, tree.Leaves[leaf], sums[leaf])
				}
			}
		}
	}
	return nil
}

// addTo adds a digest to a sum modulo 2^128.
func addTo(s *store.Sum, d version.Digest) {
	var carry uint64
	s.Low, carry = carries.Add64(s.Low, binary.BigEndian.Uint64(d[8:]), 0)
	s.High, _ = carries.Add64(s.High, binary.BigEndian.Uint64(d[:8]), carry)
}
