package sim

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/sim/membership"
	"github.com/kithdb/kith/sim/network"
)

// Options shape a cluster. The zero value is five nodes with three homes a key.
type Options struct {
	Seed       uint64
	Nodes      int // 0 is 5
	Replicas   int // 0 is 3, or as many as there are nodes
	Partitions int // 0 is 16
	// Network, and how views follow it. Their seeds are the cluster's.
	Network    network.Config
	Membership membership.Config
	// Serf has the nodes find one another by real serf, as in production, and
	// not by Membership. It does not replay.
	Serf bool
	// Disk changes a machine's disk when it is built in.
	Disk func(d *disk.Disk)
	// LyingDisks, from when a run's cluster is ready, say that they have synced
	// and have not. Power cuts then lose what was acknowledged: to see what a
	// broken promise looks like.
	LyingDisks bool
	// Pace is how fast nodes repair; what is 0 is as a node has it anyway.
	Pace Pace
	// Node changes a machine's configuration before each of its starts.
	Node func(machine int, cfg *node.Config)
	// Tell is called with every fault of a story as it begins and as it ends, one
	// call after the other. It must not wait.
	Tell func(Told)
}

// Pace is how fast nodes repair.
type Pace struct {
	Audit  time.Duration // until every copy was compared with all others
	Scrub  time.Duration // of a pass over the disk
	Forget time.Duration // the least age of a forgotten delete
}

func (o *Options) setDefaults() {
	o.Nodes = cmp.Or(o.Nodes, 5)
	o.Replicas = cmp.Or(o.Replicas, min(3, o.Nodes))
	o.Partitions = cmp.Or(o.Partitions, 16)
}

// Cluster is machines, the network between them, and the clients around. Its
// methods are called from one goroutine, inside a bubble.
type Cluster struct {
	Network  *network.Network
	World    *membership.World
	Machines []*Machine

	opts    Options
	log     *logBook
	rings   *Rings
	clients int
	// operators are those who ask for changes of the ring.
	operators sync.WaitGroup
	prober    *network.Host
	broken    *Machine      // whose disk a fault has broken; nil for none
	left      *Remains      // what was left when keepers were lost; nil if none were
	dead      []ring.NodeID // who was lost then
	stands    standstill    // of a ring whose vote is lost
	waits     standstill    // of one that somebody is to leave, and stays
	loses     bool          // what one machine alone has kept may be lost in this story
	// equalAfter is how long it took until copies were equal by themselves
	// after a story's heal.
	equalAfter time.Duration

	mu  sync.Mutex // guards ids
	ids map[ring.NodeID]string

	telling sync.Mutex // held while Tell is called
}

// tell tells the listener, if there is one.
func (c *Cluster) tell(t Told) {
	if c.opts.Tell == nil {
		return
	}
	c.telling.Lock()
	defer c.telling.Unlock()
	c.opts.Tell(t)
}

