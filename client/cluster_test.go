package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
)

func TestDialTriesEveryAddress(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		w.nodes[0].host.PowerOff()
		w.nodes[1].host.Crash()
		begun := time.Now()
		c := w.dial()
		defer c.Close()
		if took := time.Since(begun); took > time.Second {
			t.Errorf("took %v: an address that is silent must not hold up the next", took)
		}
		if c.ClusterID() != w.record.Cluster || c.Partitions() != 64 {
			t.Errorf("cluster %v, %d partitions", c.ClusterID(), c.Partitions())
		}
	})
}

func TestDialTellsEveryReason(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, w *world) {
		w.nodes[0].host.PowerOff()
		w.nodes[1].host.Crash()
		begun := time.Now()
		_, err := client.Dial(ctx, w.addrs(), client.WithTransport(w.me), client.WithTimeout(2*time.Second))
		if !errors.Is(err, client.ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
		for _, a := range w.addrs() {
			if !strings.Contains(err.Error(), a) {
				t.Errorf("%v does not name %s", err, a)
			}
		}
		if took := time.Since(begun); took > 2100*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

func TestDialRefusesAddressesThatAreNone(t *testing.T) {
	for _, addrs := range [][]string{nil, {"localhost"}, {"127.0.0.1:7600", "x:"}} {
		if _, err := client.Dial(ctx, addrs); !errors.Is(err, client.ErrBadRequest) {
			t.Errorf("%q: %v", addrs, err)
		}
	}
}

func TestClientOfANewcomerServesOnceItIsFounded(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		founded := w.record
		w.record = nil
		c := w.dial()
		defer c.Close()
		if _, err := c.Ring(ctx); !errors.Is(err, client.ErrNotReady) {
			t.Fatalf("got %v", err)
		}
		for _, err := range c.Scan(ctx, nil) {
			if !errors.Is(err, client.ErrNotReady) {
				t.Fatalf("scan: %v", err)
			}
		}
		w.mu.Lock()
		w.record = founded
		w.mu.Unlock()
		time.Sleep(time.Second)
		done, err := c.Put(ctx, []byte("k"), nil)
		if err != nil || done.Receipt.Coordinator != w.homes("k")[0].id {
			t.Fatalf("got %v, %v", done.Receipt.Coordinator, err)
		}
	})
}

func TestClusterIsPinned(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		other := table(t, ring.ClusterID{2}, w.record.Members)
		for _, n := range w.nodes {
			n.set(func(n *far) {
				n.record, _ = other.WithStandby(ring.Member{ID: ring.NodeID{77}, Name: "x", Weight: 1})
			})
		}
		if _, err := c.Ring(ctx); !errors.Is(err, client.ErrWrongCluster) {
			t.Fatalf("got %v", err)
		}
		if c.ClusterID() != w.record.Cluster {
			t.Fatalf("now of %v", c.ClusterID())
		}
	})
}

func TestRingIsFetchedWhenAReceiptIsNewer(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		next, err := w.record.WithStandby(ring.Member{ID: ring.NodeID{77}, Name: "x", Weight: 1})
		if err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		w.record = next
		w.mu.Unlock()
		before := w.ringCount(next.Epoch - 1)
		time.Sleep(time.Minute)
		if n := w.ringCount(next.Epoch-1) - before; n != 0 {
			t.Fatalf("it was asked for %d times while nothing had changed", n)
		}
		if _, err := c.Put(ctx, []byte("k"), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if n := w.ringCount(next.Epoch-1) - before; n != 1 {
			t.Fatalf("it was asked for %d times", n)
		}
		got, err := c.Ring(ctx)
		if n := w.ringCount(next.Epoch); n != 1 {
			t.Fatalf("the newer ring was not known: %d", n)
		}
		if err != nil || got.Record.Epoch != next.Epoch || len(got.Members) != 3 {
			t.Fatalf("got %+v, %v", got, err)
		}
	})
}

func TestMemberWithANewAddressIsFound(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		home := w.homes("k")[0]
		for i, n := range w.nodes {
			if n == home {
				w.restart(i, "10.0.1.1:7600")
			}
		}
		if _, err := c.Put(ctx, []byte("k"), nil); err != nil {
			t.Fatalf("while it is sought: %v", err)
		}
		time.Sleep(3 * time.Second)
		done, err := c.Put(ctx, []byte("k"), nil)
		if err != nil || done.Receipt.Coordinator != home.id {
			t.Fatalf("got %v, %v", done.Receipt.Coordinator, err)
		}
		if n := w.homes("k")[0].putCount(); n != 1 {
			t.Fatalf("%d puts came to the new address", n)
		}
	})
}

func TestAddressThatANodeForgotIsKept(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		for _, n := range w.nodes {
			n.set(func(n *far) { n.forgetful = true })
		}
		if _, err := c.Ring(ctx); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
			done, err := c.Put(ctx, []byte(key), nil)
			if err != nil || done.Receipt.Coordinator != w.homes(key)[0].id {
				t.Fatalf("%s: %v, %v", key, done.Receipt.Coordinator, err)
			}
		}
	})
}

func TestDirectClientAsksItsAddressesOnly(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, w *world) {
		for i, n := range w.nodes {
			c, err := client.Dial(ctx, []string{n.peer.Addr}, client.WithTransport(w.me), client.Direct())
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
				done, err := c.Put(ctx, []byte(key), nil)
				if err != nil || done.Receipt.Coordinator != n.id {
					t.Fatalf("%v, %v", done.Receipt.Coordinator, err)
				}
			}
			for _, r := range c.PutAll(ctx, []client.Put{{Key: []byte("x")}, {Key: []byte("y")}}) {
				if r.Err != nil || r.Receipt.Coordinator != n.id {
					t.Fatalf("batch: %v, %v", r.Receipt.Coordinator, r.Err)
				}
			}
			n.host.Crash()
			time.Sleep(time.Second)
			if _, err := c.Put(ctx, []byte("a"), nil); !errors.Is(err, client.ErrUnavailable) {
				t.Fatalf("node %d is down: %v", i, err)
			}
			c.Close()
		}
	})
}

func TestStatusComesFromANodeThatAnswers(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		w.nodes[0].host.Crash()
		w.nodes[1].host.Pause()
		for range 6 {
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			st, err := c.Status(ctx)
			cancel()
			if err != nil || st.Node != w.nodes[2].id.String() {
				t.Fatalf("got %+v, %v", st, err)
			}
		}
	})
}
