// Package node builds, starts and stops one node of a cluster. There is no
// protocol in it: storage, ring, membership and requests are packages of their
// own, and this one wires them.
package node

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kithdb/kith/antientropy"
	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/node/kv"
	"github.com/kithdb/kith/node/mover"
	"github.com/kithdb/kith/node/topology"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// skewMax bounds how far clocks may be apart before somebody says so: stamps of
// a clock further ahead are not followed, and a node further ahead of its peers
// takes no writes.
const skewMax = 2 * time.Second

// recordRoom is what a record may take beyond its values: the key, what was
// seen, and the headers of siblings.
const recordRoom = 256 << 10

// Node is one running node.
type Node struct {
	cfg  Config
	id   ring.NodeID
	name string
	addr string

	store    *store.Store
	network  Network
	guard    *rpc.Guard
	members  *members
	topology *topology.Topology
	kv       *kv.Coordinator
	lives    *lives
	env      Env
	repair   *antientropy.Repair
	mover    *mover.Mover
	history  *history

	replacement *replacement

	draining atomic.Bool
	drains   chan time.Duration // the limit of the only one

	stop  context.CancelFunc
	loops sync.WaitGroup

	ended sync.Once
	done  chan struct{}
	err   error // before done is closed
	close sync.Once
}

// Start starts a node in the real world. It returns once the node listens;
// joining goes on behind it. Close ends the node.
func Start(cfg Config) (*Node, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	disk, err := openDirectory(cfg.Data)
	if err != nil {
		return nil, err
	}
	return startIn(realWorld(cfg, disk), cfg)
}

// StartIn starts a node in another world. Data, Listen, Gossip, Join, Key and
// Insecure of the config are then up to that world.
func StartIn(env Env, cfg Config) (*Node, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	return startIn(env, cfg)
}

func startIn(env Env, cfg Config) (_ *Node, err error) {
	n := &Node{cfg: cfg, env: env, members: newMembers(), done: make(chan struct{}), drains: make(chan time.Duration, 1)}
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	defer func() {
		if err != nil {
			n.shut()
		}
	}()
	chance := newChance(env.Seed)
	if err := n.openStore(chance); err != nil {
		return nil, err
	}
	mux := rpc.NewMux(rpc.MuxConfig{Logger: cfg.Logger})
	if n.network, err = env.Network(n.id, n.cluster, mux); err != nil {
		return nil, err
	}
	n.guard = rpc.NewGuard(n.network, rpc.GuardConfig{Seed: chance.Uint64()})
	if n.replacement, err = openReplacement(n); err != nil {
		return nil, err
	}
	if err := n.openTopology(chance); err != nil {
		return nil, err
	}
	if n.lives, err = openLives(n, chance.Uint64()); err != nil {
		return nil, fmt.Errorf("reading the lives of members: %w", err)
	}
	helloRoute.Handle(mux, rpc.ClassControl, n.lives.meet)
	seed := chance.Uint64()
	n.openRepair(seed)
	n.openKV()
	if err := n.openMover(seed); err != nil {
		return nil, err
	}
	n.kv.Register(mux)
	n.repair.Register(mux)
	n.topology.Register(mux)
	n.register(mux)
	if n.addr, err = n.network.Listen(); err != nil {
		return nil, err
	}
	membership, err := env.Membership(MembershipConfig{
		ID: n.id, Name: n.name, Zone: cfg.Zone, RPCAddr: n.addr,
		Book: storedBook{n.store}, State: n.topology.State(), Seed: chance.Uint64(),
	})
	if err != nil {
		return nil, err
	}
	n.members.set(membership)
	n.run(ctx, membership)
	cfg.Logger.Info("node started", "node", n.id, "name", n.name, "address", n.addr, "gossip", membership.Addr(),
		"data", cfg.Data, "version", cfg.Version)
	return n, nil
}

func (n *Node) openStore(chance *rand.Rand) error {
	options := store.Options{
		Now:         n.env.Now,
		ClockSlack:  skewMax,
		RecordMax:   n.cfg.ValueMax + recordRoom,
		CacheBytes:  n.cfg.CacheBytes,
		WriteBuffer: n.cfg.WriteBuffer,
		Rand:        chance.Uint64,
		Logger:      n.cfg.Logger,
		HandOver:    true,
	}
	if n.env.Burst != nil {
		options.Burst = gathering{n.env.Burst}
	}
	s, err := store.Open(n.env.Disk, options)
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	n.store = s
	n.id, err = n.identity(func() (id ring.NodeID) {
		binary.BigEndian.PutUint64(id[:8], chance.Uint64())
		binary.BigEndian.PutUint64(id[8:], chance.Uint64())
		return id
	})
	if n.name = n.cfg.Name; n.name == "" {
		n.name = n.id.Short()
	}
	return err
}

