package kv_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/kithdb/kith/quorum"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

func set(values ...string) map[string]bool {
	m := map[string]bool{}
	for _, v := range values {
		m[v] = true
	}
	return m
}

func TestEveryNodeCoordinates(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		for i := range w.nodes {
			key := fmt.Sprintf("key-%d", i)
			resp := w.mustPut(i, key, "v", nil)
			if resp.Receipt.Need != 2 || len(resp.Receipt.Answered) < 2 {
				t.Errorf("receipt of %s: %+v", key, resp.Receipt)
			}
			for j := range w.nodes {
				if got := w.values(j, key, api.Quorum); !maps.Equal(got, set("v")) {
					t.Errorf("%s through node %d: %v", key, j, got)
				}
			}
		}
		if _, err := w.get(0, "never written", api.Quorum); err != nil {
			t.Error(err)
		}
	})
}

func TestWriteReachesEveryHome(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.mustPut(0, "k", "v", nil)
		time.Sleep(time.Second)
		first := w.own(0, "k")
		for i := range w.nodes {
			if r := w.own(i, "k"); r == nil || !r.Equal(first) {
				t.Errorf("home %d has %v", i, r)
			}
		}
	})
}

func TestLevelsAreBounded(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		for _, level := range []api.Level{4, 9, 251} {
			if _, err := w.put(0, api.PutRequest{Key: []byte("k"), W: level}); !errors.Is(err, api.ErrBadRequest) {
				t.Errorf("W=%d: %v", level, err)
			}
			if _, err := w.get(0, "k", level); !errors.Is(err, api.ErrBadRequest) {
				t.Errorf("R=%d: %v", level, err)
			}
		}
		for _, level := range []api.Level{api.One, 2, 3, api.Quorum, api.LocalQuorum, api.EachQuorum, api.All, api.Default} {
			if _, err := w.put(0, api.PutRequest{Key: []byte("k"), W: level}); err != nil {
				t.Errorf("W=%d: %v", level, err)
			}
			if _, err := w.get(0, "k", level); err != nil {
				t.Errorf("R=%d: %v", level, err)
			}
		}
	})
}

func TestBadInputIsRefused(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		cases := []struct {
			req  api.PutRequest
			want error
		}{
			{api.PutRequest{}, api.ErrBadRequest},
			{api.PutRequest{Key: make([]byte, 5000)}, api.ErrTooLarge},
			{api.PutRequest{Key: []byte("k"), Value: make([]byte, 1<<20+1)}, api.ErrTooLarge},
			{api.PutRequest{Key: []byte("k"), Value: []byte("v"), Delete: true}, api.ErrBadRequest},
			{api.PutRequest{Key: []byte("k"), Context: []byte("garbage")}, api.ErrBadRequest},
		}
		for _, c := range cases {
			if _, err := w.put(0, c.req); !errors.Is(err, c.want) {
				t.Errorf("key of %d bytes, value of %d: %v, want %v", len(c.req.Key), len(c.req.Value), err, c.want)
			}
		}
		if _, err := w.put(0, api.PutRequest{Key: []byte("k"), Value: make([]byte, 1<<20)}); err != nil {
			t.Errorf("a value at the limit: %v", err)
		}
	})
}

func TestContextOfAnotherKeyIsRefused(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		resp := w.mustPut(0, "a", "1", nil)
		if _, err := w.put(0, api.PutRequest{Key: []byte("b"), Value: []byte("2"), Context: resp.Context}); !errors.Is(err, api.ErrBadRequest) {
			t.Errorf("context of another key: %v", err)
		}
		if r := w.own(0, "b"); r != nil {
			t.Errorf("refused, and it exists: %v", r)
		}
	})
}

