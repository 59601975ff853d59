package kv_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/node/kv"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// near is some nodes in one process: a request runs on its sender's goroutine, so
// that everything completes inside Send where it can.
type near struct {
	record *ring.Record
	view   atomic.Pointer[gossip.View] // nil until all have their routes
	muxes  map[string]*rpc.Mux
	kvs    []*kv.Coordinator
	ends   []func()
}

// nearTransport is one node's.
type nearTransport struct {
	n    *near
	self rpc.Peer
}

// Send implements rpc.Transport.
func (t nearTransport) Send(to rpc.Peer, route string, msg any, deadline time.Time, c rpc.Completer) {
	body, err := rpc.AppendMessage(nil, msg)
	if err != nil {
		c.Complete(nil, err)
		return
	}
	t.n.muxes[to.Addr].Serve(t.self, route, body, deadline, c.Complete)
}

func (n *near) Current() *ring.Record                         { return n.record }
func (n *near) Changed() <-chan struct{}                      { return nil }
func (n *near) Founding() (have, want int)                    { return 0, 0 }
func (n *near) View() *gossip.View                            { return n.view.Load() }
func (n *near) Learn(context.Context, rpc.Peer, uint64) error { return api.ErrNotReady }
func (n *near) Peer(i int) rpc.Peer                           { return rpc.Peer{ID: nodeID(i), Addr: fmt.Sprint("near:", i)} }

// newNear makes three nodes that are the homes of everything.
func newNear(tb testing.TB) *near {
	n := &near{muxes: map[string]*rpc.Mux{}}
	var members []ring.Member
	view := new(gossip.View)
	for i := range 3 {
		members = append(members, ring.Member{ID: nodeID(i), Name: fmt.Sprint("n", i), Weight: 1, State: ring.Active})
		view.Peers = append(view.Peers, gossip.Peer{ID: nodeID(i), RPCAddr: n.Peer(i).Addr, Alive: true})
		n.muxes[n.Peer(i).Addr] = rpc.NewMux(rpc.MuxConfig{})
	}
	first, err := ring.Found(ring.ClusterID{1}, "near", members[0], 64, 3)
	if err == nil {
		n.record, err = first.WithTable(members)
	}
	if err != nil {
		tb.Fatal(err)
	}
	for i := range 3 {
		s, err := store.Open(disk.New(uint64(i)).Open(), store.Options{})
		if err != nil {
			tb.Fatal(err)
		}
		guard := rpc.NewGuard(nearTransport{n, n.Peer(i)}, rpc.GuardConfig{})
		c := kv.New(kv.Config{
			Self: nodeID(i), Store: s, Rings: n, Members: n, Transport: guard, Circuits: guard,
			Clock: version.NewClock(time.Now, skewMax), SkewMax: skewMax, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		})
		c.Register(n.muxes[n.Peer(i).Addr])
		n.kvs = append(n.kvs, c)
		var once sync.Once
		n.ends = append(n.ends, func() {
			once.Do(func() {
				n.muxes[n.Peer(i).Addr].Close()
				c.Close()
				s.Close()
			})
		})
		tb.Cleanup(n.ends[i])
	}
	n.view.Store(view)
	return n
}

func (n *near) close(i int) { n.ends[i]() }

// BenchmarkPut and BenchmarkGet count what coordinator and homes do together for
// one operation, encoding included and the network not.
func BenchmarkPut(b *testing.B) {
	n := newNear(b)
	value := bytes.Repeat([]byte("x"), 128)
	each(b, func(told outcomes, i int) error {
		n.kvs[0].Put(&api.PutRequest{Key: benchKey(i), Value: value, W: 2}, time.Now().Add(5*time.Second), told)
		return <-told
	})
}

func BenchmarkGet(b *testing.B) {
	n := newNear(b)
	told := make(outcomes, 1)
	for i := range benchKeys {
		n.kvs[0].Put(&api.PutRequest{Key: benchKey(i), Value: bytes.Repeat([]byte("x"), 128), W: 3}, time.Now().Add(5*time.Second), told)
		if err := <-told; err != nil {
			b.Fatal(err)
		}
	}
	each(b, func(told outcomes, i int) error {
		n.kvs[0].Get(&api.GetRequest{Key: benchKey(i), R: 2}, time.Now().Add(5*time.Second), told)
		return <-told
	})
}

const benchKeys = 1000

func benchKey(i int) []byte { return fmt.Appendf(nil, "key-%04d", i%benchKeys) }

// each runs op b.N times from 64 callers.
func each(b *testing.B, op func(told outcomes, i int) error) {
	b.ReportAllocs()
	b.ResetTimer()
	var callers sync.WaitGroup
	for c := range 64 {
		callers.Go(func() {
			told := make(outcomes, 1)
			for i := c; i < b.N; i += 64 {
				if err := op(told, i); err != nil {
					b.Error(err)
				}
			}
		})
	}
	callers.Wait()
}