func (n *Node) openTopology(chance *rand.Rand) (err error) {
	record, err := n.store.Meta("ring")
	if err != nil {
		return fmt.Errorf("reading the ring record: %w", err)
	}
	founder := n.cfg.Expect > 0 && len(n.cfg.Join) == 0
	if record == nil && !founder && len(n.cfg.Join) == 0 {
		return errNoCluster(&n.cfg)
	}
	n.topology, err = topology.Open(topology.Config{
		Self:       ring.Member{ID: n.id, Name: n.name, Zone: n.cfg.Zone, Weight: 1},
		Cluster:    n.cfg.Cluster,
		Founder:    founder,
		Expect:     n.cfg.Expect,
		Replicas:   n.cfg.Replicas,
		Partitions: n.cfg.Partitions,
		Share:      !n.cfg.Standby,
		Replace:    n.replacement.old,
		Disk:       n.store,
		Membership: n.members,
		Transport:  n.guard,
		Seed:       chance.Uint64(),
		Lost:       n.lost,
		Foreign:    n.members.Foreign,
		Reached:    func(id ring.NodeID) bool { return !n.guard.Open(id) },
		Ready:      n.failed,
		Logger:     n.cfg.Logger,
	})
	return err
}

// lost says that the disk may have forgotten a vote on a ring record.
func (n *Node) lost() error {
	if n.store.Health().MetaLost {
		return errors.New("the disk has lost data")
	}
	return nil
}

// failed is what other members are told instead of the ring's state.
func (n *Node) failed() string {
	if n.store.Health().Failed != nil {
		return "failed"
	}
	if n.draining.Load() {
		return "draining"
	}
	return ""
}

func (n *Node) openRepair(seed uint64) {
	n.repair = antientropy.New(antientropy.Config{
		Self:      n.id,
		Store:     n.store,
		Rings:     n.topology,
		Members:   n.members,
		Transport: n.guard,
		Circuits:  n.guard,
		Now:       n.env.Now,
		Stamp:     func() version.Stamp { return n.kv.Stamp() },
		Served:    func() uint64 { return n.kv.Served() },
		Certain:   n.topology.Certain,
		Seed:      seed,
		Logger:    n.cfg.Logger,

		AuditEvery:     n.cfg.AuditEvery,
		ScrubEvery:     n.cfg.ScrubEvery,
		ForgetAfter:    n.cfg.ForgetAfter,
		BytesPerSecond: n.cfg.RepairRate,
	})
}

func (n *Node) openKV() {
	n.kv = kv.New(kv.Config{
		Self:      n.id,
		Store:     n.store,
		Rings:     n.topology,
		Members:   n.members,
		Started:   n.members.started,
		Transport: n.guard,
		Circuits:  n.guard,
		Clock:     version.NewClock(n.env.Now, skewMax),
		SkewMax:   skewMax,
		Now:       n.env.Now,
		ValueMax:  n.cfg.ValueMax,
		Witness:   witness{n.lives, n.replacement},
		Repair:    counting{n},
		Logger:    n.cfg.Logger,

		Pulled:        n.store.Pulled,
		PulledChanged: n.store.PulledChanged,
	})
}

// witness is what kv asks of this node's own trustworthiness, and tells of that
// of others.
type witness struct {
	*lives
	replacement *replacement
}

// Unsure implements kv.Witness.
func (w witness) Unsure() error {
	if err := w.replacement.unsure(); err != nil {
		return err
	}
	return w.lives.Unsure()
}

