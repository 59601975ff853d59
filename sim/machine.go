package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/sim/membership"
	"github.com/kithdb/kith/sim/network"
	"github.com/kithdb/kith/store"
)

// Machine is a computer that runs one node: its disk and clock outlive the
// process.
type Machine struct {
	Name  string
	Disk  *disk.Disk
	Clock *Clock
	// Addr is where the node listens from its next start on.
	Addr string

	cluster *Cluster
	index   int
	starts  int
	node    *node.Node // nil while it is down
	host    *network.Host
	mux     *rpc.Mux
	member  atomic.Pointer[membership.Member]
	store   atomic.Pointer[store.Store] // of the node; nil while it is down
	id      ring.NodeID                 // of the last start
	lost    ring.NodeID                 // whose place the next start takes; zero for none
	gone    []ring.NodeID               // whose disks this machine has lost
	removed []ring.NodeID               // of these, those that an operator has had removed
	disks   int                         // that were built in
	mute    atomic.Int64                // how many were when its node has said that it votes no more

	retired  bool // the node is no member any more, and does not start again
	newcomer bool // the disk was built in when the cluster was there already
	standby  bool // the node takes no share until it is told to
}

func machineName(i int) string { return fmt.Sprintf("n%d", i+1) }

func newMachine(c *Cluster, i int) *Machine {
	name := machineName(i)
	m := &Machine{Name: name, Clock: &Clock{}, Addr: fmt.Sprintf("10.0.0.%d:7600", i+1), cluster: c, index: i}
	m.install()
	return m
}

// install builds in an empty disk.
func (m *Machine) install() {
	name := "disk " + m.Name
	if m.disks > 0 {
		name = fmt.Sprintf("disk %d of %s", m.disks+1, m.Name)
	}
	m.disks++
	m.Disk = disk.New(m.cluster.Chance(name).Uint64())
	m.Spin()
	if f := m.cluster.opts.Disk; f != nil {
		f(m.Disk)
	}
}

// Spin gives the disk its usual speed: up to 2 ms for an fsync. It comes from the
// time, so that the order of two at one instant doesn't matter.
func (m *Machine) Spin() {
	seed := m.cluster.Chance("fsync " + m.Name).Uint64()
	began := m.cluster.log.began
	m.Disk.SetSyncDelay(func() time.Duration {
		rng := rand.New(rand.NewPCG(seed, uint64(time.Since(began))))
		return time.Duration(rng.Int64N(int64(2 * time.Millisecond)))
	})
}

// mend ends all faults of the machine but those of its process.
func (m *Machine) mend() {
	m.Disk.Heal()
	m.Spin()
	if f := m.cluster.opts.Disk; f != nil {
		f(m.Disk)
	}
	m.Clock.Set(0)
}

// Running says that the machine's process is there, perhaps paused.
func (m *Machine) Running() bool { return m.node != nil }

// ID is the node's; zero before its first start.
func (m *Machine) ID() ring.NodeID { return m.id }

// Peer is where to send requests.
func (m *Machine) Peer() rpc.Peer { return rpc.Peer{ID: m.id, Addr: m.Addr} }

// Node is the running node, or nil.
func (m *Machine) Node() *node.Node { return m.node }

// Start starts the process, unless it runs.
func (m *Machine) Start() error {
	if m.node != nil {
		return nil
	}
	m.starts++
	cfg := node.Config{
		Data:       "simulated",
		Expect:     m.cluster.opts.Nodes,
		Replicas:   m.cluster.opts.Replicas,
		Partitions: m.cluster.opts.Partitions,
		Name:       m.Name,
		CacheBytes: 1 << 20,
		// Every open clears two: with the default, a quarter of a short story.
		WriteBuffer: 1 << 20,
		AuditEvery:  m.cluster.opts.Pace.Audit,
		ScrubEvery:  m.cluster.opts.Pace.Scrub,
		ForgetAfter: m.cluster.opts.Pace.Forget,
		Logger:      m.cluster.log.logger(m.Name, m.hears),
	}
	if m.index > 0 {
		cfg.Join = []string{m.cluster.Machines[0].Addr}
	}
	if f := m.cluster.opts.Node; f != nil {
		f(m.index, &cfg)
	}
	if m.newcomer || !m.lost.IsZero() {
		cfg.Expect = 0
		cfg.Join = []string{m.cluster.Machines[(m.index+1)%len(m.cluster.Machines)].Addr}
	}
	if !m.lost.IsZero() {
		cfg.Replace = m.lost.String()
	}
	cfg.Standby = m.standby
	n, err := node.StartIn(node.Env{
		Disk:       m.Disk.Open(),
		Now:        m.Clock.Now,
		Seed:       m.cluster.Chance(fmt.Sprintf("%s start %d", m.Name, m.starts)).Uint64() | 1,
		Network:    m.plug,
		Membership: m.membership(cfg),
	}, cfg)
	if err != nil {
		m.unplug(false)
		return fmt.Errorf("start of %s: %w", m.Name, err)
	}
	m.node = n
	m.store.Store(n.Store())
	m.look()
	return nil
}

