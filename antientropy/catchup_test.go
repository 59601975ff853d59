package antientropy

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
)

// A node that was away pulls what it missed, and about that: not the whole.
func TestCatchUpPullsAboutWhatWasMissed(t *testing.T) {
	inWorld(t, worldOptions{partitions: 16}, func(w *world) {
		for i := range 10_000 {
			w.write(i%2, fmt.Sprint("old-", i), "v", 0, 1, 2)
		}
		w.eventually(20*time.Second, "quiet", func() error { return w.claimsEqual() })
		w.halt(2)
		for i := range 10 {
			w.write(i%2, fmt.Sprint("missed-", i), "v", 0, 1)
		}
		w.traffic()
		w.start(2)
		w.eventually(time.Second, "equal", w.equal)
		w.eventually(time.Second, "claims equal", w.claimsEqual)
		if st := w.nodes[2].repair.Status(); st.PulledKeys < 10 || st.PulledKeys > 20 || st.Scans != 0 {
			t.Errorf("pulled %d records of 10 that were missed, with %d scans", st.PulledKeys, st.Scans)
		}
		calls, bytes := w.traffic()
		if calls["ae.pull"] > 20 || bytes["ae.pull"] > 20_000 {
			t.Errorf("%d pulls, %d bytes, for 10 records", calls["ae.pull"], bytes["ae.pull"])
		}
	})
}

// Where the dot log begins later than what was missed, the partition is scanned.
func TestCatchUpScansWhereTheLogForgot(t *testing.T) {
	inWorld(t, worldOptions{partitions: 2}, func(w *world) {
		for i := range 3 {
			w.nodes[i].store.logMax = 8
		}
		w.halt(2)
		for i := range 500 {
			w.write(i%2, fmt.Sprint("k-", i), "v", 0, 1)
		}
		for i := range 100 { // holes: nobody shows the replaced dots
			w.write(0, fmt.Sprint("k-", i), "w", 1)
		}
		w.start(2)
		w.eventually(2*time.Second, "equal", w.equal)
		w.eventually(2*time.Second, "claims equal", w.claimsEqual)
		if st := w.nodes[2].repair.Status(); st.PulledKeys != 500 || st.Scans == 0 {
			t.Errorf("pulled %d records with %d scans, want 500, and scans", st.PulledKeys, st.Scans)
		}
	})
}

// What is minted now is on its way: it is not pulled.
func TestCatchUpLeavesWritesThatAreOnTheirWay(t *testing.T) {
	inWorld(t, worldOptions{}, func(w *world) {
		time.Sleep(10 * time.Second)
		w.traffic()
		for i := range 300 {
			b := w.write(0, fmt.Sprint("k-", i), "v")
			time.Sleep(100 * time.Millisecond)
			w.deliver(b, 1, 2)
		}
		if calls, _ := w.traffic(); calls["ae.pull"] != 0 {
			t.Errorf("%d pulls of what came by itself", calls["ae.pull"])
		}
		w.write(0, "lost", "v")
		w.eventually(15*time.Second, "equal", w.equal)
	})
}

// With nothing to do, repair says next to nothing.
func TestQuietHomesSendAlmostNothing(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1024}, func(w *world) {
		for i := range 2000 {
			w.write(i%3, fmt.Sprint("k-", i), "v", 0, 1, 2)
		}
		time.Sleep(10 * time.Second)
		w.traffic()
		time.Sleep(time.Minute)
		calls, bytes := w.traffic()
		total := 0
		for _, n := range bytes {
			total += n
		}
		if calls["ae.clocks"] < 60 || total > 20_000 {
			t.Errorf("in a minute %v calls and %v bytes", calls, bytes)
		}
	})
}

// A way that is cut in one direction, of which gossip sees nothing.
func TestCatchUpAfterAOneWayCutThatGossipDidNotSee(t *testing.T) {
	inWorld(t, worldOptions{}, func(w *world) {
		time.Sleep(5 * time.Second)
		w.cut(2, 0)
		w.cut(2, 1)
		for i := range 50 {
			w.write(i%2, fmt.Sprint("k-", i), "v", 0, 1)
		}
		time.Sleep(30 * time.Second)
		w.net.Heal()
		w.eventually(10*time.Second, "equal", w.equal)
	})
}

