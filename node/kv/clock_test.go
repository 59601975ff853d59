package kv_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store/version"
)

// stampAhead is how far the stamp of a key's only value is in front of the time.
func (w *world) stampAhead(via int, key string) time.Duration {
	w.t.Helper()
	resp, err := w.get(via, key, api.All)
	if err != nil || len(resp.Values) != 1 {
		w.t.Fatalf("%s: %+v, %v", key, resp, err)
	}
	return time.Until(version.Stamp(resp.Values[0].Stamp).Time())
}

// TestFault41_ClockAnHourAheadMintsNothing, is named, and is forgotten once it is
// right: its stamps never win over those of others.
func TestFault41_ClockAnHourAheadMintsNothing(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		wrong := w.nodes[0]
		wrong.offset.Store(int64(time.Hour))
		time.Sleep(10 * time.Second)
		if lead, ok := wrong.kv.ClockAhead(); !ok || (lead-time.Hour).Abs() > time.Second {
			t.Errorf("the node thinks that it is %v ahead: %v", lead, ok)
		}
		for i := 1; i < 3; i++ {
			if off := w.nodes[i].kv.ClockOffsets()[wrong.id]; (off - time.Hour).Abs() > time.Second {
				t.Errorf("node %d thinks that it is %v ahead", i, off)
			}
			if _, ok := w.nodes[i].kv.ClockAhead(); ok {
				t.Errorf("node %d mints nothing for another one's clock", i)
			}
		}
		resp := w.mustPut(0, "k", "meanwhile", nil)
		if resp.Receipt.Coordinator == wrong.id {
			t.Errorf("the node with the wrong clock has minted: %+v", resp.Receipt)
		}
		if got := w.values(0, "k", api.All); !maps.Equal(got, set("meanwhile")) {
			t.Errorf("it shows %v", got)
		}
		if ahead := w.stampAhead(1, "k"); ahead > skewMax {
			t.Errorf("a stamp is %v ahead", ahead)
		}
		wrong.offset.Store(0)
		time.Sleep(10 * time.Second)
		if _, ok := wrong.kv.ClockAhead(); ok {
			t.Error("it is right again and does not know")
		}
		if resp = w.mustPut(0, "k", "after", nil); resp.Receipt.Coordinator != wrong.id {
			t.Errorf("it is right again and does not mint: %+v", resp.Receipt)
		}
		if ahead := w.stampAhead(1, "k"); ahead > 2*skewMax {
			t.Errorf("a stamp is %v ahead after the clock was set right", ahead)
		}
	})
}

// TestFault41_ClockBehindForwards: the deadline that a node gives a write is one by
// the clocks of those who mint it.
func TestFault41_ClockBehindForwards(t *testing.T) {
	inWorld(t, 4, 3, func(w *world) {
		for i := range w.nodes {
			key := w.keyWhere(func(key string) bool { return !slices.Contains(w.homesIn(w.record, key), i) })
			w.nodes[i].offset.Store(-int64(time.Hour))
			time.Sleep(10 * time.Second)
			w.mustPut(i, key, "v", nil)
			w.nodes[i].offset.Store(0)
			time.Sleep(10 * time.Second)
		}
	})
}

// TestOldClockReadingsAreForgotten: a node that was wrong when it last saw its
// peers may be right now.
func TestOldClockReadingsAreForgotten(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.nodes[0].offset.Store(int64(time.Hour))
		time.Sleep(10 * time.Second)
		w.halt(1)
		w.halt(2)
		w.nodes[0].offset.Store(0)
		time.Sleep(time.Minute)
		if _, err := w.put(0, api.PutRequest{Key: []byte("k"), Value: []byte("v"), W: api.One}); err != nil {
			t.Error(err)
		}
		if n := len(w.nodes[0].kv.ClockOffsets()); n != 0 {
			t.Errorf("clocks of %d nodes that are away", n)
		}
	})
}
