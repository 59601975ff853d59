package topology

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
)

// world is several nodes in one bubble: their disks, their network and what they
// believe of one another.
type world struct {
	t    *testing.T
	seed uint64

	dice *rand.Rand // the test's own

	mu      sync.Mutex // guards the rest
	weather *rand.Rand
	nodes   []*node
	cuts    map[[2]ring.NodeID]bool
	lossy   bool
	viewed  chan struct{}
	// onSend, if set, sees every request and says whether it is lost.
	onSend func(from, to ring.NodeID, route string, msg any) (lost bool)
	sent   map[string]int
	// onAdopt, if set, sees every record that a node adopts, before it does.
	onAdopt func(n *disk, r *ring.Record)
	// decided has, by cluster and epoch, the one digest that may be stored.
	decided map[string][32]byte
}

// node is one directory on its way through several lives.
type node struct {
	*world
	id   ring.NodeID
	addr string
	disk *disk
	cfg  Config

	// the current life; changed by the test alone, under world.mu
	*Topology
	mux   *rpc.Mux
	life  *life
	state gossip.State
	up    bool
}

// life ends with the process: nothing of it reaches disk or network afterwards.
type life struct {
	mu   sync.Mutex
	dead bool
	stop context.CancelFunc
	done chan struct{}
	err  error // of Run, when done is closed
}

func (l *life) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// inWorld runs a test in a bubble. All nodes are killed at the end.
func inWorld(t *testing.T, seed uint64, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, seed: seed, dice: rand.New(rand.NewPCG(seed, 3)), weather: rand.New(rand.NewPCG(seed, 4)), cuts: map[[2]ring.NodeID]bool{},
			viewed: make(chan struct{}), sent: map[string]int{}, decided: map[string][32]byte{}}
		defer func() {
			for _, n := range w.nodes {
				n.kill()
			}
		}()
		test(t, w)
	})
}

// node adds a directory that has never been used.
func (w *world) node(cfg Config) *node {
	n := &node{world: w, addr: fmt.Sprintf("n%d:1", len(w.nodes)+1), disk: newDisk(w)}
	binary.BigEndian.PutUint64(n.id[:], w.dice.Uint64())
	n.id[15] = byte(len(w.nodes) + 1)
	cfg.Self.ID, cfg.Self.Name = n.id, n.addr
	if cfg.Cluster == "" {
		cfg.Cluster = "test"
	}
	if cfg.Partitions == 0 {
		cfg.Partitions = 16
	}
	n.cfg = cfg
	w.mu.Lock()
	w.nodes = append(w.nodes, n)
	w.mu.Unlock()
	return n
}

// open begins a life without its loops.
func (n *node) open() error {
	l := &life{done: make(chan struct{})}
	cfg := n.cfg
	cfg.Seed = n.dice.Uint64()
	cfg.Disk = &handle{n.disk, l}
	cfg.Membership, cfg.Transport = (*member)(n), &sender{n, l}
	cfg.Logger = slog.New(slog.DiscardHandler)
	topology, err := Open(cfg)
	if err != nil {
		return err
	}
	mux := rpc.NewMux(rpc.MuxConfig{})
	topology.Register(mux)
	n.mu.Lock()
	n.Topology, n.mux, n.life = topology, mux, l
	n.up, n.state = true, topology.State()
	n.mu.Unlock()
	n.wake()
	return nil
}

// start begins a life.
func (n *node) start() {
	n.t.Helper()
	if err := n.open(); err != nil {
		n.t.Fatalf("%s: %v", n.addr, err)
	}
	n.run()
}

func (n *node) run() {
	ctx, stop := context.WithCancel(context.Background())
	n.life.stop = stop
	l, topology := n.life, n.Topology
	go func() {
		l.err = topology.Run(ctx)
		close(l.done)
	}()
}

// kill ends a life at once.
func (n *node) kill() {
	n.mu.Lock()
	was := n.up
	n.up = false
	n.mu.Unlock()
	if !was {
		return
	}
	n.life.mu.Lock()
	n.life.dead = true
	n.life.mu.Unlock()
	if n.life.stop != nil {
		n.life.stop()
		<-n.life.done
	}
	n.mux.Close()
	n.wake()
}