// NewCluster starts the machines, which found a cluster together; WaitReady
// waits for that. The caller closes it.
func NewCluster(o Options) (*Cluster, error) {
	o.setDefaults()
	o.Network.Seed, o.Membership.Seed = o.Seed, o.Seed
	if o.Network.Duplicable == nil {
		o.Network.Duplicable = func(route string) bool { return route == "kv.merge" }
	}
	c := &Cluster{opts: o, log: &logBook{began: time.Now()}, rings: NewRings(), ids: map[ring.NodeID]string{}}
	c.Network = network.New(o.Network)
	o.Membership.Reaches = func(from, to ring.NodeID) bool { return c.Network.Reaches(c.nameOf(from), c.nameOf(to)) }
	o.Membership.Version = c.Network.Version
	c.World = membership.New(o.Membership)
	for i := range o.Nodes {
		m := newMachine(c, i)
		c.Machines = append(c.Machines, m)
		if err := m.Start(); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// Close stops everything.
func (c *Cluster) Close() {
	for _, m := range c.Machines {
		m.Stop()
	}
	c.World.Close()
	c.Network.Close()
}

// Log is what the nodes have said, newest last.
func (c *Cluster) Log() string { return c.log.String() }

// Rings are the ring records that nodes have held.
func (c *Cluster) Rings() *Rings { return c.rings }

// Chance gives the generator of a name: the same for the same seed.
func (c *Cluster) Chance(name string) *rand.Rand { return chance(c.opts.Seed, name) }

func chance(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	h.Write(binary.BigEndian.AppendUint64(nil, seed))
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// nameOf is the host name of a node.
func (c *Cluster) nameOf(id ring.NodeID) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ids[id]
}

// named says which host a node is.
func (c *Cluster) named(id ring.NodeID, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids[id] = name
}

// Names are the host names of machines, for the network.
func (c *Cluster) Names(machines ...int) []string {
	var out []string
	for _, i := range machines {
		out = append(out, c.Machines[i].Name)
	}
	return out
}

// Partition cuts the machines into groups that don't hear each other. Clients
// reach all of them unless their names stand in a group: see Client.Name.
func (c *Cluster) Partition(groups ...[]int) {
	var names [][]string
	for _, g := range groups {
		names = append(names, c.Names(g...))
	}
	c.Network.Partition(names...)
}

// Isolate cuts one machine off from all others.
func (c *Cluster) Isolate(machine int) {
	var others []int
	for i := range c.Machines {
		if i != machine {
			others = append(others, i)
		}
	}
	c.Partition([]int{machine}, others)
}

// Cut stops what one machine sends to another.
func (c *Cluster) Cut(from, to int) { c.Network.Cut(c.Machines[from].Name, c.Machines[to].Name) }

// Heal mends links, disks and clocks, wakes machines and starts those that are
// down.
func (c *Cluster) Heal() error {
	c.Network.Heal()
	c.World.Follow()
	for _, m := range c.Machines {
		m.mend()
		m.Resume()
		if err := m.revive(); err != nil {
			return err
		}
	}
	return nil
}

// WaitReady waits until every machine that runs calls the cluster ready and sees
// all others that run as reachable.
func (c *Cluster) WaitReady(limit time.Duration) error { return c.waitReady(limit, func() {}) }

// waitReady is WaitReady by operators, who do something about it in the second half of
// the time.
func (c *Cluster) waitReady(limit time.Duration, operators func()) error {
	began := time.Now()
	var last error
	for time.Since(began) < limit {
		if err := c.Supervise(); err != nil {
			return err
		}
		if last = c.ready(); last == nil {
			return nil
		}
		if time.Since(began) > limit/2 {
			operators()
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("not ready after %v: %w", limit, last)
}

// Supervise has a service manager look at every machine: processes that have given
// up are started again.
func (c *Cluster) Supervise() error {
	for _, m := range c.Machines {
		if err := m.supervise(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) ready() error {
	probe := c.probe()
	for _, m := range c.Machines {
		if !m.Running() {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		status, err := api.Status.Call(ctx, probe, m.Peer(), &api.StatusRequest{})
		cancel()
		if err != nil {
			return fmt.Errorf("status of %s: %w", m.Name, err)
		}
		if !status.Ready {
			return fmt.Errorf("%s is not ready: %s", m.Name, status.Reason)
		}
		for _, s := range status.Members {
			other := slices.IndexFunc(c.Machines, func(o *Machine) bool { return o.ID().String() == s.ID })
			if other >= 0 && c.Machines[other].Running() && !s.Reachable {
				return fmt.Errorf("%s does not reach %s", m.Name, s.Name)
			}
		}
	}
	return nil
}

// Status is the cluster as one machine sees it.
func (c *Cluster) Status(machine int) (*api.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return api.Status.Call(ctx, c.probe(), c.Machines[machine].Peer(), &api.StatusRequest{})
}

// Ring is the newest ring record that any running machine holds.
func (c *Cluster) Ring() (*ring.Record, error) {
	var newest *ring.Record
	for _, m := range c.Machines {
		if !m.Running() {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		resp, err := api.Ring.Call(ctx, c.probe(), m.Peer(), &api.RingRequest{})
		cancel()
		if err != nil || resp.Record == nil {
			continue
		}
		r, err := ring.Decode(resp.Record)
		if err != nil {
			return nil, fmt.Errorf("ring of %s: %w", m.Name, err)
		}
		if newest == nil || r.Epoch > newest.Epoch {
			newest = r
		}
	}
	if newest == nil {
		return nil, fmt.Errorf("no machine has a ring record")
	}
	return newest, nil
}

// HomesOf are the machines that are homes of a key, in the ring's order.
func (c *Cluster) HomesOf(key string) ([]int, error) {
	r, err := c.Ring()
	if err != nil {
		return nil, err
	}
	return c.homes(r, key), nil
}

func (c *Cluster) homes(r *ring.Record, key string) []int {
	var out []int
	for _, id := range r.Homes(r.PartitionOf([]byte(key))) {
		out = append(out, slices.IndexFunc(c.Machines, func(m *Machine) bool { return m.ID() == id }))
	}
	return out
}

// logBook keeps the newest lines of all nodes.
type logBook struct {
	began time.Time
	mu    sync.Mutex // guards lines
	lines []string
}

const logMax = 400

// Write implements io.Writer: one line at a time, from slog.
func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) >= 2*logMax {
		l.lines = append(l.lines[:0], l.lines[logMax:]...)
	}
	l.lines = append(l.lines, fmt.Sprintf("%9.3fs %s", time.Since(l.began).Seconds(), b))
	return len(b), nil
}

// String joins the lines.
func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []byte
	for _, line := range l.lines {
		out = append(out, line...)
	}
	return string(out)
}

// logger writes one machine's lines, without the time that the book gives. heard is
// called when it says that it has adopted a ring record, or votes no more.
func (l *logBook) logger(name string, heard func(what string)) *slog.Logger {
	return slog.New(listener{heard: heard, Handler: slog.NewTextHandler(l, &slog.HandlerOptions{
		Level: slog.LevelInfo,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		},
	})}).With("on", name)
}
