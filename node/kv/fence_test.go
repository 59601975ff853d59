package kv_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// TestAckCountsForItsEpochOnly: a home whose commit was under way when the ring
// changed under it has acknowledged the old epoch, of which nobody asks any more.
func TestAckCountsForItsEpochOnly(t *testing.T) {
	inWorld(t, 4, 3, func(w *world) {
		next := w.ring(3, 1, 2, 3)
		key := w.keyWhere(func(key string) bool { return slices.Contains(w.homesIn(w.record, key), 0) })
		w.adopt(next, 1, 2, 3)
		w.nodes[0].disk.SetSyncDelay(func() time.Duration { return 300 * time.Millisecond })
		resp, err := w.put(0, api.PutRequest{Key: []byte(key), Value: []byte("v"), W: api.One})
		if err != nil {
			t.Fatal(err)
		}
		if resp.Receipt.Epoch != 3 || slices.Contains(resp.Receipt.Answered, nodeID(0)) {
			t.Errorf("receipt: %+v", resp.Receipt)
		}
		if got := w.values(1, key, api.All); !maps.Equal(got, set("v")) {
			t.Errorf("all homes of the new record show %v", got)
		}
	})
}

func TestPutFollowsTheRing(t *testing.T) {
	for old := range 4 { // the coordinator's node has the old record, all others the new one
		inWorld(t, 5, 3, func(w *world) {
			w.adopt(w.ring(3, 1, 2, 3, 4), slices.DeleteFunc([]int{0, 1, 2, 3, 4}, func(i int) bool { return i == old })...)
			for i := range 20 {
				key := fmt.Sprintf("key-%d", i)
				resp := w.mustPut(old, key, "v", nil)
				if resp.Receipt.Epoch != 3 && resp.Receipt.Epoch != 2 {
					t.Errorf("receipt: %+v", resp.Receipt)
				}
				if got := w.values(4, key, api.Quorum); !maps.Equal(got, set("v")) {
					t.Errorf("%s shows %v", key, got)
				}
			}
		})
	}
}

// TestForwardGoesOnFromAHomeThatIsBehind: a home that does not know yet that it
// is one refuses; the next one takes the put.
func TestForwardGoesOnFromAHomeThatIsBehind(t *testing.T) {
	inWorld(t, 4, 3, func(w *world) {
		next := w.ring(3, 1, 2, 3)
		key := w.keyWhere(func(key string) bool {
			return w.homesIn(next, key)[0] == 3 && !slices.Contains(w.homesIn(w.record, key), 3)
		})
		w.adopt(next, 0, 1, 2)
		w.mustPut(0, key, "v", nil)
		if got := w.values(1, key, api.Quorum); !maps.Equal(got, set("v")) {
			t.Errorf("it shows %v", got)
		}
	})
}

// TestHomeLearnsTheRecordThatARequestNames: merges and reads carry their epoch.
func TestHomeLearnsTheRecordThatARequestNames(t *testing.T) {
	inWorld(t, 4, 3, func(w *world) {
		next := w.ring(3, 1, 2, 3)
		w.adopt(next, 1)
		w.mustPut(1, "k", "v", nil)
		if _, err := w.get(1, "k", api.All); err != nil {
			t.Fatal(err)
		}
		for i := 1; i < 4; i++ {
			if got := w.nodes[i].rings.Current().Epoch; got != 3 {
				t.Errorf("node %d holds epoch %d", i, got)
			}
		}
	})
}

// TestHomesWaitForTheRecordOfANewcomer: a standby may know of its place before the
// homes have heard of the new record, and of where it is.
func TestHomesWaitForTheRecordOfANewcomer(t *testing.T) {
	for _, heard := range []bool{true, false} {
		inWorld(t, 4, 3, func(w *world) {
			next := w.ring(3, 1, 2, 3)
			key := w.keyWhere(func(key string) bool { return !slices.Contains(w.homesIn(w.record, key), 0) })
			w.mustPut(1, key, "v", nil)
			w.adopt(next, 0)
			for i := 1; i < 4; i++ {
				w.nodes[i].deaf.Store(1)
			}
			if heard {
				told := time.AfterFunc(time.Second, func() { w.adopt(next, 1, 2, 3) })
				defer told.Stop()
			}
			began := time.Now()
			resp, err := w.get(0, key, api.Quorum)
			took := time.Since(began)
			switch {
			case heard && (err != nil || !resp.Found || took < time.Second):
				t.Errorf("after %v: %+v, %v", took, resp, err)
			case !heard && !errors.Is(err, api.ErrUnavailable) && !errors.Is(err, api.ErrNotReady):
				t.Errorf("nobody knows the record, and after %v the answer is %v", took, err)
			}
		})
	}
}