func TestSiblingsComeFromConcurrentWritersOnly(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.mustPut(0, "k", "base", nil)
		time.Sleep(time.Second)
		read, err := w.get(1, "k", api.Quorum)
		if err != nil {
			t.Fatal(err)
		}
		first := w.mustPut(0, "k", "left", read.Context)
		w.mustPut(1, "k", "right", read.Context)
		if got := w.values(2, "k", api.All); !maps.Equal(got, set("left", "right")) {
			t.Fatalf("after two writers that saw the same: %v", got)
		}
		// The first writer goes on from its own write: the other's stays.
		w.mustPut(0, "k", "left 2", first.Context)
		if got := w.values(2, "k", api.All); !maps.Equal(got, set("left 2", "right")) {
			t.Fatalf("after the first went on: %v", got)
		}
		both, err := w.get(2, "k", api.All)
		if err != nil {
			t.Fatal(err)
		}
		w.mustPut(2, "k", "merged", both.Context)
		if got := w.values(0, "k", api.All); !maps.Equal(got, set("merged")) {
			t.Fatalf("after a writer that saw both: %v", got)
		}
	})
}

// TestContextOfAPutNeverCoversTheUnseen is decision 002: both writers go through
// one home, so that their dots have one actor.
func TestContextOfAPutNeverCoversTheUnseen(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		base := w.mustPut(0, "k", "base", nil)
		w.mustPut(0, "k", "left", base.Context)
		right := w.mustPut(0, "k", "right", base.Context)
		w.mustPut(0, "k", "right 2", right.Context)
		if got := w.values(1, "k", api.All); !got["left"] {
			t.Errorf("a value that nobody has seen was replaced: %v", got)
		}
	})
}

func TestDeleteReadsAsNotFound(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.mustPut(0, "k", "v", nil)
		if _, err := w.put(1, api.PutRequest{Key: []byte("k"), Delete: true}); err != nil {
			t.Fatal(err)
		}
		resp, err := w.get(2, "k", api.Quorum)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Found {
			t.Errorf("found after a delete: %+v", resp.Values)
		}
		w.mustPut(2, "k", "again", resp.Context)
		if got := w.values(0, "k", api.Quorum); !maps.Equal(got, set("again")) {
			t.Errorf("after writing again: %v", got)
		}
	})
}

// TestFault02_TooFewHomesIsRefusedAtOnce: once the circuits know, nothing is
// minted for a write that cannot get its acks.
func TestFault02_TooFewHomesIsRefusedAtOnce(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.net.Partition([]string{w.nodes[0].host.Name()}, []string{w.nodes[1].host.Name(), w.nodes[2].host.Name()})
		_, err := w.put(0, api.PutRequest{Key: []byte("first"), Value: []byte("v")})
		if !errors.Is(err, api.ErrUnknown) {
			t.Fatalf("before the circuits know: %v", err)
		}
		var unmet *quorum.UnmetError
		if !errors.As(err, &unmet) || unmet.Need != 2 || unmet.Got != 1 || len(unmet.Homes) != 3 {
			t.Errorf("the error does not name the homes: %v", err)
		}
		for range 20 {
			if w.nodes[0].guard.Open(nodeID(1)) && w.nodes[0].guard.Open(nodeID(2)) {
				break
			}
			w.get(0, "x", api.All)
		}
		start := time.Now()
		_, err = w.put(0, api.PutRequest{Key: []byte("second"), Value: []byte("v")})
		if !errors.Is(err, api.ErrUnavailable) || errors.Is(err, api.ErrUnknown) {
			t.Fatalf("once they know: %v", err)
		}
		if took := time.Since(start); took > 50*time.Millisecond {
			t.Errorf("the refusal took %v", took)
		}
		if w.own(0, "second") != nil {
			t.Error("refused, and it exists")
		}
		if _, err := w.get(0, "first", api.One); err != nil {
			t.Errorf("R=one on the minority: %v", err)
		}
		w.mustPut(1, "third", "v", nil) // the majority goes on
	})
}

// TestReadNeverGoesBackwards: a read at quorum that saw a value on one home
// makes a later one see it, whichever homes that asks.
func TestReadNeverGoesBackwards(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.mustPut(0, "k", "old", nil)
		time.Sleep(time.Second)
		// The new value reaches the first home only.
		cut := func() {
			for _, other := range w.nodes[1:] {
				w.net.Cut(w.nodes[0].host.Name(), other.host.Name())
			}
		}
		cut()
		if _, err := w.put(0, api.PutRequest{Key: []byte("k"), Value: []byte("new"), W: api.One}); err != nil {
			t.Fatal(err)
		}
		w.net.Heal()
		time.Sleep(30 * time.Second)
		if got := w.values(0, "k", api.Quorum); !maps.Equal(got, set("new")) {
			t.Fatalf("the home that has it: %v", got)
		}
		w.halt(0)
		time.Sleep(time.Second)
		if got := w.values(1, "k", api.Quorum); !maps.Equal(got, set("new")) {
			t.Errorf("the read went backwards: %v", got)
		}
	})
}