// door is a node's way to the network.
type door struct {
	*network.Host
	mux *rpc.Mux
}

// Listen implements node.Network.
func (d *door) Listen() (string, error) {
	d.Host.Listen(d.mux)
	return d.Peer().Addr, nil
}

// Close implements node.Network.
func (d *door) Close() error {
	d.Host.Close()
	d.mux.Close()
	return nil
}

// plug gives the starting node its network.
func (m *Machine) plug(self ring.NodeID, cluster func() ring.ClusterID, mux *rpc.Mux) (node.Network, error) {
	m.id = self
	m.cluster.named(self, m.Name)
	m.host = m.cluster.Network.HostNamed(m.Name, rpc.Peer{ID: self, Addr: m.Addr}, nil)
	m.host.SetCluster(cluster)
	m.mux = mux
	return &door{m.host, mux}, nil
}

// join gives the starting node its membership.
func (m *Machine) join(cfg node.MembershipConfig) (node.Membership, error) {
	member := m.cluster.World.Join(gossip.Peer{
		ID: cfg.ID, Name: cfg.Name, Zone: cfg.Zone, RPCAddr: cfg.RPCAddr, GossipAddr: cfg.RPCAddr + "-gossip",
		State: cfg.State, ProtocolMin: rpc.ProtocolMin, ProtocolMax: rpc.ProtocolMax,
	})
	m.member.Store(member)
	return member, nil
}

// Stop ends the process in good order, unless it is down.
func (m *Machine) Stop() {
	if m.node == nil {
		return
	}
	m.Resume()
	m.node.Close() // while it ends it may still adopt, and acknowledge by that
	m.store.Store(nil)
	m.node = nil
}

// Kill ends the process as kill -9 does: nothing of it is heard again, and all
// that it had written is there.
func (m *Machine) Kill() { m.end(false, m.Disk.Kill) }

// PowerCut stops the machine: its peers hear nothing, and bytes that were not
// synced are lost.
func (m *Machine) PowerCut() { m.end(true, m.Disk.PowerCut) }

func (m *Machine) end(silent bool, disk func()) {
	if m.node == nil {
		return
	}
	m.store.Store(nil)
	m.unplug(silent)
	disk()
	if member := m.member.Load(); member != nil {
		member.Close()
	}
	m.node.Close()
	m.node = nil
}

// LoseDisk is the end of the process and of all that it had written: there is an
// empty disk in its place. The next Start is that of a node which takes the place
// of the one whose disk it was.
func (m *Machine) LoseDisk() {
	m.Kill()
	m.gone = append(m.gone, m.id)
	if m.lost.IsZero() {
		m.lost = m.id
	}
	m.lookUp()
	m.install()
}

// lookUp is what an operator does before typing whose place a node shall take: status
// says which of those that had this machine's disks is a home. None is where the last
// one had not got its place yet. Who was removed, or had handed all over, has no place
// to be taken.
func (m *Machine) lookUp() {
	r, err := m.cluster.Ring()
	if err != nil {
		return
	}
	for _, id := range m.gone {
		if r.HomeCount(id) > 0 && !m.removedIn(r, id) {
			m.lost = id
		}
	}
	nowhere := r.HomeCount(m.lost) == 0 && r.Member(m.id) == nil
	if !m.lost.IsZero() && (nowhere || m.removedIn(r, m.lost)) {
		m.provide(false) // a directory that remembers whose place to take is of no use
	}
}

// revive is restart. If the disk was broken for good, another one is built in; so
// it is if what was lost is who the node was. That must never happen to a disk that
// no fault has broken.
func (m *Machine) revive() error {
	if m.retired {
		return nil
	}
	before := m.id
	err := m.restart()
	if errors.Is(err, ring.ErrBanned) {
		m.retire()
		return nil
	}
	if err == nil && m.id != before && !before.IsZero() {
		err = fmt.Errorf("%s: node %s came back as %s", m.Name, before.Short(), m.id.Short())
	}
	if err == nil || m.cluster.broken != m {
		return err
	}
	m.Kill()
	m.id = before
	m.LoseDisk()
	return m.restart()
}

// supervise starts the process again if it has given up, as a service manager
// does, and with the place to take that is right by now.
func (m *Machine) supervise() error {
	if m.node == nil {
		return nil
	}
	select {
	case <-m.node.Done():
		err := m.node.Err()
		m.Stop()
		if errors.Is(err, ring.ErrBanned) {
			m.retire()
			return nil
		}
		// What was on its way when a disk was lost may have been decided since.
		m.lookUp()
		return m.revive()
	default:
		return nil
	}
}

// unplug takes the process off the network.
func (m *Machine) unplug(silent bool) {
	switch {
	case m.host == nil:
	case silent:
		m.host.PowerOff()
	default:
		m.host.Crash()
	}
}

// Pause stops the process, as SIGSTOP does: nothing reaches it and nothing leaves
// it. What it computes meanwhile stays with it.
func (m *Machine) Pause() {
	if m.node != nil {
		m.host.Pause()
	}
}

// Resume ends Pause.
func (m *Machine) Resume() {
	if m.node != nil {
		m.host.Resume()
	}
}
