package kv_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim/network"
)

// slotsOf are the indexes of a key's homes, by slot.
func (w *world) slotsOf(key string) []int {
	var out []int
	for _, id := range w.record.Homes(w.record.PartitionOf([]byte(key))) {
		for i, h := range w.nodes {
			if h.id == id {
				out = append(out, i)
			}
		}
	}
	return out
}

// minter is the node that minted the value of a key.
func (w *world) minter(key string) int {
	w.t.Helper()
	time.Sleep(5 * time.Second) // all homes have it
	slots := w.slotsOf(key)
	d := w.own(slots[0], key).Siblings[0].Dot
	for _, i := range slots {
		clock := w.nodes[i].store.ClockOf(w.record.PartitionOf([]byte(key)))
		for _, a := range clock.Actors {
			if a.Actor == d.Actor && a.Mine {
				return i
			}
		}
	}
	w.t.Fatalf("nobody has minted %v", d)
	return -1
}

// One home of a key is slow. Only the first put finds that out the hard way; while
// nobody else is there, it is asked all the same.
func TestForwardGoesToAHomeThatIsNotSlow(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		_, others := w.homes("k")
		slots, via := w.slotsOf("k"), w.nodes[others[0]].host.Name()
		slow := network.Link{Latency: 300 * time.Millisecond}
		far := w.nodes[slots[0]].host.Name()
		w.net.SetLink(via, far, slow)
		w.net.SetLink(far, via, slow)
		w.mustPut(others[0], "k", "first", nil)
		if i := w.minter("k"); i != slots[0] {
			t.Fatalf("the first put went to node %d, not to slot 0, and found nothing out", i)
		}
		for n := range 5 {
			began := time.Now()
			w.mustPut(others[0], "k", fmt.Sprint("v", n), nil)
			if took := time.Since(began); took > 100*time.Millisecond {
				t.Errorf("put %d took %v", n, took)
			}
			if i := w.minter("k"); i != slots[1] {
				t.Errorf("put %d went to node %d; the next slot is that of node %d", n, i, slots[1])
			}
		}
		w.halt(slots[1])
		w.halt(slots[2])
		time.Sleep(5 * time.Second) // until that is known: a put that is lost on its way is not sent again
		if _, err := w.put(others[0], api.PutRequest{Key: []byte("k"), Value: []byte("v"), W: 1}); err != nil {
			t.Errorf("with nobody but the slow home: %v", err)
		}
	})
}

// Homes that are equally near share the puts by their slots.
func TestForwardSpreadsOverHomesThatAreEquallyNear(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		minted := map[int]int{}
		for n := range 30 {
			key := fmt.Sprint("key-", n)
			_, others := w.homes(key)
			w.mustPut(others[0], key, "v", nil)
			at := w.minter(key)
			if first := w.slotsOf(key)[0]; at != first {
				t.Errorf("%s went to node %d, its first home is node %d", key, at, first)
			}
			minted[at]++
		}
		if len(minted) < 4 {
			t.Errorf("puts were minted by %v", minted)
		}
	})
}