// A pull whose partner dies goes on behind the keys that it had come to.
func TestPullGoesOnAfterThePartnerDiedHalfWay(t *testing.T) {
	inWorld(t, worldOptions{nodes: 2, replicas: 2, partitions: 1, tune: func(c *Config) { c.BytesPerSecond = 4 << 20 }}, func(w *world) {
		w.halt(1)
		for i := range 200 {
			// In the order of their keys, the dots leave gaps: more than a clock keeps.
			w.write(0, fmt.Sprintf("k-%03d", i%2*100+i/2), string(make([]byte, 200<<10)))
		}
		w.start(1)
		w.eventually(time.Minute, "half", func() error {
			if n := w.nodes[1].repair.Status().PulledKeys; n < 100 {
				return fmt.Errorf("%d records", n)
			}
			return nil
		})
		w.halt(0)
		w.nodes[0].store.restart()
		time.Sleep(10 * time.Second)
		if w.equal() == nil {
			w.t.Fatal("nothing was left to pull")
		}
		w.start(0)
		w.eventually(time.Minute, "equal", w.equal)
		w.eventually(time.Minute, "claims equal", w.claimsEqual)
		if n := w.nodes[1].repair.Status().PulledKeys; n > 210 {
			t.Errorf("pulled %d records of 200", n)
		}
	})
}

// A home that lost its clock between telling it and being asked for the records
// answers nothing, and nothing is claimed.
func TestPullFromAHomeOfAnotherEraClaimsNothing(t *testing.T) {
	inWorld(t, worldOptions{nodes: 2, replicas: 2, partitions: 1, stopped: true}, func(w *world) {
		w.write(0, "k", "v")
		w.write(0, "other", "v")
		w.start(0)
		r, pt := w.asker(1, 0)
		told := w.nodes[0].store.ClockOf(0)
		w.nodes[0].store.lose(0, func(key string) bool { return key == "k" })
		g := &gap{theirs: told, suspects: told.Minus(&store.Clock{}), due: true}
		if err := r.pull(context.Background(), pt, w.nodes[0].peer, 0, g, time.Now().Add(time.Minute)); err == nil {
			t.Error("a pull by a clock of another era ends well")
		}
		if c := w.nodes[1].store.ClockOf(0); len(c.Actors) > 0 {
			t.Errorf("claimed %v", c)
		}
	})
}

// asker is the repair of node i, which does not run, and what it knows of node
// with, which runs and has just told its era.
func (w *world) asker(i, with int) (*Repair, *partner) {
	n, o := w.nodes[i], w.nodes[with]
	r := New(Config{Store: n.store, Rings: n, Members: n, Transport: n.host, Circuits: noCircuits{}, Now: time.Now, Self: n.id})
	return r, &partner{id: o.id, mine: n.store.Era(), epoch: w.rec.Epoch, theirEra: o.repair.eraToTell(),
		gaps: map[ring.Partition]*gap{}, missing: map[ring.Partition]uint64{}, tries: map[ring.Partition]int{}}
}

type noCircuits struct{}

func (noCircuits) Open(ring.NodeID) bool                              { return false }
func (noCircuits) Latency(ring.NodeID) (time.Duration, time.Duration) { return 0, 0 }

// A merge that fails keeps the dots of its pull from being claimed, until it works.
func TestFailedMergeClaimsNothing(t *testing.T) {
	inWorld(t, worldOptions{nodes: 2, replicas: 2, partitions: 1}, func(w *world) {
		w.halt(1)
		// The dot of a is replaced: no record will claim it, only the pull's end.
		w.write(0, "a", "v1")
		w.write(0, "a", "v2")
		w.write(0, "z", "v")
		full := errors.New("disk full")
		s := w.nodes[1].store
		s.refuse = func(key []byte) error {
			if string(key) == "z" {
				return full
			}
			return nil
		}
		w.start(1)
		time.Sleep(time.Minute)
		a, b := w.nodes[0].store.ClockOf(0), s.ClockOf(0)
		if missing := a.Minus(&b); missing.Count() != 2 {
			t.Errorf("lacks %v, want the replaced dot and that of z", missing)
		}
		if st := w.nodes[1].repair.Status(); st.Missing != 2 || st.Behind != 1 {
			t.Errorf("status %+v", st)
		}
		s.mu.Lock()
		s.refuse = nil
		s.mu.Unlock()
		w.eventually(time.Minute, "claims equal", w.claimsEqual)
		if st := w.nodes[1].repair.Status(); st.Missing != 0 || st.Behind != 0 {
			t.Errorf("status %+v", st)
		}
	})
}