func TestGetFollowsTheRing(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		for i := range 20 {
			w.mustPut(0, fmt.Sprintf("key-%d", i), "v", nil)
		}
		time.Sleep(time.Second)
		// The members stay, so that the homes and their copies do.
		w.adopt(w.ring(3, 0, 1, 2, 3, 4), 1, 2, 3)
		for i := range 20 {
			for _, via := range []int{0, 4} {
				key := fmt.Sprintf("key-%d", i)
				if got := w.values(via, key, api.All); !maps.Equal(got, set("v")) {
					t.Errorf("%s through node %d shows %v", key, via, got)
				}
			}
		}
	})
}

func TestScanFollowsTheRing(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.mustPut(0, "k", "v", nil)
		time.Sleep(time.Second)
		w.adopt(w.ring(3, 0, 1, 2), 1, 2)
		items := w.scanAll(0, api.ScanRequest{Partition: uint16(w.record.PartitionOf([]byte("k"))), R: api.All})
		if len(items) != 1 || items["k"] != "v" {
			t.Errorf("scan found %v", items)
		}
	})
}

// TestFencedHomeNeverAnswersAnOlderEpoch: without the newer record, nothing is
// written and nothing read.
func TestFencedHomeNeverAnswersAnOlderEpoch(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		next := w.ring(3, 0, 1, 2)
		w.adopt(next, 1, 2)
		w.nodes[0].rings.turn <- struct{}{} // adopting hangs, as on a disk that does
		if _, err := w.put(0, api.PutRequest{Key: []byte("k"), Value: []byte("v")}); !errors.Is(err, api.ErrUnknown) {
			t.Errorf("put: %v", err)
		}
		for i := 1; i < 3; i++ {
			if w.own(i, "k") != nil {
				t.Errorf("fenced home %d took the write", i)
			}
		}
		if _, err := w.get(0, "k", api.Quorum); !errors.Is(err, api.ErrUnavailable) {
			t.Errorf("get: %v", err)
		}
		<-w.nodes[0].rings.turn
		w.mustPut(0, "k", "w", nil)
	})
}

// TestARecordAboutOthersHoldsNothingUp: a coordinator that holds a newer record asks
// homes that cannot adopt it, and they answer at once, as long as the record changes
// nothing of the partition.
func TestARecordAboutOthersHoldsNothingUp(t *testing.T) {
	inWorld(t, 4, 3, func(w *world) {
		m := w.moving()
		next := w.inPhase(m, ring.PhaseDual)
		other := w.keyWhere(func(key string) bool {
			return next.PartitionOf([]byte(key)) != m.p && slices.Contains(w.homesIn(next, key), m.a)
		})
		w.adopt(next, m.a)
		for i := range w.nodes {
			w.nodes[i].rings.turn <- struct{}{} // adopting hangs, as on a disk that does
		}
		began := time.Now()
		resp, err := w.put(m.a, api.PutRequest{Key: []byte(other), Value: []byte("v"), W: api.All})
		if err != nil || resp.Receipt.Epoch != next.Epoch || len(resp.Receipt.Answered) != 3 {
			t.Fatalf("put: %+v, %v", resp, err)
		}
		if got := w.values(m.a, other, api.All); !maps.Equal(got, set("v")) {
			t.Errorf("all homes show %v", got)
		}
		if items := w.scanAll(m.a, api.ScanRequest{Partition: uint16(next.PartitionOf([]byte(other))), R: api.All}); items[other] != "v" {
			t.Errorf("a scan finds %v", items)
		}
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("that took %v", took)
		}
		// What the record is about waits for it.
		if _, err := w.put(m.a, api.PutRequest{Key: []byte(m.key), Value: []byte("v"), W: api.All}); err == nil {
			t.Error("a put of the partition that moves was done by homes that have not heard of that")
		}
		for i := range w.nodes {
			if got := w.nodes[i].rings.Current(); (got == next) != (i == m.a) {
				t.Errorf("node %d holds epoch %d", i, got.Epoch)
			}
			<-w.nodes[i].rings.turn
		}
	})
}
