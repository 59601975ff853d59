package antientropy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

func everything(string) bool { return true }

// What a home has lost comes back from the others, and then its copies count again.
func TestLostPartitionIsFilledAndRepaired(t *testing.T) {
	inWorld(t, worldOptions{partitions: 4}, func(w *world) {
		for i := range 400 {
			w.write(i%2, fmt.Sprint("k-", i), "v", 0, 1, 2)
		}
		time.Sleep(10 * time.Second)
		s := w.nodes[2].store
		w.traffic()
		s.lose(1, func(key string) bool { return strings.HasSuffix(key, "1") })
		if s.CountsForRead(1) {
			w.t.Fatal("nothing is lost")
		}
		w.eventually(10*time.Second, "repaired", func() error {
			if !s.CountsForRead(1) {
				return fmt.Errorf("still lossy")
			}
			return w.equal() // from the first moment that it counts
		})
		w.eventually(10*time.Second, "claims equal", w.claimsEqual)
		st := w.nodes[2].repair.Status()
		if _, bytes := w.traffic(); st.Lossy != 0 || st.PulledKeys > 20 || bytes["ae.pull"] > 1000 {
			t.Errorf("what is still there was sent again: status %+v, bytes %v", st, bytes)
		}
	})
}

// One home of three may not know the last write that two have acknowledged: a home
// that has lost something waits for both others.
func TestLossyHomeWaitsForEnoughOthers(t *testing.T) {
	for _, c := range []struct{ nodes, away, enough int }{{3, 1, 0}, {5, 2, 0}, {5, 1, 1}, {2, 1, 0}, {4, 2, 0}, {4, 1, 1}} {
		t.Run(fmt.Sprintf("%d of %d away", c.away, c.nodes), func(t *testing.T) {
			inWorld(t, worldOptions{nodes: c.nodes, replicas: c.nodes, partitions: 1}, func(w *world) {
				for i := range 20 {
					w.write(0, fmt.Sprint("k-", i), "v", 1)
				}
				time.Sleep(10 * time.Second)
				for i := range c.away {
					w.halt(c.nodes - 1 - i)
				}
				s := w.nodes[0].store
				s.lose(0, everything)
				time.Sleep(2 * time.Minute)
				if counts := s.CountsForRead(0); counts != (c.enough == 1) {
					t.Errorf("counts for reads: %v", counts)
				}
				for i := range c.away {
					w.start(c.nodes - 1 - i)
				}
				w.eventually(time.Minute, "repaired", func() error {
					if !s.CountsForRead(0) {
						return fmt.Errorf("still lossy")
					}
					return w.equal()
				})
			})
		})
	}
}

// A second loss during the repair begins it anew.
func TestSecondLossDuringTheRepairBeginsAnew(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1}, func(w *world) {
		for i := range 50 {
			w.write(0, fmt.Sprint("k-", i), "v", 1, 2)
		}
		time.Sleep(10 * time.Second)
		s := w.nodes[2].store
		w.halt(1)
		s.lose(0, everything)
		time.Sleep(20 * time.Second) // with node 0 it is equal now
		if len(s.dump()) != 50 || s.CountsForRead(0) {
			w.t.Fatalf("%d keys, counts for reads: %v", len(s.dump()), s.CountsForRead(0))
		}
		w.halt(0)
		s.lose(0, everything)
		w.nodes[1].store.lose(0, everything) // it has nothing to give
		w.start(1)
		time.Sleep(time.Minute)
		if s.CountsForRead(0) {
			t.Error("what was compared before the second loss counts after it")
		}
		w.start(0)
		w.eventually(time.Minute, "repaired", func() error {
			if !s.CountsForRead(0) {
				return fmt.Errorf("still lossy")
			}
			return w.equal()
		})
	})
}

// A partition that this node does not keep has nothing to lose.
func TestLossOfAPartitionThatIsNotKeptIsNone(t *testing.T) {
	inWorld(t, worldOptions{nodes: 4, replicas: 2, partitions: 8}, func(w *world) {
		s := w.nodes[0].store
		for p := range w.rec.Since {
			s.lose(pOf(p), everything)
		}
		s.lose(pOf(9000), everything) // no partition of this cluster
		w.eventually(10*time.Second, "repaired", func() error {
			if h := s.Health(); len(h.Lossy) > 0 {
				return fmt.Errorf("lossy: %v", h.Lossy)
			}
			return nil
		})
	})
}