func (w *world) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.viewed)
	w.viewed = make(chan struct{})
}

// watch sets what sees every request; nil for none.
func (w *world) watch(see func(from, to ring.NodeID, route string, msg any) (lost bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onSend = see
}

// storm sets whether messages get lost.
func (w *world) storm(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lossy = on
}

func pair(a, b ring.NodeID) [2]ring.NodeID {
	if a.Compare(b) > 0 {
		a, b = b, a
	}
	return [2]ring.NodeID{a, b}
}

// cut parts the given nodes from all others; heal ends all cuts.
func (w *world) cut(group ...*node) {
	w.mu.Lock()
	for _, a := range group {
		for _, b := range w.nodes {
			if !slices.Contains(group, b) {
				w.cuts[pair(a.id, b.id)] = true
			}
		}
	}
	w.mu.Unlock()
	w.wake()
}

func (w *world) heal() {
	w.mu.Lock()
	clear(w.cuts)
	w.mu.Unlock()
	w.wake()
}

// until waits for a condition, in the bubble's time.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for start := time.Now(); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > 5*time.Minute {
			w.t.Fatalf("seed %d: never: %s", w.seed, what)
		}
	}
}

// agree waits until all nodes hold the same record, of at least that epoch.
func (w *world) agree(epoch uint64, nodes ...*node) *ring.Record {
	w.t.Helper()
	w.until(fmt.Sprintf("%d nodes agree on epoch %d or later", len(nodes), epoch), func() bool {
		for _, n := range nodes {
			r, first := n.Current(), nodes[0].Current()
			if r == nil || r.Epoch < epoch || r.Digest() != first.Digest() {
				return false
			}
		}
		return true
	})
	return nodes[0].Current()
}

// founded makes a cluster of n running nodes with a table.
func (w *world) founded(n, replicas int) []*node {
	w.t.Helper()
	nodes := make([]*node, n)
	for i := range nodes {
		nodes[i] = w.node(Config{Founder: i == 0, Expect: n, Replicas: replicas})
		nodes[i].start()
	}
	w.agree(2, nodes...)
	return nodes
}

// bystander makes one more node, and waits until all of a founded cluster's hold the
// record in which it is a member on standby.
func (w *world) bystander(nodes []*node) *node {
	w.t.Helper()
	n := w.node(Config{})
	n.start()
	w.agree(3, append(slices.Clone(nodes), n)...)
	return n
}

// disk keeps what was synced, through all lives.
type disk struct {
	w      *world
	mu     sync.Mutex
	meta   map[string][]byte
	fences []uint64
	// dropped are the partitions that were to be dropped, in their order.
	dropped []ring.Partition
	// strays are partitions that have records, and reopened is closed when that may
	// have changed.
	strays   map[ring.Partition]bool
	reopened chan struct{}
	// unreadable is why nobody can look for strays.
	unreadable error
	fail       error
	slow       time.Duration
}

func newDisk(w *world) *disk {
	return &disk{w: w, meta: map[string][]byte{}, strays: map[ring.Partition]bool{}, reopened: make(chan struct{}), slow: time.Millisecond}
}

// stored are the fences that are durable now.
func (d *disk) stored() []uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.fences)
}

// handle is a disk as one life sees it.
type handle struct {
	*disk
	life *life
}

var errDead = errors.New("the process is dead")

func (h *handle) Meta(name string) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life.isDead() {
		return nil, errDead
	}
	return slices.Clone(h.meta[name]), h.fail
}

func (h *handle) write(do func()) error {
	time.Sleep(h.slow) // of the bubble's time, as all that disks do
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life.isDead() {
		return errDead
	}
	if h.fail == nil {
		do()
	}
	return h.fail
}

func (h *handle) SetMeta(name string, value []byte) error {
	return h.write(func() { h.meta[name] = slices.Clone(value) })
}

