package kv_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store/version"
)

// found reads a key at quorum through node i, as a client without a memory of its
// own, and says whether it has a value.
func (w *world) found(i int, key string) bool {
	w.t.Helper()
	resp, err := w.get(i, key, api.Quorum)
	if err != nil {
		w.t.Fatalf("get %s through %s: %v", key, w.nodes[i].name, err)
	}
	return resp.Found
}

func TestValueIsReadableForItsTTL(t *testing.T) {
	inWorld(t, 4, 3, func(w *world) {
		for via := range w.nodes { // homes and one that forwards
			key := fmt.Sprint("key-", via)
			resp, err := w.put(via, api.PutRequest{Key: []byte(key), Value: []byte("v"), TTL: 5000})
			if err != nil {
				t.Fatal(err)
			}
			minted := w.own(w.homesIn(w.record, key)[0], key).Siblings[0]
			if want := uint64(minted.Stamp.Time().UnixMilli()) + 5000; minted.Expiry != want {
				t.Errorf("expiry %d, want %d", minted.Expiry, want)
			}
			got, err := w.get((via+1)%4, key, api.Quorum)
			if err != nil || !got.Found || got.Values[0].Expiry != minted.Expiry {
				t.Errorf("%+v, %v", got, err)
			}
			_ = resp
		}
		time.Sleep(4900 * time.Millisecond)
		for i := range w.nodes {
			if !w.found(i, "key-3") {
				t.Error("gone before its time")
			}
		}
		time.Sleep(200 * time.Millisecond)
		for i := range w.nodes {
			for via := range w.nodes {
				key := fmt.Sprint("key-", via)
				got, err := w.get(i, key, api.Quorum)
				if err != nil || got.Found || len(got.Values) != 1 || !got.Values[0].Tombstone || got.Values[0].Data != nil || got.Receipt.Siblings != 0 {
					t.Errorf("%s through node %d: %+v, %v", key, i, got, err)
				}
			}
		}
		// It is written over like any other key, with or without a context.
		got, _ := w.get(0, "key-0", api.Quorum)
		w.mustPut(1, "key-0", "again", got.Context)
		w.mustPut(2, "key-1", "again", nil)
		for _, key := range []string{"key-0", "key-1"} {
			if v := w.values(3, key, api.All); !maps.Equal(v, set("again")) {
				t.Errorf("%s shows %v", key, v)
			}
		}
	})
}

func TestScansTellExpiriesAndLeaveOutWhatHasExpired(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		at := uint64(time.Now().UnixMilli()) + 5000
		for key, expiry := range map[string]uint64{"{t}soon": at, "{t}later": at + 60_000, "{t}never": 0, "{t}past": 1} {
			if _, err := w.put(0, api.PutRequest{Key: []byte(key), Value: []byte("v"), Expiry: expiry}); err != nil {
				t.Fatal(err)
			}
		}
		p := uint16(w.record.PartitionOf([]byte("{t}")))
		scan := func() map[string]uint64 {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			page, err := api.Scan.Call(ctx, w.client, rpc.Peer{Addr: w.nodes[1].peer.Addr}, &api.ScanRequest{Partition: p})
			if err != nil {
				t.Fatal(err)
			}
			out := map[string]uint64{}
			for _, it := range page.Items {
				out[string(it.Key)] = it.Expiry
			}
			return out
		}
		if got := scan(); !maps.Equal(got, map[string]uint64{"{t}soon": at, "{t}later": at + 60_000, "{t}never": 0}) {
			t.Errorf("%v", got)
		}
		time.Sleep(6 * time.Second)
		if got := scan(); !maps.Equal(got, map[string]uint64{"{t}later": at + 60_000, "{t}never": 0}) {
			t.Errorf("%v", got)
		}
	})
}