// Two homes that both lack something of the other pull from each other at once.
func TestTwoHomesPullFromEachOtherAtOnce(t *testing.T) {
	inWorld(t, worldOptions{nodes: 2, replicas: 2, partitions: 4, stopped: true}, func(w *world) {
		for i := range 2000 {
			w.write(i%2, fmt.Sprint("k-", i), string(make([]byte, 2000)))
		}
		w.start(0)
		w.start(1)
		w.eventually(5*time.Second, "equal", w.equal)
		w.eventually(5*time.Second, "claims equal", w.claimsEqual)
	})
}

// A record that is larger than an answer should be goes alone.
func TestLargeRecordsGoAlone(t *testing.T) {
	inWorld(t, worldOptions{nodes: 2, replicas: 2, partitions: 1, stopped: true}, func(w *world) {
		for i := range 5 {
			w.write(0, fmt.Sprint("large-", i), string(make([]byte, 5<<20)))
			w.write(0, fmt.Sprint("small-", i), "v")
		}
		w.start(0)
		w.start(1)
		w.eventually(10*time.Second, "equal", w.equal)
		if calls, _ := w.traffic(); calls["ae.pull"] > 8 {
			t.Errorf("%d pulls", calls["ae.pull"])
		}
	})
}

// A scan that finds little goes on where it stopped, however long it takes.
func TestScanGoesOnPageByPage(t *testing.T) {
	inWorld(t, worldOptions{nodes: 2, replicas: 2, partitions: 1, stopped: true}, func(w *world) {
		for i := range scannedMax + 5000 {
			w.write(0, fmt.Sprint("k-", i), "v", 1)
		}
		for range 2 { // a replaced dot, which the log has forgotten
			w.write(0, "k-77", "w")
		}
		w.write(0, "k-99999", "w") // behind many that are not wanted
		w.nodes[0].store.reopen()
		w.start(0)
		w.start(1)
		w.eventually(10*time.Second, "equal", w.equal)
		w.eventually(10*time.Second, "claims equal", func() error { return w.claimed(1, 0) })
		if calls, bytes := w.traffic(); calls["ae.pull"] < 2 || bytes["ae.pull"] > 10_000 {
			t.Errorf("%d pulls, %d bytes", calls["ae.pull"], bytes["ae.pull"])
		}
	})
}

// claimed says that node i claims all that another one does.
func (w *world) claimed(i, other int) error {
	for p := range ring.Partition(w.rec.Partitions) {
		a, b := w.nodes[i].storage().ClockOf(p), w.nodes[other].storage().ClockOf(p)
		if missing := b.Minus(&a); len(missing) > 0 {
			return fmt.Errorf("partition %d: node %d lacks %d dots of node %d", p, i, missing.Count(), other)
		}
	}
	return nil
}

// Ring records come to the homes at different times.
func TestCatchUpGoesOnAcrossRingChanges(t *testing.T) {
	inWorld(t, worldOptions{}, func(w *world) {
		time.Sleep(5 * time.Second)
		next := w.rec
		for i := range 5 {
			var err error
			if next, err = next.WithStandby(ring.Member{ID: nodeID(50 + i), Name: fmt.Sprint("standby-", i), Weight: 1, State: ring.Active}); err != nil {
				w.t.Fatal(err)
			}
			w.write(i%3, fmt.Sprint("k-", i), "v")
			w.nodes[i%3].adopt(next)
			time.Sleep(time.Duration(i) * time.Second)
			w.nodes[(i+1)%3].adopt(next)
			time.Sleep(3 * time.Second)
			w.nodes[(i+2)%3].adopt(next)
		}
		w.eventually(30*time.Second, "settled", w.settled)
	})
}

// A node that stops does not wait for what it pulls, nor for who pulls from it.
func TestRepairEndsAtOnceAmidPulls(t *testing.T) {
	inWorld(t, worldOptions{stopped: true, tune: func(c *Config) { c.BytesPerSecond = 1 << 20 }}, func(w *world) {
		for i := range 120 {
			w.write(i%3, fmt.Sprint("k-", i), string(make([]byte, 100<<10)))
		}
		for i := range w.nodes {
			w.start(i)
		}
		time.Sleep(2 * time.Second)
		for i, h := range w.nodes {
			if st := h.repair.Status(); i == 0 && st.Missing == 0 {
				t.Error("nothing is being pulled")
			}
			began := time.Now()
			w.halt(i)
			if took := time.Since(began); took > 100*time.Millisecond {
				t.Errorf("node %d took %v to stop", i, took)
			}
		}
	})
}
