package kv_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/node/kv"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/sim/network"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// world is some homes on a simulated network and simulated disks, in a synctest
// bubble. They begin with one ring record; see rings_test.go for others.
type world struct {
	t       *testing.T
	net     *network.Network
	record  *ring.Record
	members []ring.Member
	nodes   []*home
	client  *network.Host
}

// home is what runs on one node.
type home struct {
	w     *world
	id    ring.NodeID
	name  string
	peer  rpc.Peer
	host  *network.Host
	mux   *rpc.Mux
	disk  *disk.Disk
	store *store.Store
	guard *rpc.Guard
	kv    *kv.Coordinator
	rings rings
	stop  context.CancelFunc
	ended chan struct{}

	offset atomic.Int64           // of its clock, in nanoseconds
	frozen atomic.Int64           // what its clock shows if it stands still, in nanoseconds since 1970
	behind atomic.Bool            // its repair says that its copies do not count
	asked  atomic.Pointer[func()] // called first when it is asked what it has pulled
	deaf   atomic.Uint64          // bit i: it has not heard yet where node i is
}

// now is the node's wall clock.
func (h *home) now() time.Time {
	if at := h.frozen.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Now().Add(time.Duration(h.offset.Load()))
}

// Counts implements kv.Repair.
func (h *home) Counts(ring.Partition) bool { return !h.behind.Load() }

// pulled is what it has noted.
func (h *home) pulled(p ring.Partition) ring.Pulled {
	if f := h.asked.Load(); f != nil {
		(*f)()
	}
	return h.store.Pulled(p)
}

// View implements kv.Members.
func (h *home) View() *gossip.View {
	v := new(gossip.View)
	for i, o := range h.w.nodes {
		if h.deaf.Load()>>i&1 == 1 {
			continue
		}
		v.Peers = append(v.Peers, gossip.Peer{ID: o.id, Name: o.name, RPCAddr: o.peer.Addr, Alive: true})
	}
	return v
}

const skewMax = 2 * time.Second

func nodeID(i int) ring.NodeID { return ring.NodeID{0: byte(i + 1), 15: 1} }

// inWorld runs f with n nodes and the given number of replicas.
func inWorld(t *testing.T, n, replicas int, f func(w *world)) {
	inSeededWorld(t, 1, n, replicas, f)
}

// inSeededWorld is inWorld with another source of chance.
func inSeededWorld(t *testing.T, seed uint64, n, replicas int, f func(w *world)) {
	inZones(t, seed, make([]string, n), replicas, f)
}

// inZones is inSeededWorld with a node in each of the zones named.
func inZones(t *testing.T, seed uint64, zones []string, replicas int, f func(w *world)) {
	n := len(zones)
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: network.New(network.Config{
			Seed:       seed,
			Duplicable: func(route string) bool { return route == "kv.merge" || route == "kv.read" },
		})}
		for i := range n {
			w.members = append(w.members, ring.Member{ID: nodeID(i), Name: fmt.Sprintf("n%d", i+1), Zone: zones[i], Weight: 1, State: ring.Active})
		}
		first, err := ring.Found(ring.ClusterID{1}, "test", w.members[0], 64, replicas)
		if err != nil {
			t.Fatal(err)
		}
		if w.record, err = first.WithTable(w.members); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			h := &home{w: w, id: nodeID(i), name: w.members[i].Name, disk: disk.New(seed<<8 + uint64(i+1))}
			h.rings.init(h, w.record)
			h.mux = rpc.NewMux(rpc.MuxConfig{})
			h.peer = rpc.Peer{ID: h.id, Addr: fmt.Sprintf("10.0.0.%d:7600", i+1)}
			h.host = w.net.Host(h.peer, nil)
			w.nodes = append(w.nodes, h)
		}
		for i := range w.nodes {
			w.start(i)
		}
		w.client = w.net.Host(rpc.Peer{Addr: "10.0.0.99:1"}, nil)
		defer func() { // also after a failure that ended f
			for i := range w.nodes {
				w.halt(i)
			}
			w.client.Close()
			w.net.Close()
			time.Sleep(3 * time.Second) // goleveldb's pools end a while after Close
		}()
		f(w)
	})
}

