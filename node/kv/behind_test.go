package kv_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc/api"
)

// TestHomeThatCatchesUpTakesWritesAndDoesNotCountForReads: until its repair says
// that it lacks nothing, others answer, also if it coordinates.
func TestHomeThatCatchesUpTakesWritesAndDoesNotCountForReads(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.apart("k") // node 0 alone has "new"
		for _, i := range []int{1, 2} {
			w.nodes[i].behind.Store(true)
		}
		if got := w.values(1, "k", api.One); !maps.Equal(got, set("new")) {
			t.Errorf("R=one through one that is behind shows %v", got)
		}
		if _, err := w.get(0, "k", api.Quorum); !errors.Is(err, api.ErrUnavailable) || !strings.Contains(err.Error(), "catching up") {
			t.Errorf("a quorum with two behind: %v", err)
		}
		p := uint16(w.record.PartitionOf([]byte("k")))
		if got := w.scanAll(2, api.ScanRequest{Partition: p, R: api.One}); len(got) != 1 || got["k"] != "new" {
			t.Errorf("scan through one that is behind: %v", got)
		}
		w.nodes[1].behind.Store(false)
		for via := range w.nodes {
			if got := w.values(via, "k", api.Quorum); !maps.Equal(got, set("new")) {
				t.Errorf("through node %d: %v", via, got)
			}
			if _, err := w.get(via, "k", api.All); !errors.Is(err, api.ErrUnavailable) {
				t.Errorf("R=all through node %d: %v", via, err)
			}
		}
		resp, err := w.put(2, api.PutRequest{Key: []byte("k"), Value: []byte("newer"), W: api.All})
		if err != nil || len(resp.Receipt.Answered) != 3 {
			t.Errorf("a put at all homes through the one that is behind: %+v, %v", resp, err)
		}
		w.nodes[2].behind.Store(false)
		if got := w.values(2, "k", api.All); got["new"] || !got["newer"] {
			t.Errorf("it shows %v", got)
		}
	})
}

// TestFault59_HotKeyOfAThousandWriters: they all have read the same and write at
// once. Who is acknowledged is a sibling until somebody has seen it; writes without
// context are refused meanwhile, and another key is as quick as ever.
func TestFault59_HotKeyOfAThousandWriters(t *testing.T) {
	inWorld(t, 4, 3, func(w *world) {
		const writers = 1000
		first := w.mustPut(0, "hot", "base", nil).Context
		type outcome struct {
			value string
			err   error
		}
		outcomes := make(chan outcome, writers)
		for i := range writers {
			go func() {
				value := fmt.Sprint("v", i)
				_, err := w.put(i%4, api.PutRequest{Key: []byte("hot"), Value: []byte(value), Context: first})
				outcomes <- outcome{value, err}
			}()
		}
		acked := map[string]bool{}
		for range writers {
			switch o := <-outcomes; {
			case o.err == nil:
				acked[o.value] = true
			case errors.Is(o.err, api.ErrUnknown): // it may be there
			}
		}
		if len(acked) < 100 {
			t.Fatalf("%d were acknowledged", len(acked))
		}
		start := time.Now()
		w.mustPut(1, "other", "v", nil)
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("another key took %v", took)
		}
		for via := range w.nodes {
			if _, err := w.put(via, api.PutRequest{Key: []byte("hot"), Value: []byte("blind")}); !errors.Is(err, api.ErrTooManySiblings) {
				t.Errorf("blind, through node %d: %v", via, err)
			}
		}
		all, err := w.get(3, "hot", api.All)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range all.Values {
			delete(acked, string(v.Data))
		}
		if len(acked) > 0 {
			t.Errorf("%d acknowledged writes are lost", len(acked))
		}
		w.mustPut(2, "hot", "one", all.Context)
		if got := w.values(0, "hot", api.All); !maps.Equal(got, set("one")) {
			t.Errorf("it shows %d values", len(got))
		}
	})
}
