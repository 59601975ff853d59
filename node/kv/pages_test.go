package kv_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

func TestFullBatch(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		to := rpc.Peer{Addr: w.nodes[0].peer.Addr}
		var puts api.PutAllRequest
		var gets api.GetAllRequest
		for i := range api.BatchMax {
			key := fmt.Append(nil, "key-", i)
			puts.Puts = append(puts.Puts, api.PutRequest{Key: key, Value: key})
			gets.Keys = append(gets.Keys, key)
		}
		put, err := api.PutAll.Call(ctx, w.client, to, &puts)
		if err != nil {
			t.Fatal(err)
		}
		got, err := api.GetAll.Call(ctx, w.client, to, &gets)
		if err != nil {
			t.Fatal(err)
		}
		for i, key := range gets.Keys {
			if len(put.Results[i].Error) > 0 {
				t.Fatalf("put %s: %v", key, rpc.ParseError(put.Results[i].Error))
			}
			r := got.Results[i].Response
			if len(got.Results[i].Error) > 0 || !r.Found || !bytes.Equal(r.Values[r.Winner].Data, key) {
				t.Fatalf("get %s: %+v", key, got.Results[i])
			}
		}
		gets.Keys = append(gets.Keys, []byte("one more"))
		if _, err := api.GetAll.Call(ctx, w.client, to, &gets); err == nil {
			t.Error("a batch over the bound is taken")
		}
	})
}

// TestBatchOfLargeValuesIsAnsweredInParts: more than fits one response is refused
// key by key, and never all of it.
func TestBatchOfLargeValuesIsAnsweredInParts(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		var gets api.GetAllRequest
		for i := range 24 {
			key := fmt.Sprint("key-", i)
			w.mustPut(0, key, string(make([]byte, 1<<20)), nil)
			gets.Keys = append(gets.Keys, []byte(key))
		}
		for rounds := 0; len(gets.Keys) > 0; rounds++ {
			if rounds == 3 {
				t.Fatalf("%d keys are left after %d rounds", len(gets.Keys), rounds)
			}
			got, err := api.GetAll.Call(ctx, w.client, rpc.Peer{Addr: w.nodes[0].peer.Addr}, &gets)
			if err != nil {
				t.Fatal(err)
			}
			var again [][]byte
			for i, r := range got.Results {
				if len(r.Error) == 0 {
					continue
				}
				if err := rpc.ParseError(r.Error); !errors.Is(err, rpc.ErrOverloaded) {
					t.Fatal(err)
				}
				again = append(again, gets.Keys[i])
			}
			gets.Keys = again
		}
	})
}

// TestScanPagesAreBoundedInBytes, and together have every key once.
func TestScanPagesAreBoundedInBytes(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		for i := range 60 {
			w.mustPut(0, fmt.Sprintf("{tag}%03d", i), string(make([]byte, 100<<10)), nil)
		}
		w.mustPut(0, "{tag}", "the prefix itself", nil)
		req := api.ScanRequest{Partition: uint16(w.record.PartitionOf([]byte("{tag}"))), Prefix: []byte("{tag}"), R: api.Quorum}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		page, err := api.Scan.Call(ctx, w.client, rpc.Peer{Addr: w.nodes[1].peer.Addr}, &req)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(page.Items); n < 10 || n > 25 || len(page.Next) == 0 {
			t.Errorf("the first page has %d items of 100 KiB, next %q", n, page.Next)
		}
		if all := w.scanAll(1, req); len(all) != 61 {
			t.Errorf("scan found %d of 61 keys", len(all))
		}
		req.KeysOnly, req.Limit = true, 1
		if all := w.scanAll(1, req); len(all) != 61 {
			t.Errorf("scan of keys found %d of 61", len(all))
		}
	})
}

// TestScanOfLongKeys: a home's page is bounded in bytes too.
func TestScanOfLongKeys(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		for i := range 400 {
			key := append(fmt.Appendf(nil, "{tag}%03d", i), make([]byte, 4000)...)
			if _, err := w.put(0, api.PutRequest{Key: key, Value: []byte("v")}); err != nil {
				t.Fatal(err)
			}
		}
		req := api.ScanRequest{Partition: uint16(w.record.PartitionOf([]byte("{tag}"))), R: api.Quorum, Limit: 4096, KeysOnly: true}
		if all := w.scanAll(1, req); len(all) != 400 {
			t.Errorf("scan found %d of 400 keys", len(all))
		}
		for _, bad := range []api.ScanRequest{{Partition: 64}, {Limit: 4097}, {R: 4}, {Prefix: make([]byte, 5000)}} {
			if _, err := api.Scan.Call(context.Background(), w.client, rpc.Peer{Addr: w.nodes[1].peer.Addr}, &bad); err == nil {
				t.Errorf("scan of partition %d, limit %d, R=%d: taken", bad.Partition, bad.Limit, bad.R)
			}
		}
	})
}