func (w *world) start(i int) {
	h := w.nodes[i]
	var err error
	seed := uint64(i+1) << 32
	h.store, err = store.Open(h.disk.Open(), store.Options{
		Now: h.now, ClockSlack: 2 * time.Second, RecordMax: 2 << 20,
		Rand: func() uint64 { seed += 0x9e3779b97f4a7c15; return seed + uint64(time.Now().UnixNano()) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := h.rings.store(); err != nil {
		w.t.Fatal(err)
	}
	h.guard = rpc.NewGuard(h.host, rpc.GuardConfig{})
	h.kv = kv.New(kv.Config{
		Self: h.id, Store: h.store, Rings: &h.rings, Members: h, Transport: h.guard, Circuits: h.guard,
		Clock: version.NewClock(h.now, skewMax), SkewMax: skewMax, Now: h.now, Repair: h, Pulled: h.pulled, Logger: slog.New(slog.DiscardHandler),
	})
	h.mux = rpc.NewMux(rpc.MuxConfig{})
	h.kv.Register(h.mux)
	pullRoute.Handle(h.mux, rpc.ClassControl, h.rings.serve)
	h.host.Listen(h.mux)
	var ctx context.Context
	ctx, h.stop = context.WithCancel(context.Background())
	h.ended = make(chan struct{})
	go func() {
		h.guard.Run(ctx)
		close(h.ended)
	}()
}

func (w *world) halt(i int) {
	h := w.nodes[i]
	if h.store == nil {
		return
	}
	h.host.Close()
	h.stop()
	<-h.ended
	h.mux.Close()
	h.kv.Close()
	h.store.Close()
	h.store = nil
}

// put writes through node i.
func (w *world) put(i int, req api.PutRequest) (*api.PutResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return api.Put.Call(ctx, w.client, rpc.Peer{Addr: w.nodes[i].peer.Addr}, &req)
}

// get reads through node i.
func (w *world) get(i int, key string, r api.Level) (*api.GetResponse, error) {
	return w.getIn(i, "", key, r)
}

// getIn is get for somebody in a zone.
func (w *world) getIn(i int, zone, key string, r api.Level) (*api.GetResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return api.Get.Call(ctx, w.client, rpc.Peer{Addr: w.nodes[i].peer.Addr}, &api.GetRequest{Key: []byte(key), R: r, Zone: zone})
}

func (w *world) mustPut(i int, key, value string, context []byte) *api.PutResponse {
	w.t.Helper()
	resp, err := w.put(i, api.PutRequest{Key: []byte(key), Value: []byte(value), Context: context})
	if err != nil {
		w.t.Fatalf("put %s through %s: %v", key, w.nodes[i].name, err)
	}
	return resp
}

// values reads the live siblings through node i.
func (w *world) values(i int, key string, r api.Level) map[string]bool {
	w.t.Helper()
	resp, err := w.get(i, key, r)
	if err != nil {
		w.t.Fatalf("get %s through %s: %v", key, w.nodes[i].name, err)
	}
	all := map[string]bool{}
	for _, v := range resp.Values {
		if !v.Tombstone {
			all[string(v.Data)] = true
		}
	}
	return all
}

// scan reads a page through node i.
func (w *world) scan(i int, req api.ScanRequest) (*api.ScanResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return api.Scan.Call(ctx, w.client, rpc.Peer{Addr: w.nodes[i].peer.Addr}, &req)
}

// scanAll reads all pages of a scan through node i.
func (w *world) scanAll(i int, req api.ScanRequest) map[string]string {
	w.t.Helper()
	all := map[string]string{}
	for {
		page, err := w.scan(i, req)
		if err != nil {
			w.t.Fatalf("scan through %s: %v", w.nodes[i].name, err)
		}
		for _, item := range page.Items {
			if _, twice := all[string(item.Key)]; twice {
				w.t.Fatalf("scan gives %s twice", item.Key)
			}
			all[string(item.Key)] = string(item.Value)
		}
		if len(page.Next) == 0 {
			return all
		}
		req.After = page.Next
	}
}

// token is what a client would have been given for a context.
func (w *world) token(key string, seen version.Context) []byte {
	return version.AppendToken(nil, w.record.Cluster, []byte(key), seen)
}

// homes are the indexes of the nodes that keep a key, and of the others.
func (w *world) homes(key string) (homes, others []int) {
	p := w.record.PartitionOf([]byte(key))
	for i, h := range w.nodes {
		if w.record.HomeIndex(p, h.id) >= 0 {
			homes = append(homes, i)
		} else {
			others = append(others, i)
		}
	}
	return homes, others
}

// own is what node i has on its disk; nil for nothing.
func (w *world) own(i int, key string) *version.Record {
	w.t.Helper()
	b, err := w.nodes[i].store.Get(w.record.PartitionOf([]byte(key)), []byte(key))
	if err != nil {
		w.t.Fatal(err)
	}
	if b == nil {
		return nil
	}
	r, err := version.Parse(b)
	if err != nil {
		w.t.Fatal(err)
	}
	return &r
}
