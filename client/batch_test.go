package client_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

func puts(n int) (out []client.Put, keys [][]byte) {
	for i := range n {
		key := []byte(fmt.Sprintf("key-%d", i))
		keys = append(keys, key)
		out = append(out, client.Put{Key: key, Value: []byte(fmt.Sprintf("value-%d", i))})
	}
	return out, keys
}

func TestBatchKeepsOrderAndGoesToTheFirstHomes(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		all, keys := puts(1000)
		for i, r := range c.PutAll(ctx, all) {
			key := string(all[i].Key)
			if r.Err != nil || r.Receipt.Coordinator != w.homes(key)[0].id || string(r.Context) != "after "+key {
				t.Fatalf("%s: %+v", key, r)
			}
		}
		for i, r := range c.GetAll(ctx, keys) {
			if r.Err != nil || string(r.Value) != string(all[i].Value) {
				t.Fatalf("%s: %q, %v", keys[i], r.Value, r.Err)
			}
		}
		if c.PutAll(ctx, nil) == nil || c.GetAll(ctx, nil) == nil {
			t.Fatal("a batch of nothing has no outcomes, but they are there")
		}
	})
}

func TestBatchOutcomesAreEachTheirOwn(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		refuse := func(key []byte) error {
			switch string(key) {
			case "key-1":
				return api.ErrUnavailable
			case "key-2":
				return api.ErrUnknown
			case "key-3":
				return api.ErrTooManySiblings
			}
			return nil
		}
		for _, n := range w.nodes {
			n.set(func(n *far) { n.refuse = refuse })
		}
		all, _ := puts(5)
		all = append(all, client.Put{Key: nil}, client.Put{Key: []byte("gone"), Delete: true})
		got := c.PutAll(ctx, all)
		for i, want := range []error{nil, client.ErrUnavailable, client.ErrUnknown, client.ErrTooManySiblings, nil, client.ErrBadRequest, nil} {
			if (want == nil) != (got[i].Err == nil) || !errors.Is(got[i].Err, want) {
				t.Errorf("%q: got %v, want %v", all[i].Key, got[i].Err, want)
			}
			if client.Unknown(got[i].Err) != (want == client.ErrUnknown) {
				t.Errorf("%q: unknown is %v", all[i].Key, client.Unknown(got[i].Err))
			}
		}
		if !strings.Contains(got[1].Err.Error(), "key-1") {
			t.Errorf("%v does not name its key", got[1].Err)
		}
		// The refused one was asked for at every node, the others once.
		count := map[string]int{}
		for _, n := range w.nodes {
			for _, p := range n.puts {
				count[string(p.Key)]++
			}
		}
		if count["key-1"] != 3 || count["key-2"] != 1 || count["key-3"] != 1 {
			t.Errorf("asked %v", count)
		}
	})
}

func TestBatchWithAHomeDownGoesToTheNext(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		w.nodes[2].host.Crash()
		all, keys := puts(200)
		for i, r := range c.PutAll(ctx, all) {
			if r.Err != nil {
				t.Fatalf("%s: %v", all[i].Key, r.Err)
			}
		}
		if got := w.totalPuts(); got != 200 {
			t.Fatalf("%d puts came for 200 keys", got)
		}
		for i, r := range c.GetAll(ctx, keys) {
			if r.Err != nil || string(r.Value) != string(all[i].Value) {
				t.Fatalf("%s: %q, %v", keys[i], r.Value, r.Err)
			}
		}
	})
}

