package client_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim/network"
)

// world is a cluster's far end, as a client sees it: nodes on a simulated
// network that answer by rpc, from one map. What a node answers can be
// scripted.
type world struct {
	t     *testing.T
	net   *network.Network
	me    *network.Host
	nodes []*far

	mu     sync.Mutex
	record *ring.Record      // guarded by mu
	data   map[string][]byte // guarded by mu
	expiry map[string]uint64 // guarded by mu; of data
	stamp  uint64            // guarded by mu
	rings  map[uint64]int    // guarded by mu; requests for the ring, by the epoch that was known
	away   map[*far]bool     // guarded by mu; whom all nodes hold for unreachable
}

// far is one node.
type far struct {
	w    *world
	id   ring.NodeID
	peer rpc.Peer
	host *network.Host
	mux  *rpc.Mux

	mu        sync.Mutex
	puts      []api.PutRequest               // guarded by mu; as they came
	reads     []string                       // guarded by mu; route, level and zone of each
	refuse    func(key []byte) error         // guarded by mu; nil answers properly
	swallow   bool                           // guarded by mu: take requests, answer none
	record    *ring.Record                   // guarded by mu; nil is the world's
	getAll    func(*api.GetAllRequest) error // guarded by mu
	ahead     time.Duration                  // guarded by mu; of its wall clock
	forgetful bool                           // guarded by mu; knows nobody's address
}

// inBubble runs f in virtual time. Channels that pools kept from an older
// bubble must not be met there.
func inBubble(t *testing.T, nodes int, f func(t *testing.T, w *world)) {
	runtime.GC()
	runtime.GC()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nodes)
		defer w.close()
		f(t, w)
	})
}

func newWorld(t *testing.T, nodes int) *world {
	w := &world{t: t, net: network.New(network.Config{Seed: 1}), data: map[string][]byte{}, expiry: map[string]uint64{}, stamp: 1 << 40, rings: map[uint64]int{}, away: map[*far]bool{}}
	var members []ring.Member
	for i := range nodes {
		id := ring.NodeID{15: byte(i + 1)}
		members = append(members, ring.Member{ID: id, Name: fmt.Sprintf("n%d", i+1), Weight: 1, State: ring.Active})
		w.nodes = append(w.nodes, w.start(id, fmt.Sprintf("10.0.0.%d:7600", i+1)))
	}
	w.record = table(t, ring.ClusterID{1}, members)
	w.me = w.net.Host(rpc.Peer{Addr: "10.9.9.9:1"}, nil)
	return w
}