func TestLivesThatCannotBeAreBadRequests(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		now := uint64(time.Now().UnixMilli())
		for _, req := range []api.PutRequest{
			{Delete: true, TTL: 1}, {Delete: true, Expiry: 1}, {TTL: 1, Expiry: 1}, {TTL: api.TTLMax + 1}, {TTL: 1<<64 - 1},
			{Expiry: now + api.TTLMax + 60_000}, {Expiry: 1<<64 - 1},
		} {
			req.Key = []byte("k")
			if _, err := w.put(0, req); !errors.Is(err, api.ErrBadRequest) {
				t.Errorf("%+v: %v", req, err)
			}
		}
		if got, err := w.get(0, "k", api.All); err != nil || len(got.Values) != 0 {
			t.Errorf("%+v, %v", got, err)
		}
		for _, req := range []api.PutRequest{{TTL: api.TTLMax}, {Expiry: now + api.TTLMax}} {
			req.Key, req.Value = []byte("k"), []byte("v")
			if _, err := w.put(0, req); err != nil || !w.found(1, "k") {
				t.Errorf("%+v: %v", req, err)
			}
		}
	})
}

// TestFault44_ExpiryDoesNotDependOnWhoseClock: the members' clocks differ by almost
// the bound. All homes hold the same expiry, and once one read at quorum has seen a
// value expired, none that begins later sees it again, through whatever node, by
// clients that know nothing of each other.
func TestFault44_ExpiryDoesNotDependOnWhoseClock(t *testing.T) {
	for _, n := range []int{3, 5} {
		inWorld(t, n, 3, func(w *world) {
			for i, h := range w.nodes {
				h.offset.Store(int64(time.Duration(i) * 1900 * time.Millisecond / time.Duration(n-1)))
			}
			time.Sleep(6 * time.Second) // until they have compared their clocks
			const keys = 12
			for i := range keys {
				key := fmt.Sprint("key-", i)
				if _, err := w.put(i%n, api.PutRequest{Key: []byte(key), Value: []byte("v"), TTL: 3000, W: api.All}); err != nil {
					t.Fatal(err)
				}
				homes := w.homesIn(w.record, key)
				first := w.own(homes[0], key)
				for _, h := range homes[1:] {
					if !first.Equal(w.own(h, key)) {
						t.Errorf("%s: %v and %v", key, first, w.own(h, key))
					}
				}
			}
			gone := map[string]int{}
			for step := range 600 {
				for i := range keys {
					key := fmt.Sprint("key-", i)
					via := (step*7 + i) % n
					if w.found(via, key) {
						if before, is := gone[key]; is {
							t.Fatalf("%s comes back through node %d, at step %d: it was gone at step %d", key, via, step, before)
						}
					} else if _, is := gone[key]; !is {
						gone[key] = step
					}
				}
				time.Sleep(10 * time.Millisecond)
			}
			if len(gone) != keys {
				t.Errorf("%d of %d keys have expired", len(gone), keys)
			}
		})
	}
}

// TestFault42_ClockThatJumpsAheadDoesNotEndAllValues: not at once, not while it is
// wrong, and not when it is set back.
func TestFault42_ClockThatJumpsAheadDoesNotEndAllValues(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		time.Sleep(6 * time.Second)
		keys := []string{"a", "b", "c", "d"}
		for _, key := range keys {
			if _, err := w.put(1, api.PutRequest{Key: []byte(key), Value: []byte("v"), TTL: 10 * 60_000}); err != nil {
				t.Fatal(err)
			}
		}
		check := func(when string, want bool) {
			t.Helper()
			for via := range w.nodes {
				for _, key := range keys {
					if w.found(via, key) != want {
						t.Errorf("%s: through node %d, %s is found: %v", when, via, key, !want)
					}
				}
			}
		}
		wrong := w.nodes[0]
		wrong.offset.Store(int64(time.Hour))
		check("at once", true)
		for range 8 {
			time.Sleep(time.Second)
			check("meanwhile", true)
		}
		wrong.offset.Store(0)
		check("set back", true)
		time.Sleep(10 * time.Second)
		check("later", true)
		time.Sleep(10 * time.Minute)
		check("after its time", false)
		// What it mints before it knows lives no longer than it shall.
		wrong.offset.Store(int64(time.Hour))
		if resp, err := w.put(0, api.PutRequest{Key: []byte("a"), Value: []byte("v"), TTL: 60_000}); err != nil || resp.Receipt.Coordinator != wrong.id {
			t.Fatalf("%+v, %v", resp, err)
		}
		if left := time.Until(time.UnixMilli(int64(w.own(0, "a").Siblings[0].Expiry))); left > time.Minute+2*skewMax {
			t.Errorf("it would live %v", left)
		}
	})
}