// run starts the loops. One that ends by itself ends the node.
func (n *Node) run(ctx context.Context, membership Membership) {
	loop := func(name string, f func(context.Context) error) {
		n.loops.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				n.fail(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	loop("ring", n.topology.Run)
	loop("circuits", n.guard.Run)
	loop("membership", func(ctx context.Context) error {
		select {
		case err := <-membership.Failed():
			return err
		case <-ctx.Done():
			return nil
		}
	})
	loop("reachability", n.watchMembers)
	loop("storage", n.watchStore)
	loop("lives", n.lives.run)
	loop("repair", n.repair.Run)
	loop("moves", n.mover.Run)
	if h := n.healer(); h != nil {
		loop("dead members", h.Run)
	}
	loop("history", n.history.run)
	loop("replacement", n.replacement.run)
	loop("advice", n.advise)
	loop("drain", n.drainLoop)
}

// watchMembers has the circuits look at peers that gossip no longer believes in:
// whether they answer decides. It tells them the addresses of the others: one
// may have come back elsewhere. Whoever was removed is nobody to look for.
func (n *Node) watchMembers(ctx context.Context) error {
	forgotten := map[ring.NodeID]struct{}{}
	for {
		changed, ringed := n.members.Changed(), n.topology.Changed()
		r := n.topology.Current()
		for _, p := range n.members.View().Peers {
			peer := rpc.Peer{ID: p.ID, Addr: p.RPCAddr}
			_, gone := forgotten[p.ID]
			switch {
			case p.ID == n.id || p.RPCAddr == "" || gone:
			case r != nil && r.IsBanned(p.ID) && r.Member(p.ID) == nil:
				forgotten[p.ID] = struct{}{}
				n.guard.Forget(p.ID)
				n.members.Forget(p.ID)
			case p.Alive:
				n.guard.Moved(peer)
			default:
				n.guard.Suspect(peer)
			}
		}
		select {
		case <-changed:
		case <-ringed:
		case <-ctx.Done():
			return nil
		}
		gather := time.NewTimer(watchPause)
		select {
		case <-gather.C:
		case <-ctx.Done():
			gather.Stop()
			return nil
		}
	}
}

// watchPause gathers changes of the view that come at about the same time: each
// look at it may ask peers whether they answer.
const watchPause = time.Millisecond

// watchStore logs what the store can and cannot vouch for.
func (n *Node) watchStore(ctx context.Context) error {
	var before error
	for {
		changed := n.store.Changed()
		h := n.store.Health()
		switch {
		case h.Failed != nil && before == nil:
			n.cfg.Logger.Error("storage failed: this node takes no writes until it has recovered", "error", h.Failed)
		case h.Failed == nil && before != nil:
			n.cfg.Logger.Info("storage has recovered")
		}
		before = h.Failed
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// cluster is the cluster that this node belongs to; zero for none.
func (n *Node) cluster() ring.ClusterID {
	if n.topology == nil {
		return ring.ClusterID{}
	}
	if r := n.topology.Current(); r != nil {
		return r.Cluster
	}
	return ring.ClusterID{}
}

// ID is the node's own.
func (n *Node) ID() ring.NodeID { return n.id }

// Addr is the HOST:PORT for clients.
func (n *Node) Addr() string { return n.addr }

// GossipAddr is the HOST:PORT that other nodes join by.
func (n *Node) GossipAddr() string { return n.members.addr() }

// Done is closed when the node has failed. It must still be closed.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err says why Done was closed.
func (n *Node) Err() error {
	select {
	case <-n.done:
		return n.err
	default:
		return nil
	}
}

// Left says that the node has ended because it was to leave, and has handed over all that
// it had.
func (n *Node) Left() bool { return errors.Is(n.Err(), ring.ErrBanned) && n.topology.Left() }

// Broken says why the node does not take writes now; nil if it does as far as its
// disk is concerned. Not to be called after Close.
func (n *Node) Broken() error {
	if err := n.store.Health().Failed; err != nil {
		return fmt.Errorf("storage failed: %w", err)
	}
	return n.Err()
}

func (n *Node) fail(err error) {
	n.ended.Do(func() {
		n.err = err
		if errors.Is(err, ring.ErrBanned) && n.topology.Left() {
			n.cfg.Logger.Info("node stops: it has left the cluster, as was asked for")
		} else {
			n.cfg.Logger.Error("node stops", "error", err)
		}
		close(n.done)
	})
}

// Close stops the node. It stays a member: its homes wait for it.
func (n *Node) Close() error {
	var err error
	n.close.Do(func() { err = n.shut() })
	return err
}

// shut ends the parts in an order in which nobody calls what is gone: doors
// first, the store last.
func (n *Node) shut() error {
	var errs []error
	if n.network != nil {
		errs = append(errs, n.network.Close())
	}
	n.stop()
	n.loops.Wait()
	if n.kv != nil {
		n.kv.Close()
	}
	errs = append(errs, n.members.close())
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	errs = append(errs, n.env.Disk.Close())
	return errors.Join(errs...)
}

// newChance gives the generator that all others of a node are seeded from.
func newChance(seed uint64) *rand.Rand {
	if seed != 0 {
		return rand.New(rand.NewPCG(seed, seed))
	}
	var b [32]byte
	crand.Read(b[:])
	return rand.New(rand.NewChaCha8(b))
}

var _ topology.Membership = (*members)(nil)
var _ kv.Members = (*members)(nil)
var _ antientropy.Members = (*members)(nil)
var _ Membership = (*gossip.Cluster)(nil)
