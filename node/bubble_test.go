package node_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/sim/membership"
	"github.com/kithdb/kith/sim/network"
)

// bubble is a cluster of real nodes in virtual time, on a simulated network and
// simulated disks.
type bubble struct {
	t    *testing.T
	seed uint64
	net  *network.Network
	view *membership.World
	me   *network.Host // of clients and operators

	partitions, replicas int
	boxes                []*box
	checkers             []*checker

	mu    sync.Mutex // guards names
	names map[ring.NodeID]string
}

// box is a machine: its disk outlives its processes.
type box struct {
	*bubble
	name, addr string
	disk       *disk.Disk
	index      uint64
	founder    int // how many it founds a cluster with; 0 for who joins
	change     func(*node.Config)
	starts     uint64
	gone       bool   // it is no member any more, and knows
	tells      string // the address that it tells others; empty for its own

	node   *node.Node // nil while it is down
	host   *network.Host
	member *membership.Member
	id     ring.NodeID
}

// inBubble runs a test in virtual time. All nodes are stopped at the end.
func inBubble(t *testing.T, seed uint64, partitions, replicas int, f func(b *bubble)) {
	t.Helper()
	// Channels that pools kept from an older bubble must not be met in this one.
	runtime.GC()
	runtime.GC()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{t: t, seed: seed, partitions: partitions, replicas: replicas, names: map[ring.NodeID]string{}}
		b.net = network.New(network.Config{Seed: seed})
		b.view = membership.New(membership.Config{
			Seed: seed, Version: b.net.Version,
			Reaches: func(from, to ring.NodeID) bool { return b.net.Reaches(b.nameOf(from), b.nameOf(to)) },
		})
		b.me = b.net.HostNamed("me", rpc.Peer{Addr: "10.9.9.9:1"}, nil)
		defer func() {
			for _, c := range b.checkers {
				c.halt()
			}
			for _, x := range b.boxes {
				x.stop()
			}
			b.view.Close()
			b.net.Close()
			time.Sleep(time.Minute) // goleveldb's pools end later
		}()
		f(b)
	})
}

func (b *bubble) nameOf(id ring.NodeID) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.names[id]
}

// found starts n machines that found a cluster.
func (b *bubble) found(n int) {
	b.t.Helper()
	for i := range n {
		x := b.box()
		if i == 0 {
			x.founder = n
		}
		x.start()
	}
	b.until("the cluster is ready", func() bool {
		for _, x := range b.boxes {
			if !x.ready() {
				return false
			}
		}
		return true
	})
}

// ready says that the machine's node would serve every key at quorum.
func (x *box) ready() bool {
	s := x.status()
	return s != nil && s.Ready
}

// status is what the machine's node tells of the cluster; nil if it does not answer.
func (x *box) status() *api.StatusResponse {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	resp, err := api.Status.Call(ctx, x.me, x.peer(), &api.StatusRequest{})
	if err != nil {
		return nil
	}
	return resp
}

// box adds a machine with an empty disk.
func (b *bubble) box() *box {
	i := len(b.boxes) + 1
	x := &box{bubble: b, index: uint64(i), name: fmt.Sprintf("n%d", i), addr: fmt.Sprintf("10.0.0.%d:7600", i), disk: disk.New(b.seed<<8 + uint64(i))}
	rng := rand.New(rand.NewPCG(b.seed, uint64(i)))
	var mu sync.Mutex
	x.disk.SetSyncDelay(func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(rng.Int64N(int64(2 * time.Millisecond)))
	})
	b.boxes = append(b.boxes, x)
	return x
}

// start begins a life of the machine's process.
func (x *box) start() {
	x.t.Helper()
	if err := x.boot(); err != nil {
		x.t.Fatalf("start of %s: %v", x.name, err)
	}
}

// boot is start where it may be refused.
func (x *box) boot() error {
	if x.node != nil {
		return nil
	}
	x.starts++
	cfg := node.Config{
		Data: "simulated", Name: x.name, Replicas: x.replicas, Partitions: x.partitions, Logger: quiet(),
		CacheBytes: 1 << 20, WriteBuffer: 1 << 20,
	}
	if cfg.Expect = x.founder; x.founder == 0 {
		cfg.Join = []string{x.boxes[0].addr}
	}
	if x.change != nil {
		x.change(&cfg)
	}
	n, err := node.StartIn(node.Env{
		Disk: x.disk.Open(), Now: time.Now, Seed: x.seed<<20 + x.index<<10 + x.starts,
		Network:    x.plug,
		Membership: x.join,
	}, cfg)
	if err == nil {
		x.node = n
	}
	return err
}

// socket is a node's way to the network.
type socket struct {
	*network.Host
	mux *rpc.Mux
}

// Listen implements node.Network.
func (s *socket) Listen() (string, error) {
	s.Host.Listen(s.mux)
	return s.Peer().Addr, nil
}

// Close implements node.Network.
func (s *socket) Close() error {
	s.Host.Close()
	s.mux.Close()
	return nil
}

func (x *box) plug(self ring.NodeID, cluster func() ring.ClusterID, mux *rpc.Mux) (node.Network, error) {
	x.id = self
	x.mu.Lock()
	x.names[self] = x.name
	x.mu.Unlock()
	x.host = x.net.HostNamed(x.name, rpc.Peer{ID: self, Addr: x.addr}, nil)
	x.host.SetCluster(cluster)
	return &socket{x.host, mux}, nil
}