func (h *handle) Adopt(record []byte, fences func(ring.Partition) uint64, partitions int, drops []ring.Partition) error {
	r, err := ring.Decode(record)
	if err != nil {
		h.w.t.Errorf("adopted what is no record: %v", err)
		return err
	}
	h.w.mu.Lock()
	name := fmt.Sprint(r.Cluster, r.Epoch)
	if before, ok := h.w.decided[name]; ok && before != r.Digest() {
		h.w.t.Errorf("seed %d: two records of epoch %d are adopted", h.w.seed, r.Epoch)
	}
	h.w.decided[name] = r.Digest()
	onAdopt := h.w.onAdopt
	h.w.mu.Unlock()
	if onAdopt != nil {
		onAdopt(h.disk, r)
	}
	return h.write(func() {
		h.meta["ring"] = slices.Clone(record)
		h.dropped = append(h.dropped, drops...)
		for _, p := range drops {
			delete(h.strays, p)
		}
		h.fences = h.fences[:0]
		for p := range partitions {
			h.fences = append(h.fences, fences(ring.Partition(p)))
		}
	})
}

// Strays implements Disk.
func (h *handle) Strays(among []ring.Partition) (found []ring.Partition, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life.isDead() {
		return nil, errDead
	}
	for _, p := range among {
		if h.strays[p] {
			found = append(found, p)
		}
	}
	return found, errors.Join(h.fail, h.unreadable)
}

// Reopened implements Disk.
func (h *handle) Reopened() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.disk.reopened
}

// member is a node's Membership.
type member node

func (m *member) View() *gossip.View {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := &gossip.View{}
	for _, n := range m.nodes {
		if n.state == (gossip.State{}) || n.cfg.Cluster != m.cfg.Cluster {
			continue // never seen
		}
		v.Peers = append(v.Peers, gossip.Peer{ID: n.id, Name: n.cfg.Self.Name, Zone: n.cfg.Self.Zone, RPCAddr: n.addr,
			GossipAddr: "gossip." + n.addr, Alive: n.up && !m.cuts[pair(m.id, n.id)], State: n.state})
	}
	slices.SortFunc(v.Peers, func(a, b gossip.Peer) int { return a.ID.Compare(b.ID) })
	return v
}

func (m *member) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.viewed
}

func (m *member) Announce(s gossip.State) {
	m.mu.Lock()
	m.state = s
	m.mu.Unlock()
	m.wake()
}

// sender is a node's Transport.
type sender struct {
	*node
	life *life
}

func (s *sender) Send(to rpc.Peer, route string, msg any, deadline time.Time, c rpc.Completer) {
	body := msg.(wire.Appender).AppendWire(nil)
	var once sync.Once
	complete := func(reply []byte, err error) { once.Do(func() { c.Complete(reply, err) }) }
	s.mu.Lock()
	i := slices.IndexFunc(s.nodes, func(n *node) bool { return n.addr == to.Addr })
	lost, delay := s.lossy && s.weather.IntN(5) == 0, s.delay()
	late, lostReply := s.delay(), s.lossy && s.weather.IntN(5) == 0
	s.sent[route]++
	onSend := s.onSend
	s.mu.Unlock()
	if i >= 0 && onSend != nil && onSend(s.id, s.nodes[i].id, route, msg) {
		lost = true
	}
	if i < 0 || s.life.isDead() || !s.reaches(i) {
		complete(nil, rpc.ErrUnreachable)
		return
	}
	time.AfterFunc(time.Until(deadline), func() { complete(nil, rpc.ErrDeadline) })
	if lost {
		return
	}
	time.AfterFunc(delay, func() {
		if !s.reaches(i) {
			return
		}
		s.mu.Lock()
		mux, peer := s.nodes[i].mux, s.nodes[i].life
		s.mu.Unlock()
		mux.Serve(rpc.Peer{ID: s.id, Addr: "from." + s.addr}, route, body, deadline, func(reply []byte, err error) {
			if lostReply || peer.isDead() {
				return
			}
			time.AfterFunc(late, func() {
				if !s.life.isDead() && s.reaches(i) {
					complete(reply, err)
				}
			})
		})
	})
}

func (s *sender) reaches(i int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[i].up && !s.cuts[pair(s.id, s.nodes[i].id)]
}

func (w *world) delay() time.Duration {
	return time.Duration(100+w.weather.IntN(3000)) * time.Microsecond
}
