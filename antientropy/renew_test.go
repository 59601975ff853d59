package antientropy

import (
	"fmt"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
)

// clocked is a world whose homes have heavy clocks: of each partition several actors.
func (w *world) clocked() (first int) {
	w.t.Helper()
	for i := range 400 {
		w.write(i%3, fmt.Sprint("k-", i), "v", 0, 1, 2)
		if i%100 == 99 {
			for _, h := range w.nodes {
				h.store.restart()
			}
		}
	}
	time.Sleep(20 * time.Second)
	w.traffic()
	for i := range w.nodes { // all is asked for once
		w.halt(i)
		w.start(i)
	}
	time.Sleep(20 * time.Second)
	_, bytes := w.traffic()
	return bytes["ae.clocks"]
}

// idle is how many bytes clocks take while nothing happens.
func (w *world) idle(d time.Duration) int {
	w.traffic()
	time.Sleep(d)
	_, bytes := w.traffic()
	return bytes["ae.clocks"]
}

// A newer ring record in which two homes share what they shared before is no reason to
// tell all clocks again; nor is what was missing before known any less.
func TestNewRecordsTellNoClocksAgain(t *testing.T) {
	inWorld(t, worldOptions{partitions: 32}, func(w *world) {
		all := w.clocked()
		quiet := w.idle(20 * time.Second)
		rec := w.rec
		for n := range 10 {
			next, err := rec.WithStandby(ring.Member{ID: nodeID(20 + n), Name: fmt.Sprint("s", n)})
			if err != nil {
				w.t.Fatal(err)
			}
			rec = next
			for _, h := range w.nodes {
				h.adopt(rec)
			}
			time.Sleep(2 * time.Second)
		}
		_, bytes := w.traffic()
		if told := bytes["ae.clocks"] - quiet; told > all/2 {
			w.t.Errorf("ten records had %d bytes of clocks told, where %d are all", told, all)
		}
		for i, h := range w.nodes {
			for p := range ring.Partition(rec.Partitions) {
				if !h.repair.Counts(p) {
					w.t.Fatalf("partition %d does not count at node %d", p, i)
				}
			}
		}
	})
}

// A loss in one partition has the clocks of that one told again, and it is whole again.
func TestLossInOnePartitionTellsItsClocksAgain(t *testing.T) {
	inWorld(t, worldOptions{partitions: 32}, func(w *world) {
		all := w.clocked()
		quiet := w.idle(20 * time.Second)
		p := w.partitionOf("k-0")
		for range 10 {
			w.nodes[0].store.lose(p, func(string) bool { return true })
			w.eventually(time.Minute, "repaired", func() error {
				if !w.nodes[0].store.CountsForRead(p) {
					return fmt.Errorf("partition %d is lossy", p)
				}
				return nil
			})
			time.Sleep(time.Second)
		}
		_, bytes := w.traffic()
		// The one who has lost something begins a new era: that one is asked by both
		// others for all that it has.
		if told := bytes["ae.clocks"] - quiet; told > 2*all {
			w.t.Errorf("ten losses had %d bytes of clocks told, where %d are all", told, all)
		}
		w.eventually(time.Minute, "equal", w.equal)
	})
}
