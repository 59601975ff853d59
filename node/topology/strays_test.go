package topology

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
)

// bringBack has partitions hold records, and tells of that as the store does.
func (d *disk) bringBack(partitions ...ring.Partition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range partitions {
		d.strays[p] = true
	}
	close(d.reopened)
	d.reopened = make(chan struct{})
}

// holding are the partitions that have records, sorted.
func (d *disk) holding() []ring.Partition {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.strays))
}

func (d *disk) ringRecord() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.meta[metaRing])
}

func (d *disk) setRingRecord(b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.meta[metaRing] = b
}

func allOf(r *ring.Record) (all []ring.Partition) {
	for p := range ring.Partition(r.Partitions) {
		all = append(all, p)
	}
	return all
}

// keptBy are the partitions that a member keeps.
func keptBy(r *ring.Record, id ring.NodeID) []ring.Partition {
	return slices.DeleteFunc(allOf(r), func(p ring.Partition) bool { return !r.Holds(p, id) })
}

// Records that come back to a partition which is not kept here are dropped once more,
// while the node runs and when it starts; what it keeps is left alone.
func TestWhatRotBringsBackIsDroppedOnceMore(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(5, 3)
		r := w.agree(2, nodes...)
		n := nodes[1]
		kept := keptBy(r, n.id)
		if len(kept) == 0 || len(kept) == r.Partitions {
			t.Fatalf("%d of %d partitions are kept", len(kept), r.Partitions)
		}
		swept := func() bool { return slices.Equal(n.disk.holding(), kept) }
		n.disk.bringBack(allOf(r)...)
		w.until("what came back is dropped", swept)
		n.kill()
		n.disk.bringBack(allOf(r)...)
		n.start()
		w.until("what was there at the start is dropped", swept)
		for _, other := range nodes { // they would ask each other for hours
			if other != n {
				other.kill()
			}
		}
		n.disk.mu.Lock() // goleveldb may leave damage out by itself
		for _, p := range allOf(r) {
			n.disk.strays[p] = true
		}
		n.disk.mu.Unlock()
		time.Sleep(sweepEvery + time.Minute)
		if !swept() {
			t.Fatalf("what came back unseen is not dropped, but all of %v there", n.disk.holding())
		}
	})
}

// A node whose disk has lost metadata may hold an old ring record. It drops nothing by
// that before the keepers say that it is the newest.
func TestNobodySweepsByARecordThatMayBeOld(t *testing.T) {
	for seed := range uint64(runs(2)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(4, 3)
			n := w.bystander(nodes)
			nodes = append(nodes, n)
			old := n.disk.ringRecord()
			ctx, cancel := within(10 * time.Second)
			defer cancel()
			if _, err := nodes[0].Propose(ctx, func(r *ring.Record) (*ring.Record, error) { return r.WithJoin(ring.Member{ID: n.id}) }); err != nil {
				t.Fatal(err)
			}
			last := w.moved(nodes, false)
			kept := keptBy(last, n.id)
			if len(kept) == 0 {
				t.Fatal("the newcomer has got nothing")
			}
			n.kill()
			n.disk.setRingRecord(old)
			n.cfg.Lost = func() error { return errors.New("the disk has lost metadata") }
			n.disk.bringBack(allOf(last)...)
			if seed%2 == 0 {
				w.cut(n)
			} else {
				w.storm(true)
			}
			n.start()
			time.Sleep(time.Minute)
			if held := n.Current(); seed%2 == 0 && (held.Holds(kept[0], n.id) || len(n.disk.holding()) != last.Partitions) {
				t.Fatalf("by the record of epoch %d it has dropped all but %v", held.Epoch, n.disk.holding())
			}
			w.heal()
			w.storm(false)
			w.agree(last.Epoch, nodes...)
			w.until("what it does not keep is dropped", func() bool { return slices.Equal(n.disk.holding(), kept) })
		})
	}
}

// Whatever a partition has of before goes with the record that begins to move it here.
func TestAMoveBeginsWithNothingOfBefore(t *testing.T) {
	for _, failing := range []error{nil, errors.New("the disk cannot be read")} {
		inWorld(t, 3, func(t *testing.T, w *world) {
			nodes := w.founded(4, 3)
			n := w.node(Config{})
			n.start()
			nodes = append(nodes, n)
			r := w.agree(3, nodes...)
			// Quietly, so that nobody looks before the moves begin.
			time.Sleep(time.Second)
			n.disk.mu.Lock()
			n.disk.unreadable = failing
			for _, p := range allOf(r) {
				n.disk.strays[p] = true
			}
			n.disk.mu.Unlock()
			ctx, cancel := within(10 * time.Second)
			defer cancel()
			if _, err := nodes[0].Propose(ctx, func(r *ring.Record) (*ring.Record, error) { return r.WithJoin(ring.Member{ID: n.id}) }); err != nil {
				t.Fatal(err)
			}
			last := w.moved(nodes, false)
			kept := keptBy(last, n.id)
			dropped := n.disk.forgotten()
			slices.Sort(dropped)
			if len(kept) == 0 || !slices.Equal(dropped, kept) {
				t.Fatalf("%v were moved here, and %v dropped", kept, dropped)
			}
		})
	}
}

// A ring record that the disk has lost is put back from memory. A newer one, of an adoption
// that nobody knows the end of, stays.
func TestARingRecordThatTheDiskHasLostIsPutBack(t *testing.T) {
	inWorld(t, 4, func(t *testing.T, w *world) {
		nodes := w.founded(3, 2)
		first := nodes[2].disk.ringRecord()
		ctx, cancel := within(10 * time.Second)
		defer cancel()
		if _, err := nodes[0].Propose(ctx, func(r *ring.Record) (*ring.Record, error) { return r.WithWeight(nodes[1].id, 2) }); err != nil {
			t.Fatal(err)
		}
		w.agree(3, nodes...)
		n := nodes[2]
		newest := n.disk.ringRecord()
		for _, lost := range [][]byte{nil, first, []byte("not a record")} {
			n.disk.setRingRecord(lost)
			n.disk.bringBack()
			w.until("it is put back", func() bool { return slices.Equal(n.disk.ringRecord(), newest) })
		}
		r := n.Current()
		next, err := r.WithWeight(nodes[0].id, 3)
		if err != nil {
			t.Fatal(err)
		}
		n.disk.setRingRecord(next.Encode())
		n.disk.bringBack(allOf(r)...)
		time.Sleep(time.Minute)
		if !slices.Equal(n.disk.ringRecord(), next.Encode()) || len(n.disk.holding()) != r.Partitions {
			t.Fatalf("a newer record was replaced, or %v is all that is left", n.disk.holding())
		}
	})
}
