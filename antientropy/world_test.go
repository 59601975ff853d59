package antientropy

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/sim/network"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is some homes on a simulated network, in a synctest bubble.
type world struct {
	t     *testing.T
	net   *network.Network
	rec   *ring.Record
	nodes []*home
	// counts of what arrived.
	mu    sync.Mutex
	bytes map[string]int // by route, both ways
	calls map[string]int
	// answers by who gave and who got them, and the route.
	answers map[string]int
	draws   uint64
}

// home is what runs on one node.
type home struct {
	w      *world
	i      int
	id     ring.NodeID
	peer   rpc.Peer
	host   *network.Host
	store  *memStore
	disk   *realDisk // in place of store, where stores are real
	guard  *rpc.Guard
	mux    *rpc.Mux
	repair *Repair
	stop   context.CancelFunc
	ended  sync.WaitGroup
	tune   func(*Config)
	on     bool

	mu      sync.Mutex // guards what follows
	held    *ring.Record
	changed chan struct{}
	hidden  map[ring.NodeID]bool // members whose address is not known
	learned func()               // called when a record was learned
}

// Current implements Rings.
func (h *home) Current() *ring.Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held
}

// Changed implements Rings and Members.
func (h *home) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

// adopt gives the node a ring record.
func (h *home) adopt(rec *ring.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = rec
	close(h.changed)
	h.changed = make(chan struct{})
}

// Learn implements Rings.
func (h *home) Learn(_ context.Context, from rpc.Peer, epoch uint64) error {
	for _, o := range h.w.nodes {
		if o.id != from.ID {
			continue
		}
		rec := o.Current()
		if rec == nil || rec.Epoch < epoch {
			return fmt.Errorf("%s holds no record of epoch %d", o.id.Short(), epoch)
		}
		h.take(rec)
		if h.learned != nil {
			h.learned()
		}
		return nil
	}
	return fmt.Errorf("%s is nobody", from.ID.Short())
}

// take adopts a ring record as a node does: durably, with its fences, and without the
// partitions that are not this node's any more.
func (h *home) take(rec *ring.Record) {
	prev := h.Current()
	if prev.Epoch >= rec.Epoch {
		return
	}
	var drops []ring.Partition
	for p := range ring.Partition(rec.Partitions) {
		if rec.Drops(prev, p, h.id) {
			drops = append(drops, p)
		}
	}
	if h.disk != nil {
		h.disk.adopt(rec, drops)
	} else {
		h.store.adopt(rec, drops)
	}
	h.adopt(rec)
}

// storage is the store that the node works with.
func (h *home) storage() Store {
	if h.disk != nil {
		return h.disk
	}
	return h.store
}

// put mints a write at the node and returns the record; nil if it was refused.
func (h *home) put(key, value string, blind, tombstone bool) []byte {
	p, stamp := h.w.partitionOf(key), version.StampAt(time.Now())
	if h.disk != nil {
		return h.disk.put(p, key, value, blind, tombstone, stamp)
	}
	return h.store.put(p, key, value, nil, blind, tombstone, stamp)
}

// dump is all records of the node by key, as leaves.
func (h *home) dump() map[string]version.Digest {
	if h.disk == nil {
		return h.store.dump()
	}
	out := map[string]version.Digest{}
	for p := range ring.Partition(h.w.rec.Partitions) {
		err := h.disk.Scan(p, nil, 0, func(key, record []byte) bool {
			out[string(key)] = version.LeafOf(record)
			return true
		})
		if err != nil {
			h.w.t.Fatal(err)
		}
	}
	return out
}

// hide keeps a member's address from the node, or shows it.
func (h *home) hide(id ring.NodeID, hidden bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hidden[id] = hidden
}

// View implements Members.
func (h *home) View() *gossip.View {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := new(gossip.View)
	for _, o := range h.w.nodes {
		if !h.hidden[o.id] {
			v.Peers = append(v.Peers, gossip.Peer{ID: o.id, RPCAddr: o.peer.Addr, Alive: true})
		}
	}
	return v
}

