// Package kv reads and writes keys across their homes: get, put, delete, scan,
// read repair, what stands in for homes that are away, and what people may see of
// a key's copies. Any node coordinates; both ends of the conversation between
// coordinator and home are here.
//
// It promises that a write is reported as done only once W homes have it on
// disk, as refused only if no home has it, and as unknown otherwise; and that a
// read at quorum never shows less than an earlier one.
//
// It does not decide who the homes are (ring, node/topology), nor who can be
// reached (gossip, rpc.Guard), and it does not repair what no read touches.
package kv

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

const (
	// ValueMaxDefault bounds a value in bytes.
	ValueMaxDefault = 1 << 20
	// ValueMaxLimit is how far the bound can be raised.
	ValueMaxLimit = 16 << 20

	// timeoutDefault is for requests that come without a deadline.
	timeoutDefault = 10 * time.Second

	// reroutesMax bounds how often one request begins anew, for a newer ring record
	// or for a value that has expired meanwhile. Each time waits until this node holds a
	// record that it did not hold before, so that the deadline comes first: a node that
	// is slow to adopt refuses nothing before its time.
	reroutesMax = 64

	// strangerMax is how long a request by a newer ring record waits for that
	// record if gossip has not told yet where its sender is: a standby is told
	// of its place before all others have heard of it.
	strangerMax = 2 * time.Second
)

// Rings is the ring record on this node; *topology.Topology satisfies it.
type Rings interface {
	// Current is nil until the node belongs to a cluster.
	Current() *ring.Record
	// Learn returns once this node holds durably a record of at least the
	// epoch, pulled from that peer.
	Learn(ctx context.Context, from rpc.Peer, epoch uint64) error
	// Changed is closed at the next change of Current.
	Changed() <-chan struct{}
	// Founding says how many members are there and how many are awaited.
	Founding() (have, want int)
}

// Members says where everybody is; *gossip.Cluster satisfies it.
type Members interface {
	// View is everyone that this node knows of; it is never changed.
	View() *gossip.View
}

// Circuits says which peers answer; *rpc.Guard satisfies it.
type Circuits interface {
	// Open says that requests to a member fail at once.
	Open(id ring.NodeID) bool
	// Latency gives the mean and about the 95th percentile of a member's latest
	// answers; both are 0 before the first.
	Latency(id ring.NodeID) (mean, p95 time.Duration)
}

// Witness keeps what members say of their disks, so that one whose disk has gone
// back in time is found out by the others. It must not block.
type Witness interface {
	// Unsure says why this node's copies don't count for reads now; nil if
	// they do.
	Unsure() error
	// Tell gives how many batches this node has on disk, for a member; 0
	// tells nothing.
	Tell(to ring.NodeID) uint64
	// Told takes what a member has told.
	Told(by ring.NodeID, batches uint64)
}

// Repair says how far this node's copies are from the other homes'.
type Repair interface {
	// Counts says that this node's copies of the partition may count for
	// reads. It must not block.
	Counts(p ring.Partition) bool
}

// Config is what a Coordinator works with. All fields are needed but for those
// with a default.
type Config struct {
	// Self is this node.
	Self ring.NodeID
	// Store has this node's copies. It is open until the Coordinator is closed.
	Store *store.Store
	// Rings gives the ring record by which requests are routed.
	Rings Rings
	// Members says where other nodes are.
	Members Members
	// Transport reaches them.
	Transport rpc.Transport
	// Circuits says which of them are worth a try.
	Circuits Circuits
	// Started, optional, is closed once Members has begun to know somebody:
	// before that nobody is asked for the time.
	Started <-chan struct{}
	// Clock gives the stamps, made with Now and SkewMax. It is nobody else's.
	Clock *version.Clock
	// SkewMax is how far this node's clock may be ahead of its peers' for it to mint.
	SkewMax time.Duration
	// Now is the wall clock.
	Now func() time.Time
	// ValueMax bounds a value in bytes; default ValueMaxDefault.
	ValueMax int
	// Witness, optional, knows what members have said of their disks.
	Witness Witness
	// Repair, optional, says which copies count for reads.
	Repair Repair
	// Pulled is what this node has noted of a partition whose slot moves; by default
	// what the Store says. It must not block.
	Pulled func(p ring.Partition) ring.Pulled
	// PulledChanged is closed when Pulled says something new; by default the Store's.
	PulledChanged func() <-chan struct{}
	// Logger gets what operators should know.
	Logger *slog.Logger
}

// Coordinator serves clients and homes on one node.
type Coordinator struct {
	cfg   Config
	sweep *sweeper
	skew  *skew
	clock atomic.Pointer[version.Clock] // see skew.restart

	served   atomic.Uint64 // see Served
	telling  atomic.Int64  // bytes of merges that no read waits for
	standing atomic.Int64  // bytes of records to stand-ins that no put waits for
	keeping  atomic.Int64  // records under way to be kept for homes: see Keeping

	orders orders
	held   held

	draining atomic.Bool

	ctx    context.Context // done when closing
	cancel context.CancelFunc

	mu     sync.Mutex // guards closed and the beginning of work
	closed bool
	// work counts goroutines of slow paths: rerouting, repair, scans.
	work sync.WaitGroup
}

// errClosed is what a Coordinator says once it is closing.
var errClosed = fmt.Errorf("%w: the node is stopping", api.ErrNotReady)

