package antientropy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// removeUnderneath takes a record and what a clean close has left of the hash trees
// from a closed store's disk, so that nothing shows it.
func removeUnderneath(t *testing.T, platter *disk.Disk, p ring.Partition, key string) {
	t.Helper()
	db, err := leveldb.Open(platter.Open(), nil)
	if err != nil {
		t.Fatal(err)
	}
	data := binary.BigEndian.AppendUint16([]byte("d/"), uint16(p))
	sync := &opt.WriteOptions{Sync: true}
	err = errors.Join(db.Delete(append(data, key...), sync), db.Delete([]byte("m/.trees"), sync), db.CompactRange(util.Range{}), db.Close())
	if err != nil {
		t.Fatal(err)
	}
}

// silentReal is silent for a real store, which is opened anew for that.
func (h *history) silentReal(n *home, key string) bool {
	w, p := h.w, h.w.partitionOf(key)
	if !n.on || !n.disk.CountsForRead(p) {
		return false
	}
	b, err := n.disk.Get(p, []byte(key))
	if err != nil {
		w.t.Fatal(err)
	}
	if b == nil {
		return false
	}
	r, err := version.Parse(b)
	if err != nil {
		w.t.Fatal(err)
	}
	_, unknown, err := n.disk.KeysOf(p, setOfDots(dotsOf(&r)))
	if err != nil {
		w.t.Fatal(err)
	}
	if len(aliveIn(&r, 0)) == 0 || len(unknown) > 0 || !h.last(&r) {
		return false
	}
	w.halt(n.i)
	removeUnderneath(w.t, n.disk.platter, p, key)
	w.start(n.i)
	h.losses++
	h.rotten[key] = true
	return true
}

// Real stores that lose records under their feet, and whose clocks claim them.
func TestSilentLossesOfRealStoresDeleteNothingInAnyHistory(t *testing.T) {
	silentLosses(t, 5, true)
}

func TestSilentLossOfARealStoreDeletesNothingElsewhere(t *testing.T) {
	inRealWorld(t, worldOptions{seed: 6, partitions: 2, tune: func(c *Config) { c.AuditEvery = time.Minute }}, func(w *realWorld) {
		w.startAll()
		for i := range 50 {
			w.mint(i%3, store.Put{Key: fmt.Appendf(nil, "k-%d", i), Value: []byte("v")}, (i+1)%3, (i+2)%3)
		}
		time.Sleep(10 * time.Second)
		w.stopNode(1)
		removeUnderneath(w.t, w.disks[1], w.partitionOf("k-7"), "k-7")
		w.startNode(1)
		p := w.partitionOf("k-7")
		if n := len(w.content(1)); n != 49 || !w.stores[1].CountsForRead(p) {
			t.Fatalf("%d of 50 records are there, and the loss was noticed: %v", n, !w.stores[1].CountsForRead(p))
		}
		// Only a declared loss lets it be filled: what its clock claims it drops.
		w.eventually(5*time.Minute, "the loss is noticed, and filled", func() error {
			for _, i := range []int{0, 2} {
				if n := len(w.content(i)); n != 50 {
					t.Fatalf("node %d holds %d of 50 records, and has lost none", i, n)
				}
			}
			if !w.stores[1].CountsForRead(p) {
				return fmt.Errorf("node 1: %+v", w.stores[1].Health())
			}
			return w.same()
		})
	})
}
