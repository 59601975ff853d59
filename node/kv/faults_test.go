package kv_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/sim/network"
)

// damage halts node i, damages what it has synced, and starts it again.
func (w *world) damage(i int) {
	w.t.Helper()
	w.halt(i)
	d := w.nodes[i].disk
	fd, ok := d.Newest(storage.TypeJournal)
	if !ok || d.Size(fd) < 100 {
		w.t.Fatalf("no journal to damage: %v", d)
	}
	d.Flip(fd, 40, 0xff)
	w.revive(i)
}

// revive starts a node that was halted, at its old address.
func (w *world) revive(i int) {
	h := w.nodes[i]
	h.host = w.net.Host(h.peer, nil)
	w.start(i)
}

// TestFault33_LossyHomeTakesWritesAndDoesNotCountForReads: as a home and as the
// coordinator.
func TestFault33_LossyHomeTakesWritesAndDoesNotCountForReads(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		for i := range 20 {
			w.mustPut(0, fmt.Sprintf("{tag}%02d", i), "v", nil)
		}
		time.Sleep(time.Second)
		w.damage(1)
		p := w.record.PartitionOf([]byte("{tag}"))
		if w.nodes[1].store.CountsForRead(p) {
			t.Fatal("the damage was not noticed")
		}
		for via := range w.nodes {
			if got := w.values(via, "{tag}07", api.Quorum); !maps.Equal(got, set("v")) {
				t.Errorf("through node %d: %v", via, got)
			}
			if _, err := w.get(via, "{tag}07", api.All); !errors.Is(err, api.ErrUnavailable) {
				t.Errorf("R=all through node %d: %v", via, err)
			}
			if got := w.scanAll(via, api.ScanRequest{Partition: uint16(p), R: api.Quorum}); len(got) != 20 {
				t.Errorf("scan through node %d found %d keys", via, len(got))
			}
		}
		if resp, err := w.put(1, api.PutRequest{Key: []byte("{tag}new"), Value: []byte("v"), W: api.All}); err != nil || len(resp.Receipt.Answered) != 3 {
			t.Errorf("put at all homes through the lossy one: %v", err)
		}
	})
}

// TestFault31_FailedStoreSendsThePutElsewhere: a home whose disk has failed
// coordinates, and does not mint.
func TestFault31_FailedStoreSendsThePutElsewhere(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.mustPut(0, "before", "v", nil)
		w.nodes[0].disk.ReadOnly(true)
		defer w.nodes[0].disk.ReadOnly(false)
		// The others have it on disk, whatever becomes of the coordinator's.
		w.mustPut(0, "first", "v", nil)
		time.Sleep(100 * time.Millisecond)
		if w.nodes[0].store.Health().Failed == nil {
			t.Fatal("the store has not failed")
		}
		resp := w.mustPut(0, "second", "v", nil)
		if resp.Receipt.Coordinator == nodeID(0) || slices.Contains(resp.Receipt.Answered, nodeID(0)) {
			t.Errorf("receipt: %+v", resp.Receipt)
		}
		for _, key := range []string{"before", "first", "second"} {
			if got := w.values(0, key, api.Quorum); !maps.Equal(got, set("v")) {
				t.Errorf("%s shows %v", key, got)
			}
		}
		if _, err := w.put(0, api.PutRequest{Key: []byte("third"), Value: []byte("v"), W: api.All}); !errors.Is(err, api.ErrUnknown) {
			t.Errorf("W=all with a failed home: %v", err)
		}
	})
}

// TestFault31_FailedStoreOfAHomeIsNoAck: the others make the quorum.
func TestFault31_FailedStoreOfAHomeIsNoAck(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.mustPut(0, "k", "v", nil)
		w.nodes[1].disk.FailSync(disk.Every, disk.Forever, false, syscall.EIO)
		defer w.nodes[1].disk.Heal()
		for i := range 5 {
			resp := w.mustPut(0, fmt.Sprint("k", i), "v", nil)
			if slices.Contains(resp.Receipt.Answered, nodeID(1)) {
				t.Errorf("receipt: %+v", resp.Receipt)
			}
		}
		w.nodes[2].disk.FailSync(disk.Every, disk.Forever, false, syscall.EIO)
		defer w.nodes[2].disk.Heal()
		if _, err := w.put(0, api.PutRequest{Key: []byte("x"), Value: []byte("v")}); !errors.Is(err, api.ErrUnknown) {
			t.Errorf("one home of two: %v", err)
		}
	})
}

// TestNoHomeIsRefused: what never left this node was written nowhere, also if it
// waited for a connection until its time was over.
func TestNoHomeIsRefused(t *testing.T) {
	inWorld(t, 4, 3, func(w *world) {
		key := w.keyWhere(func(key string) bool { return !slices.Contains(w.homesIn(w.record, key), 0) })
		w.net.Partition([]string{w.nodes[0].host.Name()}, []string{w.nodes[1].host.Name(), w.nodes[2].host.Name(), w.nodes[3].host.Name()})
		for range 2 { // by dialing; by the circuits
			_, err := w.put(0, api.PutRequest{Key: []byte(key), Value: []byte("v")})
			if !errors.Is(err, api.ErrUnavailable) || errors.Is(err, api.ErrUnknown) {
				t.Errorf("put: %v", err)
			}
			time.Sleep(5 * time.Second)
		}
	})
}