func TestForwardingIsOneHop(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		_, others := w.homes("k")
		_, err := w.put(others[0], api.PutRequest{Key: []byte("k"), Value: []byte("v"), Forwarded: true})
		if !errors.Is(err, api.ErrNotHome) {
			t.Errorf("a forwarded put at a node that is no home: %v", err)
		}
	})
}

// TestForwardThatTimesOutIsUnknown: it may have arrived, so that no second home
// may mint it.
func TestForwardThatTimesOutIsUnknown(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		homes, others := w.homes("k")
		via := w.nodes[others[0]]
		for _, h := range homes { // answers are lost, requests arrive
			w.net.Cut(w.nodes[h].host.Name(), via.host.Name())
		}
		_, err := w.put(others[0], api.PutRequest{Key: []byte("k"), Value: []byte("v")})
		if err == nil {
			t.Fatal("done without an answer")
		}
		w.net.Heal()
		time.Sleep(30 * time.Second)
		resp, err2 := w.get(homes[0], "k", api.All)
		if err2 != nil {
			t.Fatal(err2)
		}
		if len(resp.Values) > 1 {
			t.Errorf("minted twice: %+v", resp.Values)
		}
		if len(resp.Values) == 1 && !errors.Is(err, api.ErrUnknown) {
			t.Errorf("it exists, and the outcome was %v", err)
		}
	})
}

func TestBatchesHaveAnOutcomeForEachKey(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		to := rpc.Peer{Addr: w.nodes[0].peer.Addr}
		puts, err := api.PutAll.Call(ctx, w.client, to, &api.PutAllRequest{Puts: []api.PutRequest{
			{Key: []byte("a"), Value: []byte("1")}, {}, {Key: []byte("b"), Value: []byte("2")},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if len(puts.Results[0].Error) > 0 || len(puts.Results[2].Error) > 0 {
			t.Errorf("good puts: %v", puts.Results)
		}
		if err := rpc.ParseError(puts.Results[1].Error); !errors.Is(err, api.ErrBadRequest) {
			t.Errorf("a put without key: %v", err)
		}
		gets, err := api.GetAll.Call(ctx, w.client, to, &api.GetAllRequest{Keys: [][]byte{[]byte("b"), []byte("c"), []byte("a")}})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"2", "", "1"} {
			r := gets.Results[i].Response
			if r.Found != (want != "") || r.Found && !bytes.Equal(r.Values[r.Winner].Data, []byte(want)) {
				t.Errorf("item %d: %+v, want %q", i, r, want)
			}
		}
	})
}

func TestScanFindsEveryAcknowledgedKey(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		want := map[string]string{}
		for i := range 150 {
			key, value := fmt.Sprintf("{tag}key-%03d", i), fmt.Sprint(i)
			homes, _ := w.homes(key)
			// Each write misses one home.
			missing := w.nodes[homes[i%3]].host.Name()
			coordinator := homes[(i+1)%3]
			w.net.Cut(w.nodes[coordinator].host.Name(), missing)
			w.mustPut(coordinator, key, value, nil)
			w.net.Heal()
			want[key] = value
		}
		if _, err := w.put(0, api.PutRequest{Key: []byte("{tag}key-007"), Delete: true}); err != nil {
			t.Fatal(err)
		}
		delete(want, "{tag}key-007")
		got := w.scanAll(4, api.ScanRequest{
			Partition: uint16(w.record.PartitionOf([]byte("{tag}"))), Prefix: []byte("{tag}key-"), Limit: 20, R: api.Quorum,
		})
		if !maps.Equal(got, want) {
			t.Errorf("scan found %d keys, want %d", len(got), len(want))
		}
	})
}
