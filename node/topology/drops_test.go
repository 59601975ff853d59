package topology

import (
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
)

// Whoever does not keep a partition any more drops it with the very record that says
// so, also if it learns that one only later, with others in between; nobody drops what
// it is a home of.
func TestWhatIsMovedAwayIsDroppedWithTheRecord(t *testing.T) {
	for seed := range uint64(runs(2)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(5, 3)
			first := w.agree(2, nodes...)
			leaver := nodes[1]
			ctx, cancel := within(10 * time.Second)
			defer cancel()
			if _, err := nodes[0].Propose(ctx, func(r *ring.Record) (*ring.Record, error) { return r.WithLeave(leaver.id) }); err != nil {
				t.Fatal(err)
			}
			last := w.moved(nodes, seed%2 == 1)
			for _, n := range nodes {
				for p := range ring.Partition(last.Partitions) {
					dropped := slices.Contains(n.disk.forgotten(), p)
					switch {
					case last.Holds(p, n.id) && dropped:
						t.Errorf("seed %d: %s dropped partition %d and is a home of it", seed, n.addr, p)
					case first.Holds(p, n.id) && !last.Holds(p, n.id) && !dropped:
						t.Errorf("seed %d: %s keeps partition %d that was moved away", seed, n.addr, p)
					}
				}
			}
		})
	}
}

// forgotten are the partitions that were dropped.
func (d *disk) forgotten() []ring.Partition {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.dropped)
}