func nodeID(i int) ring.NodeID { return ring.NodeID{0: byte(i + 1), 15: 1} }

// worldOptions shape a world; the zero value is three homes of eight partitions.
type worldOptions struct {
	seed            uint64
	nodes, replicas int
	partitions      int
	tune            func(*Config)
	stopped         bool // nothing runs yet
	real            bool // stores, on simulated disks
}

// inWorld runs f in a bubble.
func inWorld(t *testing.T, o worldOptions, f func(w *world)) {
	t.Helper()
	if o.nodes == 0 {
		o.nodes = 3
	}
	if o.replicas == 0 {
		o.replicas = 3
	}
	if o.partitions == 0 {
		o.partitions = 8
	}
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, bytes: map[string]int{}, calls: map[string]int{}, answers: map[string]int{}}
		w.net = network.New(network.Config{Seed: o.seed, Trace: w.count})
		w.rec = record(t, o.nodes, o.replicas, o.partitions)
		for i := range o.nodes {
			chance := rand.New(rand.NewPCG(o.seed, uint64(i)))
			h := &home{w: w, i: i, id: nodeID(i), store: newMemStore(chance.Uint64), held: w.rec, changed: make(chan struct{}),
				hidden: map[ring.NodeID]bool{}, tune: o.tune}
			if o.real {
				h.disk = &realDisk{t: t, platter: disk.New(o.seed<<8 + uint64(i+1)), chance: chance}
				h.disk.rec.Store(w.rec)
			}
			h.peer = rpc.Peer{ID: h.id, Addr: fmt.Sprintf("10.0.0.%d:7600", i+1)}
			h.host = w.net.Host(h.peer, nil)
			w.nodes = append(w.nodes, h)
		}
		defer func() { // also after a failure that ended f
			for i := range w.nodes {
				w.halt(i)
			}
			w.net.Close()
			if o.real {
				time.Sleep(3 * time.Second) // goleveldb's pools end a while after Close
			}
		}()
		if !o.stopped {
			for i := range w.nodes {
				w.start(i)
			}
		}
		f(w)
	})
}