func table(t *testing.T, cluster ring.ClusterID, members []ring.Member) *ring.Record {
	first, err := ring.Found(cluster, "test", members[0], 64, min(3, len(members)))
	if err != nil {
		t.Fatal(err)
	}
	record, err := first.WithTable(members)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func (w *world) close() {
	for _, n := range w.nodes {
		n.mux.Close()
	}
	w.net.Close()
}

// start puts a node on the network.
func (w *world) start(id ring.NodeID, addr string) *far {
	n := &far{w: w, id: id, peer: rpc.Peer{ID: id, Addr: addr}, mux: rpc.NewMux(rpc.MuxConfig{})}
	api.Put.HandleInline(n.mux, rpc.ClassClient, func(c *rpc.Call, req *api.PutRequest) {
		if resp, err := n.put(req); err != nil {
			c.Fail(err)
		} else if resp != nil {
			c.Reply(resp)
		}
	})
	api.Get.HandleInline(n.mux, rpc.ClassClient, func(c *rpc.Call, req *api.GetRequest) {
		n.noteRead("get", req.R, req.Zone)
		if resp, err := n.get(req.Key); err != nil {
			c.Fail(err)
		} else if resp != nil {
			c.Reply(resp)
		}
	})
	api.PutAll.HandleInline(n.mux, rpc.ClassClient, n.answerPutAll)
	api.GetAll.HandleInline(n.mux, rpc.ClassClient, n.answerGetAll)
	api.Scan.HandleInline(n.mux, rpc.ClassClient, n.answerScan)
	api.Inspect.HandleInline(n.mux, rpc.ClassClient, func(c *rpc.Call, req *api.InspectRequest) {
		c.Reply(&api.InspectResponse{Key: req.Key, Epoch: 1, Equal: true, Copies: []api.CopyInfo{{
			Member: n.id.String(), Found: true, CountsForRead: true,
			Siblings:     []api.SiblingInfo{{DotInfo: api.DotInfo{Actor: "00000000000000aa", Seq: 7}, Stamp: 5, Written: 6, Expiry: 8, Size: 9}},
			Incorporated: []api.DotInfo{{Actor: "00000000000000aa", Seq: 7}},
		}}, Why: []string{"all is well"}})
	})
	api.Ring.HandleInline(n.mux, rpc.ClassControl, n.answerRing)
	api.Status.HandleInline(n.mux, rpc.ClassControl, func(c *rpc.Call, _ *api.StatusRequest) {
		c.Reply(&api.StatusResponse{Node: n.id.String(), Ready: true})
	})
	n.host = w.net.Host(n.peer, n.mux)
	return n
}

// restart brings a node back, perhaps at another address.
func (w *world) restart(i int, addr string) {
	old := w.nodes[i]
	old.host.Crash()
	old.mux.Close()
	w.nodes[i] = w.start(old.id, addr)
}

func (n *far) answerRing(c *rpc.Call, req *api.RingRequest) {
	record := n.current()
	if record == nil {
		c.Fail(fmt.Errorf("no ring yet: %w", api.ErrNotReady))
		return
	}
	n.w.mu.Lock()
	n.w.rings[req.Epoch]++
	n.w.mu.Unlock()
	n.mu.Lock()
	ahead, forgetful := n.ahead, n.forgetful
	n.mu.Unlock()
	resp := &api.RingResponse{Epoch: record.Epoch, Now: time.Now().Add(ahead).UnixMilli()}
	if record.Epoch > req.Epoch {
		resp.Record = record.Encode()
	}
	for _, m := range n.w.nodes {
		a := api.MemberAddress{ID: m.id, Addr: m.peer.Addr, Alive: !n.w.isAway(m)}
		if forgetful {
			a.Addr = ""
		}
		resp.Members = append(resp.Members, a)
	}
	c.Reply(resp)
}

func (n *far) current() *ring.Record {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.record != nil {
		return n.record
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.w.record
}

// put gives neither response nor error when nothing is to be answered.
func (n *far) put(req *api.PutRequest) (*api.PutResponse, error) {
	n.mu.Lock()
	n.puts = append(n.puts, *req)
	refuse, swallow := n.refuse, n.swallow
	n.mu.Unlock()
	if refuse != nil {
		if err := refuse(req.Key); err != nil {
			return nil, err
		}
	}
	receipt := n.receipt()
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.w.data[string(req.Key)] = append([]byte{}, req.Value...)
	n.w.expiry[string(req.Key)] = req.Expiry
	if req.Delete {
		delete(n.w.data, string(req.Key))
	}
	n.w.stamp++
	if swallow {
		return nil, nil
	}
	return &api.PutResponse{Context: []byte("after " + string(req.Key)), Receipt: receipt, Stamp: n.w.stamp}, nil
}

func (n *far) receipt() api.Receipt {
	return api.Receipt{
		Epoch: n.current().Epoch, Coordinator: n.id, Need: 2, Answered: []ring.NodeID{n.id, {99}}, Siblings: 1,
		Zones: []api.ZoneReceipt{{Zone: "eu", Need: 2, Got: 3, Homes: 4}},
	}
}

func (n *far) noteRead(route string, level api.Level, zone string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reads = append(n.reads, fmt.Sprintf("%s %d %s", route, level, zone))
}

func (n *far) get(key []byte) (*api.GetResponse, error) {
	n.mu.Lock()
	refuse, swallow := n.refuse, n.swallow
	n.mu.Unlock()
	if swallow {
		return nil, nil
	}
	if refuse != nil {
		if err := refuse(key); err != nil {
			return nil, err
		}
	}
	receipt := n.receipt()
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	resp := &api.GetResponse{Context: []byte("of " + string(key)), Receipt: receipt, Stamp: n.w.stamp}
	if v, ok := n.w.data[string(key)]; ok {
		resp.Found = true
		resp.Values = []api.Value{{Data: v, Stamp: n.w.stamp, Expiry: n.w.expiry[string(key)]}}
	}
	return resp, nil
}

func (n *far) answerPutAll(c *rpc.Call, req *api.PutAllRequest) {
	resp := &api.PutAllResponse{Results: make([]api.PutResult, len(req.Puts))}
	for i := range req.Puts {
		done, err := n.put(&req.Puts[i])
		switch {
		case err != nil:
			resp.Results[i].Error = rpc.AppendError(nil, err)
		case done == nil:
			return
		default:
			resp.Results[i].Response = *done
		}
	}
	c.Reply(resp)
}

func (n *far) answerGetAll(c *rpc.Call, req *api.GetAllRequest) {
	n.noteRead("getall", req.R, req.Zone)
	n.mu.Lock()
	script := n.getAll
	n.mu.Unlock()
	if script != nil {
		if err := script(req); err != nil {
			c.Fail(err)
			return
		}
	}
	resp := &api.GetAllResponse{Results: make([]api.GetResult, len(req.Keys))}
	for i, key := range req.Keys {
		got, err := n.get(key)
		switch {
		case err != nil:
			resp.Results[i].Error = rpc.AppendError(nil, err)
		case got == nil:
			return
		default:
			resp.Results[i].Response = *got
		}
	}
	c.Reply(resp)
}

func (n *far) answerScan(c *rpc.Call, req *api.ScanRequest) {
	n.noteRead("scan", req.R, req.Zone)
	n.mu.Lock()
	refuse, swallow := n.refuse, n.swallow
	n.mu.Unlock()
	if swallow {
		return
	}
	if refuse != nil {
		if err := refuse(nil); err != nil {
			c.Fail(err)
			return
		}
	}
	record := n.current()
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	resp := new(api.ScanResponse)
	for _, key := range slices.Sorted(maps.Keys(n.w.data)) {
		k := []byte(key)
		if uint16(record.PartitionOf(k)) != req.Partition || bytes.Compare(k, req.After) <= 0 || !bytes.HasPrefix(k, req.Prefix) {
			continue
		}
		if len(resp.Items) == 3 { // small pages, so that there are several
			resp.Next = resp.Items[2].Key
			break
		}
		resp.Items = append(resp.Items, api.ScanItem{Key: k, Value: n.w.data[key], Siblings: 1, Expiry: n.w.expiry[key]})
	}
	c.Reply(resp)
}

// set changes how a node behaves.
func (n *far) set(f func(n *far)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n)
}

func (n *far) putCount() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.puts)
}

func (w *world) addrs() []string {
	var out []string
	for _, n := range w.nodes {
		out = append(out, n.peer.Addr)
	}
	return out
}

// dial makes a client that closes with the test.
func (w *world) dial(opts ...client.Option) *client.Client {
	w.t.Helper()
	c, err := client.Dial(context.Background(), w.addrs(), append(opts, client.WithTransport(w.me))...)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// homes are the nodes of a key, in the ring's order.
func (w *world) homes(key string) []*far {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*far
	for _, id := range w.record.Homes(w.record.PartitionOf([]byte(key))) {
		for _, n := range w.nodes {
			if n.id == id {
				out = append(out, n)
			}
		}
	}
	return out
}

// setAway is whether all other nodes hold a node for unreachable.
func (w *world) setAway(n *far, away bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away[n] = away
}

func (w *world) isAway(n *far) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.away[n]
}

func (w *world) ringCount(known uint64) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rings[known]
}

func (w *world) totalPuts() int {
	n := 0
	for _, f := range w.nodes {
		n += f.putCount()
	}
	return n
}

func always(err error) func([]byte) error { return func([]byte) error { return err } }