// TestFault43_ClockThatIsBehindOrStandsStillShowsNothingAgain: a node whose clock is
// an hour behind, or stops, shows no value longer than the others do, and what it
// mints lives as long as it shall.
func TestFault43_ClockThatIsBehindOrStandsStillShowsNothingAgain(t *testing.T) {
	for _, spoil := range []func(h *home){
		func(h *home) { h.offset.Store(-int64(time.Hour)) },
		func(h *home) { h.frozen.Store(time.Now().UnixNano()) },
	} {
		inWorld(t, 3, 3, func(w *world) {
			time.Sleep(6 * time.Second)
			spoil(w.nodes[0])
			time.Sleep(20 * time.Second)
			for i := range 6 {
				key := fmt.Sprint("key-", i)
				if _, err := w.put(i%3, api.PutRequest{Key: []byte(key), Value: []byte("v"), TTL: 60_000}); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(55 * time.Second)
			for i := range 6 {
				if key := fmt.Sprint("key-", i); !w.found(0, key) || !w.found(1, key) {
					t.Errorf("%s is gone too early", key)
				}
			}
			time.Sleep(10 * time.Second)
			for i := range 6 {
				for via := range w.nodes {
					if key := fmt.Sprint("key-", i); w.found(via, key) {
						t.Errorf("%s is there too long, through node %d", key, via)
					}
				}
			}
		})
	}
}

// TestExpiredValueLosesNothing: it is one of two siblings; the other one stays.
func TestExpiredValueLosesNothing(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.mustPut(0, "k", "first", nil)
		got, err := w.get(0, "k", api.All)
		if err != nil {
			t.Fatal(err)
		}
		w.mustPut(1, "k", "stays", got.Context)
		if _, err := w.put(2, api.PutRequest{Key: []byte("k"), Value: []byte("goes"), Context: got.Context, TTL: 2000, W: api.All}); err != nil {
			t.Fatal(err)
		}
		if v := w.values(0, "k", api.All); !maps.Equal(v, set("stays", "goes")) {
			t.Errorf("both: %v", v)
		}
		time.Sleep(3 * time.Second)
		resp, err := w.get(0, "k", api.All)
		if err != nil || resp.Found { // the winner has expired: it reads as a delete would
			t.Errorf("%+v, %v", resp, err)
		}
		if v := w.values(0, "k", api.All); !maps.Equal(v, set("stays")) {
			t.Errorf("one: %v", v)
		}
		if !slices.ContainsFunc(resp.Values, func(v api.Value) bool { return v.Tombstone && v.Expiry > 0 }) {
			t.Errorf("%+v", resp.Values)
		}
		var none version.Record
		if r := w.own(1, "k"); len(r.Siblings) != 2 || r.Equal(&none) {
			t.Errorf("%v", r)
		}
	})
}

// TestFault44_ReaderWithASlowClockHearsThatAValueHasExpired: from the homes, who
// were asked by one with a fast clock.
func TestFault44_ReaderWithASlowClockHearsThatAValueHasExpired(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		for i, h := range w.nodes {
			h.offset.Store(int64(time.Duration(i) * 900 * time.Millisecond))
		}
		for i := range 20 {
			key := fmt.Sprint("key-", i)
			if _, err := w.put(0, api.PutRequest{Key: []byte(key), Value: []byte("v"), TTL: 5000, W: api.All}); err != nil {
				t.Fatal(err)
			}
			for w.found(2, key) {
				time.Sleep(2 * time.Millisecond)
			}
			slow := i % 2
			if w.found(slow, key) {
				t.Errorf("%s: gone for the fast clock of node 2, then there again through node %d", key, slow)
			}
			time.Sleep(10 * time.Second) // the clocks have drifted apart again
		}
	})
}