// record is a ring record of n members.
func record(t *testing.T, n, replicas, partitions int) *ring.Record {
	t.Helper()
	var members []ring.Member
	for i := range n {
		members = append(members, ring.Member{ID: nodeID(i), Name: fmt.Sprintf("n%d", i+1), Weight: 1, State: ring.Active})
	}
	first, err := ring.Found(ring.ClusterID{1}, "test", members[0], partitions, replicas)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := first.WithTable(members)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// count keeps what arrives.
func (w *world) count(e network.Event) {
	if e.What != "delivered" && e.What != "answered" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes[e.Note] += e.Size
	if e.What == "answered" {
		w.answers[e.From+" "+e.To+" "+e.Note]++
	}
	if e.What == "delivered" {
		w.calls[e.Note]++
	}
}

// answered is how many answers one node has got from another one.
func (w *world) answered(from, to int, route string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.answers[w.nodes[from].host.Name()+" "+w.nodes[to].host.Name()+" "+route]
}

// traffic is what has arrived since the last call.
func (w *world) traffic() (calls, bytes map[string]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls, bytes = w.calls, w.bytes
	w.calls, w.bytes = map[string]int{}, map[string]int{}
	return calls, bytes
}

// start starts a node, or starts it again.
func (w *world) start(i int) {
	h := w.nodes[i]
	if h.disk != nil {
		h.disk.open()
	}
	h.guard = rpc.NewGuard(h.host, rpc.GuardConfig{Seed: uint64(i)})
	cfg := Config{
		Self: h.id, Store: h.storage(), Rings: h, Members: h, Transport: h.guard, Circuits: h.guard,
		Now: time.Now, Stamp: func() version.Stamp { return version.StampAt(time.Now()) },
		Seed: uint64(i + 1), Logger: slog.New(slog.DiscardHandler),
		AuditEvery: 1000 * time.Hour, ForgetAfter: 1000 * time.Hour, CloseAfter: 1000 * time.Hour,
	}
	if h.tune != nil {
		h.tune(&cfg)
	}
	h.repair = New(cfg)
	h.mux = rpc.NewMux(rpc.MuxConfig{})
	h.repair.Register(h.mux)
	h.host.Listen(h.mux)
	ctx, stop := context.WithCancel(context.Background())
	h.stop, h.on = stop, true
	h.ended.Go(func() { _ = h.guard.Run(ctx) })
	h.ended.Go(func() {
		if err := h.repair.Run(ctx); err != nil {
			w.t.Errorf("repair of %d: %v", i, err)
		}
	})
}

// halt stops a node's process; its disk stays.
func (w *world) halt(i int) {
	h := w.nodes[i]
	if !h.on {
		return
	}
	h.on = false
	h.host.Close()
	h.stop()
	h.ended.Wait()
	h.mux.Close()
	if h.disk != nil {
		h.disk.close()
	}
	h.host = w.net.Host(h.peer, nil)
}

// cut cuts the way from one node to another, only that way.
func (w *world) cut(from, to int) {
	w.net.Cut(w.nodes[from].host.Name(), w.nodes[to].host.Name())
}

func (w *world) partitionOf(key string) ring.Partition { return w.rec.PartitionOf([]byte(key)) }

// write puts a key at a node, and has the record merged at others.
func (w *world) write(i int, key, value string, to ...int) []byte {
	w.t.Helper()
	b := w.nodes[i].put(key, value, true, false)
	w.deliver(b, to...)
	return b
}

// deliver merges a record at nodes, as a coordinator's merge does.
func (w *world) deliver(b []byte, to ...int) {
	w.t.Helper()
	r, err := version.Parse(b)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, j := range to {
		done := make(chan outcome, 1)
		w.nodes[j].storage().MergeAll([]*store.Merge{{Partition: w.rec.PartitionOf(r.Key), Record: r, Encoded: b, Sink: mergeSink{0, done}}})
		if o := <-done; o.err != nil {
			w.t.Fatal(o.err)
		}
	}
}

// homesOf are the indexes of a partition's homes.
func (w *world) homesOf(p ring.Partition) (out []int) {
	for i, h := range w.nodes {
		if w.rec.HomeIndex(p, h.id) >= 0 {
			out = append(out, i)
		}
	}
	return out
}

// equal says that all homes of each partition hold the same siblings.
func (w *world) equal() error {
	dumps := make([]map[string]version.Digest, len(w.nodes))
	all := map[string]bool{}
	for i, h := range w.nodes {
		dumps[i] = h.dump()
		for k := range dumps[i] {
			all[k] = true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		homes := w.homesOf(w.partitionOf(k))
		for _, i := range homes {
			if dumps[i][k] != dumps[homes[0]][k] {
				return fmt.Errorf("key %s of partition %d: node %d has %x, node %d %x",
					k, w.partitionOf(k), homes[0], dumps[homes[0]][k], i, dumps[i][k])
			}
		}
	}
	return nil
}

// claimsEqual says that all clocks of a partition claim the same.
func (w *world) claimsEqual() error {
	for p := range ring.Partition(w.rec.Partitions) {
		homes := w.homesOf(p)
		first := w.nodes[homes[0]].storage().ClockOf(p)
		for _, i := range homes {
			clock := w.nodes[i].storage().ClockOf(p)
			if m := first.Minus(&clock); len(m) > 0 {
				return fmt.Errorf("partition %d: node %d lacks %v of node %d", p, i, m, homes[0])
			}
			if m := clock.Minus(&first); len(m) > 0 {
				return fmt.Errorf("partition %d: node %d lacks %v of node %d", p, homes[0], m, i)
			}
		}
	}
	return nil
}

// eventually waits, in virtual time, until a condition holds.
func (w *world) eventually(within time.Duration, what string, cond func() error) {
	w.t.Helper()
	end := time.Now().Add(within)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s: not after %v: %v", what, within, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