func TestBatchWithAHomeThatHangsIsUnknownThereOnly(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, w *world) {
		c := w.dial(client.WithTimeout(time.Second))
		defer c.Close()
		w.nodes[2].set(func(n *far) { n.swallow = true })
		all, keys := puts(200)
		lost := 0
		for i, r := range c.PutAll(ctx, all) {
			there := w.homes(string(all[i].Key))[0] == w.nodes[2]
			if there != client.Unknown(r.Err) || !there && r.Err != nil {
				t.Fatalf("%s: %v", all[i].Key, r.Err)
			}
			if there {
				lost++
			}
		}
		if lost == 0 || w.totalPuts() != 200-lost+w.nodes[2].putCount() {
			t.Fatalf("%d unknown, %d sent", lost, w.totalPuts())
		}
		for i, r := range c.GetAll(ctx, keys) { // reads go on elsewhere
			if r.Err != nil && !errors.Is(r.Err, client.ErrNotFound) {
				t.Fatalf("%s: %v", keys[i], r.Err)
			}
		}
	})
}

func TestReadsThatDoNotFitOneReplyAreAskedForAlone(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		all, keys := puts(50)
		c.PutAll(ctx, all)
		for _, n := range w.nodes {
			n.set(func(n *far) {
				n.getAll = func(*api.GetAllRequest) error { return rpc.ErrTooLarge }
			})
		}
		for i, r := range c.GetAll(ctx, keys) {
			if r.Err != nil || string(r.Value) != string(all[i].Value) {
				t.Fatalf("%s: %q, %v", keys[i], r.Value, r.Err)
			}
		}
	})
}

func TestScanGivesEveryKeyOnceSortedWithinPartitions(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		all, _ := puts(500)
		all = append(all, client.Put{Key: []byte("other"), Value: []byte{}})
		c.PutAll(ctx, all)
		for _, tc := range []struct {
			prefix string
			want   int
		}{{"", 501}, {"key-", 500}, {"key-1", 111}, {"other", 1}, {"none", 0}} {
			var got []string
			last, lastKey := -1, ""
			for it, err := range c.Scan(ctx, []byte(tc.prefix)) {
				if err != nil {
					t.Fatal(err)
				}
				if int(it.Partition) < last || int(it.Partition) == last && string(it.Key) <= lastKey {
					t.Fatalf("%s in partition %d behind %s in %d", it.Key, it.Partition, lastKey, last)
				}
				if last, lastKey = int(it.Partition), string(it.Key); it.Value == nil {
					t.Fatalf("%s has no value", it.Key)
				}
				got = append(got, string(it.Key))
			}
			slices.Sort(got)
			if got = slices.Compact(got); len(got) != tc.want {
				t.Fatalf("prefix %q: %d keys, want %d", tc.prefix, len(got), tc.want)
			}
		}
	})
}

func TestScanOfAHashTagReadsItsPartitionOnly(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		for i := range 20 {
			if _, err := c.Put(ctx, []byte(fmt.Sprintf("{u1}:%d", i)), nil); err != nil {
				t.Fatal(err)
			}
		}
		before := w.net.Counts().Sent
		n := 0
		for _, err := range c.Scan(ctx, []byte("{u1}:")) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != 20 || w.net.Counts().Sent-before > 20 {
			t.Fatalf("%d keys by %d requests", n, w.net.Counts().Sent-before)
		}
	})
}

func TestScanEndsLoudlyWhenAPartitionCannotBeRead(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		all, _ := puts(300)
		c.PutAll(ctx, all)
		for _, n := range w.nodes {
			n.set(func(n *far) { n.refuse = always(api.ErrUnavailable) })
		}
		var last error
		for it, err := range c.Scan(ctx, nil) {
			if last != nil {
				t.Fatalf("it went on to %s after %v", it.Key, last)
			}
			last = err
		}
		var e *client.Error
		if !errors.As(last, &e) || !errors.Is(last, client.ErrUnavailable) || !strings.Contains(last.Error(), "partition") {
			t.Fatalf("got %v", last)
		}
	})
}

func TestScanCanBeLeftEarly(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		all, _ := puts(300)
		c.PutAll(ctx, all)
		n := 0
		for _, err := range c.Scan(ctx, nil) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 5 {
				break
			}
		}
		if n != 5 {
			t.Fatalf("%d keys", n)
		}
	})
}