// A home that has lost something says nothing of what it lacks: nobody drops a
// sibling for it.
func TestLossyHomeGivesNoVerdict(t *testing.T) {
	inWorld(t, worldOptions{nodes: 2, replicas: 2, partitions: 1}, func(w *world) {
		w.write(0, "kept", "v", 1)
		w.write(0, "other", "v", 1)
		time.Sleep(10 * time.Second)
		w.halt(1)
		// The clock of node 0 is rebuilt from what is left; the loss took a key.
		w.nodes[0].store.lose(0, func(key string) bool { return key == "kept" })
		w.write(0, "news", "v")
		w.start(1)
		w.eventually(time.Minute, "equal", func() error {
			if n := len(w.nodes[1].store.dump()); n != 3 {
				return fmt.Errorf("%d keys", n)
			}
			return w.equal()
		})
	})
}

// What a home said before it lost its clock is not true any more: what it claimed
// then is not claimed here.
func TestClocksOfAnEraThatEndedAreForgotten(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1}, func(w *world) {
		time.Sleep(10 * time.Second)
		b := w.write(2, "k", "v", 1) // 0 lacks it, and hears of it
		w.cut(0, 1)
		heard := w.answered(2, 0, "ae.clocks")
		w.eventually(5*time.Second, "node 0 has heard, and waits whether it comes by itself", func() error {
			if w.answered(2, 0, "ae.clocks") == heard {
				return errors.New("not yet")
			}
			return nil
		})
		if n := w.answered(2, 0, "ae.pull"); n > 0 {
			t.Errorf("pulled at the first look")
		}
		w.nodes[2].store.lose(0, everything)
		w.cut(2, 1)
		w.cut(1, 2)
		w.cut(1, 0)
		time.Sleep(time.Minute)
		r, err := version.Parse(b)
		if err != nil {
			w.t.Fatal(err)
		}
		if c := w.nodes[0].store.ClockOf(0); c.Has(r.Siblings[0].Dot) {
			t.Error("node 0 claims what it never had")
		}
		w.net.Heal()
		w.eventually(time.Minute, "equal", func() error {
			if n := len(w.nodes[0].store.dump()); n != 1 {
				return fmt.Errorf("%d keys", n)
			}
			return w.equal()
		})
	})
}

// losing is a store that loses a partition when something was merged into it, once.
type losing struct {
	*memStore
	lost atomic.Bool
}

// MergeAll implements Store.
func (l *losing) MergeAll(merges []*store.Merge) {
	for _, m := range merges {
		err := l.merge(m)
		if !l.lost.Swap(true) {
			l.lose(m.Partition, everything)
		}
		m.Sink.Committed(err)
	}
}

// What is lost while it is pulled is not claimed, and comes back.
func TestLossDuringAPullClaimsNothing(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1, stopped: true}, func(w *world) {
		for range 3 { // of a replaced dot no record tells: only the pull's end claims it
			w.write(0, "k", "v", 1)
		}
		s := &losing{memStore: w.nodes[2].store}
		w.nodes[2].tune = func(c *Config) { c.Store = s }
		for i := range w.nodes {
			w.start(i)
		}
		w.eventually(time.Minute, "settled", func() error {
			if !s.lost.Load() {
				return errors.New("nothing was pulled")
			}
			return w.settled()
		})
		if n := len(s.dump()); n != 1 {
			t.Errorf("%d keys", n)
		}
	})
}

// What was filled is not claimed if the other home has lost something meanwhile:
// its claims were those of a life before.
func TestFillingFromAHomeThatLosesSomethingClaimsNothing(t *testing.T) {
	inWorld(t, worldOptions{nodes: 2, replicas: 2, partitions: 1, stopped: true}, func(w *world) {
		w.write(0, "k", "v")
		w.start(0)
		r, pt := w.asker(1, 0)
		told := w.nodes[0].store.ClockOf(0)
		pt.gaps[0] = &gap{theirs: told}
		w.nodes[0].store.lose(0, everything)
		w.nodes[1].store.lose(0, everything)
		pt.mine = w.nodes[1].store.Era()
		if _, err := r.refill(context.Background(), pt, w.nodes[0].peer, 0); err == nil {
			t.Error("filled from a life before")
		}
		if c := w.nodes[1].store.ClockOf(0); len(c.Actors) > 0 {
			t.Errorf("claimed %v", c)
		}
	})
}
