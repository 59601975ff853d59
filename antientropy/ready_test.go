package antientropy

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
)

func pOf(p int) ring.Partition { return ring.Partition(p) }

// counting is how many partitions count at a node.
func (w *world) counting(i int) (n int) {
	for p := range w.rec.Partitions {
		if w.nodes[i].repair.Counts(pOf(p)) {
			n++
		}
	}
	return n
}

// After a start nothing counts until it was compared with the homes that can be
// reached, and holds what they have.
func TestNothingCountsBeforeItWasCompared(t *testing.T) {
	inWorld(t, worldOptions{partitions: 4, tune: func(c *Config) { c.BytesPerSecond = 8 << 20 }}, func(w *world) {
		w.halt(2)
		for i := range 100 {
			w.write(0, fmt.Sprint("k-", i), string(make([]byte, 200<<10)), 1)
		}
		w.start(2)
		if n := w.counting(2); n != 0 {
			t.Errorf("%d partitions count at once", n)
		}
		for range 600 { // as long as something is missing in a partition, it does not count
			time.Sleep(10 * time.Millisecond)
			for p := range w.rec.Partitions {
				own := w.nodes[2].store.ClockOf(pOf(p))
				theirs := w.nodes[0].store.ClockOf(pOf(p))
				if missing := theirs.Minus(&own); w.nodes[2].repair.Counts(pOf(p)) && len(missing) > 0 {
					w.t.Fatalf("partition %d counts and lacks %v", p, missing)
				}
			}
		}
		w.eventually(10*time.Second, "all count", func() error {
			if n := w.counting(2); n != 4 {
				return fmt.Errorf("%d partitions", n)
			}
			return w.equal()
		})
	})
}

// A home that cannot be reached is not waited for once members had time to turn up.
func TestHomesThatCannotBeReachedAreNotWaitedFor(t *testing.T) {
	inWorld(t, worldOptions{stopped: true}, func(w *world) {
		w.nodes[0].hide(nodeID(1), true)
		w.nodes[0].hide(nodeID(2), true)
		w.start(0)
		time.Sleep(settleMax - 500*time.Millisecond)
		if n := w.counting(0); n != 0 {
			t.Errorf("%d partitions count before anybody could turn up", n)
		}
		w.eventually(2*time.Second, "all count", func() error {
			if n := w.counting(0); n != w.rec.Partitions {
				return fmt.Errorf("%d partitions", n)
			}
			return nil
		})
	})
}

// A home whose address is known, and that is gone, delays the start for seconds.
func TestDeadHomesDelayTheStartForSeconds(t *testing.T) {
	inWorld(t, worldOptions{stopped: true}, func(w *world) {
		w.start(0)
		w.start(1)
		w.eventually(15*time.Second, "all count", func() error {
			if n := w.counting(0) + w.counting(1); n != 2*w.rec.Partitions {
				return fmt.Errorf("%d partitions", n)
			}
			return nil
		})
	})
}

// A home that answers with errors only does not keep others from counting.
func TestHomesThatFailAreNotWaitedForEver(t *testing.T) {
	inWorld(t, worldOptions{stopped: true}, func(w *world) {
		w.write(1, "k", "v")
		w.nodes[1].store.dead = errors.New("no disk")
		for i := range 3 {
			w.start(i)
		}
		w.eventually(time.Minute, "all count", func() error {
			if n := w.counting(0); n != w.rec.Partitions {
				return fmt.Errorf("%d partitions", n)
			}
			return nil
		})
	})
}

// The only home has nobody to ask.
func TestTheOnlyHomeCountsAtOnce(t *testing.T) {
	inWorld(t, worldOptions{nodes: 1, replicas: 1}, func(w *world) {
		w.eventually(time.Second, "all count", func() error {
			if n := w.counting(0); n != w.rec.Partitions {
				return fmt.Errorf("%d partitions", n)
			}
			return nil
		})
	})
}

// Without a ring record, nothing counts, and nothing is asked.
func TestNothingCountsWithoutARing(t *testing.T) {
	inWorld(t, worldOptions{stopped: true}, func(w *world) {
		rec := w.rec
		for _, h := range w.nodes {
			h.held = nil
		}
		for i := range 3 {
			w.start(i)
		}
		time.Sleep(time.Minute)
		if n := w.counting(0); n != 0 {
			t.Errorf("%d partitions", n)
		}
		if calls, _ := w.traffic(); len(calls) > 0 {
			t.Errorf("asked: %v", calls)
		}
		w.write(1, "k", "v")
		// Who hears of the ring first asks homes that have not heard of it.
		w.nodes[0].adopt(rec)
		time.Sleep(time.Second)
		w.nodes[1].adopt(rec)
		w.nodes[2].adopt(rec)
		w.eventually(30*time.Second, "all count", func() error {
			if n := w.counting(0); n != rec.Partitions {
				return fmt.Errorf("%d partitions", n)
			}
			return w.equal()
		})
	})
}

// A home whose address becomes known is asked at once.
func TestHomesThatTurnUpAreAskedAtOnce(t *testing.T) {
	inWorld(t, worldOptions{nodes: 2, replicas: 2, stopped: true}, func(w *world) {
		w.nodes[0].hide(nodeID(1), true)
		w.start(0)
		w.start(1)
		time.Sleep(time.Second)
		w.write(1, "k", "v")
		w.nodes[0].hide(nodeID(1), false)
		w.nodes[0].adopt(w.rec) // the view has changed
		w.eventually(50*time.Millisecond, "equal", w.equal)
	})
}
