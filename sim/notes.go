package sim

import (
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
)

// CheckNotes wants no machine to hold on to what it has noted of a pull for a move if
// it has lost something of that partition since: others would give up what it lacks.
func (c *Cluster) CheckNotes() error {
	for _, m := range c.Machines {
		p, ok := m.notesTooMuch()
		if !ok {
			continue
		}
		// It notices a loss, and gives up its note, in two steps.
		time.Sleep(time.Millisecond)
		if again, ok := m.notesTooMuch(); ok && again == p {
			return broken(NotesTrue, "%s has lost something of partition %d, and still has noted that it pulled it at epoch %d",
				m.Name, p, m.node.Store().Pulled(p).Since)
		}
	}
	return nil
}

// notesTooMuch finds a partition that the machine has pulled, by its note, and has lost
// something of.
func (m *Machine) notesTooMuch() (ring.Partition, bool) {
	r := m.cluster.rings.At(m.cluster.rings.Last())
	if !m.Running() || r == nil {
		return 0, false
	}
	s := m.node.Store()
	// A partition that is being dropped, and all of them while the files are opened
	// anew, do not count for reads either, and nothing is lost.
	h := s.Health()
	for p := range ring.Partition(r.Partitions) {
		if note := s.Pulled(p); !note.By.IsZero() && (h.LossyAll || slices.Contains(h.Lossy, p)) {
			return p, true
		}
	}
	return 0, false
}
