package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/kithdb/kith/ring"
)

const (
	// reconnectInterval: with serf's 30 s a cut of minutes heals in half a
	// minute, with 5 s in a few seconds.
	reconnectInterval = 5 * time.Second
	// forever is how long serf keeps a failed member. Who is a member is for
	// the ring record to say, not for a timeout.
	forever = 100 * 365 * 24 * time.Hour
	// reclaimTime is how long after its death an ID may come back at another
	// address. Short, because the judge asks the old address first.
	reclaimTime = time.Second
	// tellTime is how long a change of tags waits to be sent before the next
	// one may follow; it only paces.
	tellTime = 250 * time.Millisecond
	// eventsMax is above the 1,024 events that serf may still hold when it
	// shuts down: it then never waits for a reader that has gone.
	eventsMax = 2048
)

// Cluster is this node's part in gossip. All its methods may be called by
// anyone at any time, also after Close.
type Cluster struct {
	cfg   Config
	run   run
	log   *notices
	net   *transport
	serf  *serf.Serf
	book  *peerBook
	guard *guard
	judge *judge

	events chan serf.Event // from serf; only its arrival matters
	dirty  chan struct{}   // a token: the view is to be built anew
	tell   chan struct{}   // a token: the tags are to be told anew
	retry  chan struct{}   // a token: the joiner need not wait

	state   atomic.Pointer[State]
	current atomic.Pointer[moment]
	joinErr atomic.Pointer[error]

	failOnce sync.Once
	silent   atomic.Bool // after a failure; nothing is tried any more
	failed   chan error

	cancel    context.CancelFunc
	wg        sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

// moment is one view and the wake-up that its successor gives.
type moment struct {
	view    *View
	changed chan struct{}
}

// Start listens, and looks for the others in the background: a node without
// any peer in reach starts as well. It fails on a bad Config, an address that
// cannot be bound or advertised, and a Book that cannot be read.
func Start(cfg Config) (*Cluster, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	for cfg.Seed == 0 {
		cfg.Seed = rand.Uint64()
	}
	var peers []Entry
	if cfg.Book != nil {
		var err error
		if peers, err = cfg.Book.Load(); err != nil {
			return nil, fmt.Errorf("gossip: load the peer book: %w", err)
		}
	}
	c := newCluster(cfg, peers)
	if err := c.start(); err != nil {
		c.log.close()
		return nil, err
	}
	return c, nil
}

func newCluster(cfg Config, peers []Entry) *Cluster {
	c := &Cluster{
		cfg: cfg,
		// A generator of its own: two processes with one Seed differ in start.
		run:    run{start: time.Now().Truncate(time.Millisecond), nonce: rand.Uint64()},
		book:   newPeerBook(cfg.ID, peers),
		events: make(chan serf.Event, eventsMax),
		dirty:  make(chan struct{}, 1),
		tell:   make(chan struct{}, 1),
		retry:  make(chan struct{}, 1),
		failed: make(chan error, 1),
	}
	state := trimState(cfg.State)
	c.state.Store(&state)
	c.log = newNotices(cfg.Logger, c.foreignName)
	return c
}

func (c *Cluster) start() error {
	library := c.log.library()
	var err error
	if c.net, err = newTransport(&c.cfg, library, c.oversized); err != nil {
		return err
	}
	own := c.state.Load().Cluster
	c.judge = newJudge(c.cfg.ID, c.net.addr(), c.run, c.cfg.Seed, c.net.hush, c.log)
	c.guard = &guard{self: c.cfg.ID, addr: c.net.addr(), log: c.log, judge: c.judge}
	c.guard.own.Store(&own)
	c.guard.sides.Store(new(ring.ClusterID))
	c.current.Store(&moment{view: c.firstView(), changed: make(chan struct{})})

	if c.serf, err = serf.Create(c.serfConfig()); err != nil {
		return errors.Join(fmt.Errorf("gossip: start: %w", err), c.net.Shutdown())
	}
	c.judge.ping = func(addr string) error {
		_, err := c.serf.Memberlist().Ping(c.cfg.ID.String(), hostPort(addr))
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	for _, loop := range []func(context.Context){
		c.drainLoop, c.viewLoop, c.tellLoop, c.joinLoop, c.saveLoop, c.judgeLoop, c.deathLoop,
	} {
		c.wg.Go(func() { loop(ctx) })
	}
	return nil
}

func (c *Cluster) serfConfig() *serf.Config {
	m := memberlist.DefaultLANConfig()
	m.Transport = c.net
	m.BindAddr, m.BindPort = c.net.ip.String(), c.net.port
	m.Label = c.cfg.Cluster
	m.SecretKey = c.cfg.Key
	m.Merge, m.Alive, m.Ping = c.guard, c.guard, c.judge
	m.DeadNodeReclaimTime = reclaimTime
	// Tags are a hundred bytes: nothing to squeeze, and LZW allocates.
	m.EnableCompression = false
	m.LogOutput, m.Logger = nil, c.log.library()

	s := serf.DefaultConfig()
	s.NodeName = c.cfg.ID.String()
	s.Tags = c.tags()
	s.MemberlistConfig = m
	s.EventCh = c.events
	s.LogOutput, s.Logger = nil, m.Logger
	s.BroadcastTimeout = tellTime
	s.ReconnectInterval = reconnectInterval
	s.ReconnectTimeout, s.TombstoneTimeout = forever, forever
	s.ReconnectTimeoutOverride = reaper{c.book}
	// A vote of those present shuts down whoever is in the smaller part. The
	// judge decides instead.
	s.EnableNameConflictResolution = false
	s.DisableCoordinates = true
	return s
}

// reaper lets serf drop a failed member that was removed from the ring, and
// nobody else.
type reaper struct{ book *peerBook }

func (r reaper) ReconnectTimeout(m *serf.Member, timeout time.Duration) time.Duration {
	if id, err := ring.ParseNodeID(m.Name); err == nil && r.book.isForgotten(id) {
		return 0
	}
	return timeout
}

// View is everyone that this node knows of, itself included, sorted by ID. It
// is never changed; the next one is another View.
func (c *Cluster) View() *View { return c.current.Load().view }

// Changed is closed when the next View is there. Get the channel, then read
// View, then wait: no change is missed.
func (c *Cluster) Changed() <-chan struct{} { return c.current.Load().changed }

// Announce tells all others the state of this node. It never blocks; of many
// states in a row the newest is told. State.Ready is cut at ReadyMax bytes.
func (c *Cluster) Announce(s State) {
	s = trimState(s)
	c.state.Store(&s)
	c.guard.own.Store(&s.Cluster)
	wake(c.tell)
	wake(c.dirty)
}

func trimState(s State) State {
	s.Ready = s.Ready[:min(len(s.Ready), ReadyMax)]
	return s
}

// Forget drops a member that was removed from the ring: it leaves the book for
// good, is no longer looked for, and disappears from the view unless it is
// alive. It holds for this life of the process.
func (c *Cluster) Forget(id ring.NodeID) {
	c.book.forget(id)
	wake(c.dirty)
}

// Failed gives one error when this node must stop: ErrDuplicate, or membership
// ended by itself. Gossip is then already silent.
func (c *Cluster) Failed() <-chan error { return c.failed }

// Foreign lists the peers that were refused because they belong to another
// cluster, by ID or by name: the last 64, the newest at the end.
func (c *Cluster) Foreign() []Foreign { return c.guard.list() }

// JoinError says why the last try to reach a peer failed; nil after one that
// succeeded.
func (c *Cluster) JoinError() error {
	if err := c.joinErr.Load(); err != nil {
		return *err
	}
	return nil
}

// Addr is the HOST:PORT of gossip that the others are told.
func (c *Cluster) Addr() string { return c.net.addr() }

// Close stops gossip and waits for its goroutines. Nobody is told: the others
// find out, and keep this node for its return. The book is saved.
func (c *Cluster) Close() error {
	c.closeOnce.Do(func() {
		c.cancel()
		c.closeErr = c.serf.Shutdown()
		c.wg.Wait()
		c.log.close()
	})
	return c.closeErr
}

func (c *Cluster) alone() bool {
	v := c.View()
	for i := range v.Peers {
		if p := &v.Peers[i]; p.Alive && p.ID != c.cfg.ID {
			return false
		}
	}
	return true
}

// fail makes this node silent and tells why, once.
func (c *Cluster) fail(err error) {
	c.failOnce.Do(func() {
		c.silent.Store(true)
		c.log.Warn("gossip stops", "error", err)
		if e := c.serf.Shutdown(); e != nil {
			err = errors.Join(err, e)
		}
		c.failed <- err
	})
}

func (c *Cluster) judgeLoop(ctx context.Context) {
	if err := c.judge.loop(ctx, c.retry); err != nil {
		c.fail(err)
	}
}

// deathLoop watches for an end that nobody here asked for: without it the
// process would live on and see nobody.
func (c *Cluster) deathLoop(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-c.serf.ShutdownCh():
		if ctx.Err() == nil {
			c.fail(errShutDown)
		}
	}
}

func (c *Cluster) oversized(from net.Addr, size int) {
	c.log.Limited(slog.LevelWarn, notOurs, notOurs, "from", from.String(), "packet_bytes", size, "packet_bytes_max", packetMax)
}

// foreignName notes a peer whose cluster has another name.
func (c *Cluster) foreignName(name, from string) {
	if c.guard != nil {
		c.guard.note(Foreign{Addr: from, ClusterName: name})
	}
}
