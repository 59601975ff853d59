package topology

import (
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
)

// Every joiner proposes for itself, so that thirty at once disturb each other as
// much as they can.
func TestManyJoinersAtOnceAllGetIn(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(5, 3)
		start := time.Now()
		for range 30 {
			n := w.node(Config{})
			n.start()
			nodes = append(nodes, n)
		}
		r := w.agree(32, nodes...)
		for _, n := range nodes[5:] {
			if m := r.Member(n.id); m == nil || m.State != ring.Standby {
				t.Fatalf("%+v", m)
			}
		}
		t.Logf("30 joiners took %v", time.Since(start))
	})
}