// TestSlowHomeIsHedged: a read does not wait for one home if another one has the
// answer, and decides so by the homes that it asked.
func TestSlowHomeIsHedged(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.mustPut(0, "k", "v", nil)
		slow := network.Link{Latency: 300 * time.Millisecond}
		w.net.SetLink(w.nodes[2].host.Name(), w.nodes[0].host.Name(), slow)
		for range 50 {
			w.values(0, "k", api.All)
		}
		w.net.SetLink(w.nodes[1].host.Name(), w.nodes[0].host.Name(), network.Link{Latency: 20 * time.Second})
		start := time.Now()
		if got := w.values(0, "k", api.Quorum); !maps.Equal(got, set("v")) {
			t.Errorf("it shows %v", got)
		}
		if took := time.Since(start); took > 400*time.Millisecond {
			t.Errorf("it took %v: the third home answers within 300 ms", took)
		}
	})
}

// apart has node 0 alone replace "old" by "new".
func (w *world) apart(key string) {
	w.t.Helper()
	w.mustPut(0, key, "old", nil)
	time.Sleep(time.Second)
	w.halt(1)
	w.halt(2)
	if _, err := w.put(0, api.PutRequest{Key: []byte(key), Value: []byte("new"), W: api.One}); err != nil {
		w.t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // for the merges to find nobody
	w.revive(1)
	w.revive(2)
	time.Sleep(15 * time.Second)
	for i := 1; i < 3; i++ {
		if r := w.own(i, key); string(r.Siblings[0].Value) != "old" {
			w.t.Fatalf("node %d has %q: the test tells nothing", i, r.Siblings[0].Value)
		}
	}
}

// TestReadWaitsForItsRepair: what a read at quorum shows is at R homes by then.
func TestReadWaitsForItsRepair(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.apart("k")
		w.halt(2)
		w.nodes[1].disk.SetSyncDelay(func() time.Duration { return 500 * time.Millisecond })
		resp, err := w.get(0, "k", api.Quorum)
		if err != nil || !resp.Receipt.Repaired {
			t.Fatalf("%+v, %v", resp, err)
		}
		if r := w.own(1, "k"); string(r.Siblings[0].Value) != "new" {
			t.Errorf("it was answered while node 1 had %q", r.Siblings[0].Value)
		}
	})
}

// TestReadThatCannotRepairIsUnavailable: it shows nothing that a later read might
// miss.
func TestReadThatCannotRepairIsUnavailable(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.apart("k")
		w.halt(2)
		w.nodes[1].disk.FailSync(disk.Every, disk.Forever, false, syscall.EIO)
		defer w.nodes[1].disk.Heal()
		if resp, err := w.get(0, "k", api.Quorum); !errors.Is(err, api.ErrUnavailable) {
			t.Errorf("%+v, %v", resp, err)
		}
		if got := w.values(0, "k", api.One); !maps.Equal(got, set("new")) {
			t.Errorf("R=one shows %v", got)
		}
	})
}

// TestRepairGoesOnWithoutAHomeThatFails: the home that cannot take the merge does
// not count; another one takes its place, and the merge.
func TestRepairGoesOnWithoutAHomeThatFails(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.apart("k")
		w.nodes[1].disk.FailSync(disk.Every, disk.Forever, false, syscall.EIO)
		defer w.nodes[1].disk.Heal()
		// Node 1 is asked first, being as near as node 2.
		if got := w.values(0, "k", api.Quorum); !maps.Equal(got, set("new")) {
			t.Errorf("it shows %v", got)
		}
		if r := w.own(2, "k"); len(r.Siblings) != 1 || string(r.Siblings[0].Value) != "new" {
			t.Errorf("node 2 has %v", r)
		}
		w.halt(0)
		time.Sleep(time.Second)
		if resp, err := w.get(2, "k", api.One); err != nil || string(resp.Values[resp.Winner].Data) != "new" {
			t.Errorf("node 2 answers %v, %v", resp, err)
		}
	})
}

// TestFault20_PausedHomeMintsNothingExpired: the put reaches it when its client
// has long been told that nothing is known.
func TestFault20_PausedHomeMintsNothingExpired(t *testing.T) {
	inWorld(t, 4, 3, func(w *world) {
		key := w.keyWhere(func(key string) bool { return !slices.Contains(w.homesIn(w.record, key), 0) })
		w.mustPut(0, key, "old", nil)
		first := w.homesIn(w.record, key)
		for _, i := range first {
			w.nodes[i].host.Pause()
		}
		if _, err := w.put(0, api.PutRequest{Key: []byte(key), Value: []byte("new")}); !errors.Is(err, api.ErrUnknown) {
			t.Errorf("put: %v", err)
		}
		time.Sleep(10 * time.Second)
		for _, i := range first {
			w.nodes[i].host.Resume()
		}
		time.Sleep(10 * time.Second)
		if got := w.values(first[0], key, api.All); !maps.Equal(got, set("old")) {
			t.Errorf("it shows %v", got)
		}
	})
}

func TestOneHomeIsEnoughForOneReplica(t *testing.T) {
	inWorld(t, 3, 1, func(w *world) {
		for via := range w.nodes {
			for _, level := range []api.Level{api.One, api.Quorum, api.All} {
				key := fmt.Sprint("key-", via, level)
				if _, err := w.put(via, api.PutRequest{Key: []byte(key), Value: []byte("v"), W: level}); err != nil {
					t.Error(err)
				}
				if got := w.values((via+1)%3, key, level); !maps.Equal(got, set("v")) {
					t.Errorf("%s shows %v", key, got)
				}
			}
		}
	})
}