// New makes a Coordinator. Close ends it.
func New(cfg Config) *Coordinator {
	if cfg.ValueMax == 0 {
		cfg.ValueMax = ValueMaxDefault
	}
	if cfg.Pulled == nil {
		cfg.Pulled = cfg.Store.Pulled
	}
	if cfg.PulledChanged == nil {
		cfg.PulledChanged = cfg.Store.PulledChanged
	}
	c := &Coordinator{cfg: cfg, sweep: newSweeper(), held: held{wake: make(chan struct{}, 1)}}
	c.clock.Store(cfg.Clock)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.skew = newSkew(c)
	c.work.Go(func() { c.sweep.run(c.ctx) })
	c.work.Go(func() { c.skew.run(c.ctx) })
	c.work.Go(func() { c.letGo(c.ctx) })
	return c
}

// Close ends all that the Coordinator started, and answers the operations under
// way: a write of which it is not known that nothing was written is unknown. New
// ones are refused. It may be called once, while operations begin and end.
func (c *Coordinator) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.work.Wait()
	c.sweep.close()
}

// goroutine runs a step that waits; Close waits for it. It returns false, and
// runs nothing, once the Coordinator is closing: then Close answers.
func (c *Coordinator) goroutine(step func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.work.Go(step)
	return true
}

// Register puts the Coordinator's routes on a node's mux.
func (c *Coordinator) Register(m *rpc.Mux) {
	api.Put.HandleInline(m, rpc.ClassClient, func(call *rpc.Call, req *api.PutRequest) {
		if c.takes(call) {
			c.Put(req, call.Deadline(), putCall{call})
		}
	})
	api.Get.HandleInline(m, rpc.ClassClient, func(call *rpc.Call, req *api.GetRequest) {
		if c.takes(call) {
			c.Get(req, call.Deadline(), getCall{call})
		}
	})
	api.PutAll.HandleInline(m, rpc.ClassClient, func(call *rpc.Call, req *api.PutAllRequest) {
		if c.takes(call) {
			c.putAll(call, req)
		}
	})
	api.GetAll.HandleInline(m, rpc.ClassClient, func(call *rpc.Call, req *api.GetAllRequest) {
		if c.takes(call) {
			c.getAll(call, req)
		}
	})
	api.Scan.Handle(m, rpc.ClassClient, func(ctx context.Context, from rpc.Peer, req *api.ScanRequest) (*api.ScanResponse, error) {
		if c.draining.Load() {
			return nil, errDraining
		}
		return c.scan(ctx, from, req)
	})
	api.Inspect.Handle(m, rpc.ClassClient, c.inspect)
	mergeRoute.HandleInline(m, rpc.ClassHome, c.handleMerge)
	readRoute.HandleInline(m, rpc.ClassHome, c.handleRead)
	standInRoute.HandleInline(m, rpc.ClassHome, c.handleStandIn)
	keysRoute.Handle(m, rpc.ClassHome, c.handleKeys)
	clockRoute.HandleInline(m, rpc.ClassControl, c.handleClock)
}

// stamps is the clock that gives stamps now.
func (c *Coordinator) stamps() *version.Clock { return c.clock.Load() }

// peer is where a member can be reached; ok is false if that is not known.
func (c *Coordinator) peer(id ring.NodeID) (rpc.Peer, bool) {
	p := c.cfg.Members.View().Peer(id)
	if p == nil || p.RPCAddr == "" {
		return rpc.Peer{ID: id}, false
	}
	return rpc.Peer{ID: id, Addr: p.RPCAddr}, true
}

// Reachable says that requests to a member are tried: its address is known and
// its circuit is closed. The node reaches itself.
func (c *Coordinator) Reachable(id ring.NodeID) bool {
	if id == c.cfg.Self {
		return true
	}
	_, ok := c.peer(id)
	return ok && !c.cfg.Circuits.Open(id)
}

// record returns the ring to use for a whole request, or why there is none.
func (c *Coordinator) record() (*ring.Record, error) {
	r := c.cfg.Rings.Current()
	if r == nil {
		return nil, fmt.Errorf("%w: this node has not joined a cluster yet", api.ErrNotReady)
	}
	if !r.Founded() {
		have, want := c.cfg.Rings.Founding()
		return nil, fmt.Errorf("%w: the cluster is being founded: %d of %d members are there", api.ErrNotReady, have, want)
	}
	return r, nil
}

func (c *Coordinator) checkKey(key []byte) error {
	if len(key) == 0 {
		return fmt.Errorf("%w: the key is empty: a key has 1 to %d bytes", api.ErrBadRequest, version.KeySizeMax)
	}
	if len(key) > version.KeySizeMax {
		return fmt.Errorf("%w: the key has %d bytes: a key has 1 to %d bytes", api.ErrTooLarge, len(key), version.KeySizeMax)
	}
	return nil
}

// deadlines gives the homes a little less time than the caller has, so that its
// answer can name the home that was late.
func (c *Coordinator) deadlines(caller time.Time) (homes, own time.Time) {
	now := time.Now()
	if caller.IsZero() {
		caller = now.Add(timeoutDefault)
	}
	left := max(0, caller.Sub(now))
	own = caller.Add(-min(left/10, 30*time.Millisecond))
	return caller.Add(-min(left/5, 50*time.Millisecond)), own
}

// token binds a context to its key and cluster.
func (c *Coordinator) token(r *ring.Record, key []byte, ctx version.Context) []byte {
	const usual = 64 // bytes of a token of a few actors
	return version.AppendToken(make([]byte, 0, usual), r.Cluster, key, ctx)
}