func (x *box) join(cfg node.MembershipConfig) (node.Membership, error) {
	addr := cfg.RPCAddr
	if x.tells != "" {
		addr = x.tells
	}
	x.member = x.view.Join(gossip.Peer{
		ID: cfg.ID, Name: cfg.Name, Zone: cfg.Zone, RPCAddr: addr, GossipAddr: cfg.RPCAddr + "-gossip",
		State: cfg.State, ProtocolMin: rpc.ProtocolMin, ProtocolMax: rpc.ProtocolMax,
	})
	return x.member, nil
}

// slow gives the machine a disk that takes its time, so that nothing goes by unseen.
func (x *box) slow(fsync time.Duration) {
	x.disk.SetSyncDelay(func() time.Duration { return fsync })
}

// stop ends the process in good order.
func (x *box) stop() {
	if x.node != nil {
		x.node.Close()
		x.node = nil
	}
}

// kill ends the process as kill -9 does; what was synced is there.
func (x *box) kill() {
	if x.node == nil {
		return
	}
	x.host.Crash()
	x.disk.PowerCut()
	x.member.Close()
	x.node.Close()
	x.node = nil
}

// record is the ring record that the machine's node holds.
func (x *box) record() *ring.Record {
	if x.node == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	resp, err := api.Ring.Call(ctx, x.me, x.peer(), &api.RingRequest{})
	if err != nil || resp.Record == nil {
		return nil
	}
	r, err := ring.Decode(resp.Record)
	if err != nil {
		x.t.Errorf("record of %s: %v", x.name, err)
	}
	return r
}

func (x *box) peer() rpc.Peer { return rpc.Peer{ID: x.id, Addr: x.addr} }

// up are the machines whose node runs and has not given up.
func (b *bubble) up() (all []*box) {
	for _, x := range b.boxes {
		if x.node == nil {
			continue
		}
		select {
		case <-x.node.Done():
		default:
			all = append(all, x)
		}
	}
	return all
}

// until waits for a condition, in the bubble's time.
func (b *bubble) until(what string, ok func() bool) {
	b.t.Helper()
	for start := time.Now(); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > 10*time.Minute {
			b.t.Fatalf("seed %d: never: %s; %s", b.seed, what, b.story())
		}
	}
}

// story is what the nodes say of the ring.
func (b *bubble) story() (text string) {
	for _, x := range b.up() {
		if r := x.record(); r != nil {
			text += fmt.Sprintf("\n%s: epoch %d:", x.name, r.Epoch)
			for _, m := range r.Members {
				text += fmt.Sprintf(" %s %v %d", m.Name, m.State, r.HomeCount(m.ID))
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		if resp, err := api.Moves.Call(ctx, b.me, x.peer(), &api.MovesRequest{}); err == nil {
			for _, m := range resp.Moves[:min(4, len(resp.Moves))] {
				text += fmt.Sprintf("\n    %+v", m)
			}
		}
		cancel()
	}
	return text
}

// phase waits until a move is in a phase, by the record that a machine holds, and
// says which one.
func (x *box) phase(what ring.Phase, match func(ring.Move) bool) (found ring.Move) {
	x.t.Helper()
	for start := time.Now(); ; time.Sleep(3 * time.Millisecond) {
		if r := x.record(); r != nil {
			if i := slices.IndexFunc(r.Moves, func(m ring.Move) bool { return m.Phase == what && match(m) }); i >= 0 {
				return r.Moves[i]
			}
		}
		if time.Since(start) > 5*time.Minute {
			x.t.Fatalf("seed %d: no move came to %v%s", x.seed, what, x.story())
		}
	}
}

// ask asks a machine for a change of the ring.
func (x *box) ask(req api.ChangeRequest) (*api.ChangeResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return api.Change.Call(ctx, x.me, x.peer(), &req)
}

// must asks for a change that has to be done.
func (x *box) must(req api.ChangeRequest) *api.ChangeResponse {
	x.t.Helper()
	resp, err := x.ask(req)
	if err != nil {
		x.t.Fatalf("seed %d: %v of %q at %s: %v%s", x.seed, req.Verb, req.Member, x.name, err, x.story())
	}
	return resp
}

// settled waits until the ring asks for nothing more, with exactly these members
// active and their slots even, and everybody has that record.
func (b *bubble) settled(active ...*box) *ring.Record {
	b.t.Helper()
	var r *ring.Record
	b.until(fmt.Sprintf("%d members have all slots", len(active)), func() bool {
		r = nil
		for _, x := range b.up() {
			held := x.record()
			if held == nil || r != nil && held.Digest() != r.Digest() {
				return false
			}
			r = held
		}
		return r != nil && len(r.Moves) == 0 && isEven(r, active)
	})
	for _, x := range b.up() {
		for p := range ring.Partition(r.Partitions) {
			if !r.Holds(p, x.id) {
				b.until(fmt.Sprintf("%s has dropped partition %d", x.name, p), func() bool { return x.empty(p) })
			}
		}
	}
	return r
}

// isEven says that those members, and nobody else, have their share.
func isEven(r *ring.Record, active []*box) bool {
	for _, m := range r.Balance() {
		is := slices.ContainsFunc(active, func(x *box) bool { return x.id == m.Member.ID })
		if is != (m.Member.State == ring.Active) || !is && m.Homes > 0 {
			return false
		}
		if is && (float64(m.Homes) <= m.Share-1 || float64(m.Homes) >= m.Share+1) {
			return false
		}
	}
	return slices.ContainsFunc(active, func(*box) bool { return true })
}

// empty says that a machine has no record of a partition.
func (x *box) empty(p ring.Partition) bool {
	found := false
	if err := x.node.Store().Scan(p, nil, 1, func([]byte, []byte) bool { found = true; return false }); err != nil {
		return false
	}
	return !found
}
