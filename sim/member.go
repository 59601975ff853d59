package sim

import (
	"slices"

	"github.com/kithdb/kith/ring"
)

// What operators do about the node of a machine.

// removedIn says that what an operator asked for is decided: the member is given up.
func (m *Machine) removedIn(r *ring.Record, id ring.NodeID) bool {
	if !slices.Contains(m.removed, id) {
		return false
	}
	member := r.Member(id)
	return member == nil || member.State == ring.Lost
}

// makesUp says that somebody who was removed, and had this machine's disk, still has
// slots: while what was lost with that disk is not made up for, the machine must not
// lose anything again.
func (m *Machine) makesUp() bool {
	r := m.cluster.rings.At(m.cluster.rings.Last())
	return slices.ContainsFunc(m.removed, func(id ring.NodeID) bool { return r.HomeCount(id) > 0 && m.removedIn(r, id) })
}

// mayLose says that the machine may lose its disk now, and that there is something on
// it.
func (m *Machine) mayLose() bool {
	r := m.cluster.rings.At(m.cluster.rings.Last())
	return m.Running() && r.HomeCount(m.ID()) > 0 && !m.spent()
}

// spent says that the machine's disk must not be hurt now.
func (m *Machine) spent() bool { return m.makesUp() || m.decides() }

// decides says that without this machine too few are left of those who vote on the
// ring: what is lost with it then, nobody promises to bring back.
func (m *Machine) decides() bool {
	r := m.cluster.rings.At(m.cluster.rings.Last())
	left := 0
	for _, id := range r.Keepers {
		if id != m.ID() && !slices.Contains(m.gone, id) && r.Member(id).State != ring.Lost {
			left++
		}
	}
	return r.IsKeeper(m.ID()) && 2*left <= len(r.Keepers)
}

// Retired says that the machine has no node: it never had one, or the one that it had
// is no member any more.
func (m *Machine) Retired() bool { return m.retired }

// Abandon leaves a machine that is down without a node: it was removed meanwhile.
func (m *Machine) Abandon() { m.retire() }

// Arrive starts the node of a retired machine, with an empty disk. It becomes a member,
// on standby or with its share.
func (m *Machine) Arrive(standby bool) error {
	m.provide(standby)
	return m.restart()
}

// Spare adds a machine without a node.
func (c *Cluster) Spare() *Machine {
	m := newMachine(c, len(c.Machines))
	m.retire()
	c.Machines = append(c.Machines, m)
	return m
}

// retire leaves the machine without a node: the one that it had is no member any more.
func (m *Machine) retire() { m.retired = true }

// provide builds an empty disk into a machine without a node. The next Start is that
// of a newcomer.
func (m *Machine) provide(standby bool) {
	if m.starts > 0 {
		m.install()
	}
	m.retired, m.newcomer, m.standby = false, true, standby
	m.id, m.lost = ring.NodeID{}, ring.NodeID{}
}
