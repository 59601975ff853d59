package kv_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kithdb/kith/quorum"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/sim/network"
)

// TestFault17_ReadGivesUpAHomeThatHangs: the home answers reads and hangs when it
// shall write. The third home takes its place in the repair.
func TestFault17_ReadGivesUpAHomeThatHangs(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.apart("k")
		w.nodes[1].disk.SetSyncDelay(func() time.Duration { return 20 * time.Second })
		defer w.nodes[1].disk.SetSyncDelay(nil)
		start := time.Now()
		resp, err := w.get(0, "k", api.Quorum)
		if err != nil || !resp.Found || string(resp.Values[resp.Winner].Data) != "new" || !resp.Receipt.Repaired {
			t.Fatalf("%+v, %v", resp, err)
		}
		if took := time.Since(start); took > 1500*time.Millisecond {
			t.Errorf("it took %v of 2 s", took)
		}
		for _, id := range resp.Receipt.Answered {
			if id == nodeID(1) {
				t.Error("the home that hangs is told to have answered")
			}
		}
		// What was shown is at two homes, none of them the one that hangs.
		if r := w.own(2, "k"); len(r.Siblings) != 1 || string(r.Siblings[0].Value) != "new" {
			t.Errorf("node 2 has %v", r)
		}
	})
}

// TestFault17_HangingHomeIsGivenUpWhereverItIs: whichever home hangs, and whoever
// coordinates elsewhere, a read at quorum is answered.
func TestFault17_HangingHomeIsGivenUpWhereverItIs(t *testing.T) {
	for hangs := 1; hangs < 3; hangs++ {
		for via := range 3 {
			if via == hangs {
				continue // it has itself to write to; see the next test
			}
			inWorld(t, 3, 3, func(w *world) {
				w.apart("k")
				w.nodes[hangs].disk.SetSyncDelay(func() time.Duration { return 20 * time.Second })
				defer w.nodes[hangs].disk.SetSyncDelay(nil)
				got, err := w.get(via, "k", api.Quorum)
				if err != nil {
					t.Fatalf("node %d hangs, through node %d: %v", hangs, via, err)
				}
				// Old, if the two that were asked agree on it, or new.
				if v := string(got.Values[got.Winner].Data); v != "new" && v != "old" {
					t.Errorf("it shows %s", v)
				}
			})
		}
	}
}

// TestCoordinatorThatHangsItselfLetsOthersHoldTheMerge: its own copy is read and
// need not be mended.
func TestCoordinatorThatHangsItselfLetsOthersHoldTheMerge(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.apart("k")
		w.nodes[1].disk.SetSyncDelay(func() time.Duration { return 20 * time.Second })
		defer w.nodes[1].disk.SetSyncDelay(nil)
		for range 3 { // node 1 reads its own copy and that of node 0 or 2
			if _, err := w.get(1, "k", api.Quorum); err != nil {
				t.Error(err)
			}
		}
		if _, err := w.get(1, "k", api.All); !errors.Is(err, api.ErrUnavailable) {
			t.Errorf("at all homes: %v", err)
		}
	})
}

// TestRepairThatFailsCountsTheHomesThatHaveTheMerge: the error doesn't claim that
// enough homes have answered.
func TestRepairThatFailsCountsTheHomesThatHaveTheMerge(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.apart("k")
		w.halt(2)
		w.nodes[1].disk.SetSyncDelay(func() time.Duration { return 20 * time.Second })
		defer w.nodes[1].disk.SetSyncDelay(nil)
		start := time.Now()
		_, err := w.get(0, "k", api.Quorum)
		var unmet *quorum.UnmetError
		if !errors.Is(err, api.ErrUnavailable) || !errors.As(err, &unmet) {
			t.Fatalf("%v", err)
		}
		if unmet.Need != 2 || unmet.Got != 1 || !strings.Contains(err.Error(), "the homes differ") {
			t.Errorf("%v", err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestRepairTriesEveryHomeOnce: a home whose disk fails and one that cannot be
// reached leave one: refused, without waiting for the deadline.
func TestRepairTriesEveryHomeOnce(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.apart("k")
		w.nodes[1].disk.FailSync(disk.Every, disk.Forever, false, syscall.EIO)
		defer w.nodes[1].disk.Heal()
		w.nodes[2].disk.FailSync(disk.Every, disk.Forever, false, syscall.EIO)
		defer w.nodes[2].disk.Heal()
		start := time.Now()
		if resp, err := w.get(0, "k", api.Quorum); !errors.Is(err, api.ErrUnavailable) {
			t.Errorf("%+v, %v", resp, err)
		}
		if took := time.Since(start); took > 500*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// TestFault10_SlowHomeDoesNotHoldUpRepairs: a home behind a narrow link gets the
// merges when it can; reads through the others are as quick as ever.
func TestFault10_SlowHomeDoesNotHoldUpRepairs(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.apart("k")
		slow := network.Link{Latency: 1500 * time.Millisecond}
		w.net.SetLink(w.nodes[0].host.Name(), w.nodes[1].host.Name(), slow)
		w.net.SetLink(w.nodes[1].host.Name(), w.nodes[0].host.Name(), slow)
		start := time.Now()
		if got := w.values(0, "k", api.Quorum); !maps.Equal(got, set("new")) {
			t.Errorf("it shows %v", got)
		}
		if took := time.Since(start); took > 200*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		time.Sleep(5 * time.Second)
		if r := w.own(1, "k"); string(r.Siblings[0].Value) != "new" {
			t.Errorf("the slow home has %q, and should have been told", r.Siblings[0].Value)
		}
	})
}

// TestFault10_NarrowLinkToOneHomeHoldsUpNoPut: that home gets what passes in time;
// puts at quorum are as quick as ever, and nothing piles up behind it.
func TestFault10_NarrowLinkToOneHomeHoldsUpNoPut(t *testing.T) {
	inWorld(t, 4, 3, func(w *world) {
		key := func(i int) string { return fmt.Sprintf("{k}%d", i) }
		homes := w.homesIn(w.record, "{k}")
		narrow := network.Link{Bandwidth: 64 << 10}
		w.net.SetLink(w.nodes[homes[0]].host.Name(), w.nodes[homes[2]].host.Name(), narrow)
		value := make([]byte, 100<<10)
		worst := time.Duration(0)
		const puts = 300
		for i := range puts {
			start := time.Now()
			if _, err := w.put(homes[0], api.PutRequest{Key: []byte(key(i)), Value: value}); err != nil {
				t.Fatalf("put %d: %v", i, err)
			}
			worst = max(worst, time.Since(start))
			time.Sleep(10 * time.Millisecond)
		}
		if worst > 100*time.Millisecond {
			t.Errorf("the slowest put took %v", worst)
		}
		// What has missed its deadline was given up: the link is free again soon,
		// however long it would have taken for all.
		w.net.SetLink(w.nodes[homes[0]].host.Name(), w.nodes[homes[2]].host.Name(), network.Link{})
		time.Sleep(20 * time.Second)
		start := time.Now()
		for i := range puts {
			if got, err := w.get(homes[0], key(i), api.All); err != nil || !got.Found || len(got.Values[0].Data) != len(value) {
				t.Fatalf("get %d: %v", i, err)
			}
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("reading all took %v", took)
		}
		for i := range puts {
			if w.own(homes[2], key(i)) == nil {
				t.Errorf("the home has no %s", key(i))
			}
		}
	})
}
