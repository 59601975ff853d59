// Package network is a simulated network between rpc hosts, in memory.
//
// It owns time and loss on the way: every ordered pair of hosts has a link with
// latency, jitter, bandwidth, loss and chance of its own, drawn from the seed, the
// pair, the message and the time; links are cut one way or both; hosts pause,
// crash and come back. It behaves as TCP does where that decides what a sender may
// believe: a refused or failed dial says that nothing left; what was sent over a
// connection that then broke, or fell silent, may have arrived.
//
// Messages are encoded and given to the receiver's rpc.Mux as bytes, and a
// request's deadline travels as the time that is left: a request that is late by
// minutes arrives with its patience unspent, as over TCP.
//
// It promises to replay: the same calls in the same order give the same
// deliveries, and so do calls that change places within one instant. All handlers
// and completers are called from one goroutine, without locks, one in a
// nanosecond: in virtual time, all that follows from one has happened before the
// next. Beside rpc, a host may have sockets for datagrams and streams, which the
// same links carry.
package network

import (
	"cmp"
	"container/heap"
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/kithdb/kith/rpc"
)

// Config shapes a network. The zero value works.
type Config struct {
	Seed uint64
	// Link is what every link is like that SetLink did not shape. Its zero
	// value means 1 ms, and as much again by chance.
	Link Link
	// DialTimeout is after how long a dial without an answer has failed; 0
	// is 3 s.
	DialTimeout time.Duration
	// StallTimeout is after how long a connection across a cut breaks; 0 is
	// 10 s.
	StallTimeout time.Duration
	// PendingMax bounds the bytes of requests that wait for one peer; above
	// it they are refused. 0 is 64 MiB.
	PendingMax int
	// FrameMax bounds one message; 0 is 20 MiB.
	FrameMax int
	// Duplicable says which routes' requests may arrive twice where a link
	// duplicates; nil is all.
	Duplicable func(route string) bool
	// Trace gets every event, in order. It must not block.
	Trace func(Event)
}

// Event is something that happened.
type Event struct {
	At   time.Time
	What string // sent, delivered, answered, done, held, dropped, cut, healed, ...
	From string // names of hosts
	To   string
	Note string // the route, or an error
	Size int
}

// Counts are totals since New.
type Counts struct {
	Sent       int64 // requests handed in
	Delivered  int64 // requests given to a Mux
	Answered   int64 // replies that arrived in time
	Failed     int64 // requests that ended with an error of the network
	Held       int64 // messages that waited behind a cut or at a paused host
	Dropped    int64 // messages that never arrived
	Duplicated int64
	Bytes      int64 // of requests and replies
	Dials      int64
	Broken     int64 // connections
	// Of sockets. Their bytes and duplicates count above.
	Datagrams     int64
	DatagramsLost int64
	Streams       int64
}

// Network carries requests between hosts. It is safe for concurrent use.
type Network struct {
	cfg   Config
	began time.Time
	wake  chan struct{}
	done  chan struct{}
	// ending refuses the requests that come to a process which is ending.
	ending *rpc.Mux

	mu        sync.Mutex // guards everything below; never held across a call-out
	closed    bool
	all       []*Host          // of this network's whole life that are not closed
	listening map[string]*Host // by address
	newest    map[string]*Host // by name
	nameAt    map[string]string
	off       map[string]bool // addresses whose machine has no power
	links     map[[2]string]*link
	sockets   map[string]*Socket // by address, the closed ones too
	events    eventHeap
	until     time.Duration // when the loop wakes by itself, since began
	free      time.Duration // the loop has done what it did before this, since began
	seq       uint64
	version   uint64   // see Version
	calls     []func() // call-outs that wait for the loop
	traces    []Event
	counts    Counts
}

// New starts a network. The caller closes it.
func New(cfg Config) *Network {
	if cfg.Link == (Link{}) {
		cfg.Link = Link{Latency: time.Millisecond, Jitter: time.Millisecond}
	}
	cfg.DialTimeout = cmp.Or(cfg.DialTimeout, 3*time.Second)
	cfg.StallTimeout = cmp.Or(cfg.StallTimeout, 10*time.Second)
	cfg.PendingMax = cmp.Or(cfg.PendingMax, 64<<20)
	cfg.FrameMax = cmp.Or(cfg.FrameMax, 20<<20)
	n := &Network{
		cfg: cfg, began: time.Now(), wake: make(chan struct{}, 1), done: make(chan struct{}), ending: newEnding(),
		listening: map[string]*Host{}, newest: map[string]*Host{}, nameAt: map[string]string{},
		off: map[string]bool{}, links: map[[2]string]*link{},
	}
	go n.run()
	return n
}

// Close fails what is on its way with ErrClosed and ends the network's
// goroutine. It must not be called from a handler or completer.
func (n *Network) Close() {
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		n.events = nil
		for _, h := range n.all {
			h.abandon()
			h.unbind(false)
		}
	}
	n.unlock()
	<-n.done
}

// PendingMax is the most bytes of requests that wait for one peer.
func (n *Network) PendingMax() int { return n.cfg.PendingMax }

// Counts returns the counters.
func (n *Network) Counts() Counts {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counts
}

// Version changes whenever Reaches may have another answer.
func (n *Network) Version() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.version
}

// unlock unlocks, and wakes the loop if there is something to do before it
// would wake by itself.
func (n *Network) unlock() {
	idle := !n.closed && len(n.traces) == 0 && n.next() >= n.until
	n.mu.Unlock()
	if idle {
		return
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// run is the only goroutine: it fires events when their time has come, and makes
// the calls that they lead to.
func (n *Network) run() {
	defer close(n.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait, more := n.step()
		if !more {
			return
		}
		timer.Reset(wait)
		select {
		case <-n.wake:
		case <-timer.C:
		}
	}
}

// never is when there is nothing to do, since the network began.
const never = time.Duration(1<<63 - 1)

// next is when the loop has something to do, since the network began. The network
// is locked.
func (n *Network) next() time.Duration {
	switch {
	case len(n.calls) > 0:
		return n.free
	case len(n.events) > 0:
		return max(n.free, n.events[0].at)
	}
	return never
}

// step makes the first call that waits, or fires the first event that is due and
// makes the call that it leads to. It says how long there is nothing to do, or
// that there never will be. What two messages lead to would have no order if they
// came at one instant: so the loop does one thing in a nanosecond.
func (n *Network) step() (wait time.Duration, more bool) {
	n.mu.Lock()
	now := time.Since(n.began)
	var call func()
	if n.next() <= now {
		n.free = now + 1
		if len(n.calls) == 0 {
			heap.Pop(&n.events).(*event).fire()
		}
		if len(n.calls) > 0 {
			call, n.calls = n.calls[0], n.calls[1:]
		}
	}
	traces := n.traces
	n.traces = nil
	wait = min(n.next()-now, time.Hour)
	n.until = now + wait
	more = !n.closed || len(n.calls) > 0
	n.mu.Unlock()
	for _, e := range traces {
		n.cfg.Trace(e)
	}
	if call != nil {
		call()
	}
	return wait, more || call != nil
}

// later has f called by the loop, without the lock. The network is locked.
func (n *Network) later(f func()) { n.calls = append(n.calls, f) }

// schedule fires f at a time, with the network locked. Events of one time and rank
// are fired in the order in which they were scheduled: if goroutines do that at
// one instant, that order is the scheduler's, and their ranks should differ.
func (n *Network) schedule(at time.Time, rank uint64, f func()) *event {
	if n.closed {
		return nil
	}
	n.seq++
	e := &event{at: at.Sub(n.began), rank: rank, seq: n.seq, fire: f}
	heap.Push(&n.events, e)
	return e
}

// cancel takes back what was scheduled, if it has not fired.
func (n *Network) cancel(e *event) {
	if e != nil && e.index >= 0 && e.index < len(n.events) && n.events[e.index] == e {
		heap.Remove(&n.events, e.index)
	}
}

func (n *Network) trace(what, from, to, note string, size int) {
	if n.cfg.Trace != nil {
		n.traces = append(n.traces, Event{At: time.Now(), What: what, From: from, To: to, Note: note, Size: size})
	}
}

// generator makes a source of chance for a name.
func (n *Network) generator(name ...string) *rand.Rand {
	h := fnv.New64a()
	h.Write(binary.BigEndian.AppendUint64(nil, n.cfg.Seed))
	for _, s := range name {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return rand.New(rand.NewPCG(n.cfg.Seed, h.Sum64()))
}

// link finds the link between two names. The network is locked.
func (n *Network) link(from, to string) *link {
	key := [2]string{from, to}
	l := n.links[key]
	if l == nil {
		l = &link{net: n, from: from, to: to, seed: n.generator(from, to).Uint64()}
		l.rng = rand.New(&l.source)
		n.links[key] = l
	}
	return l
}

// sortedLinks gives all links in one order. The network is locked.
func (n *Network) sortedLinks() []*link {
	links := make([]*link, 0, len(n.links))
	for _, l := range n.links {
		links = append(links, l)
	}
	slices.SortFunc(links, func(a, b *link) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	})
	return links
}

// event is something that will happen, the network being locked.
type event struct {
	at   time.Duration // since the network began
	rank uint64        // says what it is about
	seq  uint64
	fire func()

	index int // in the heap
}

// eventHeap has the earliest event first, and of one instant the one of the lowest
// rank.
type eventHeap []*event

// Len implements heap.Interface.
func (h eventHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h eventHeap) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	if h[i].rank != h[j].rank {
		return h[i].rank < h[j].rank
	}
	return h[i].seq < h[j].seq
}

// Swap implements heap.Interface.
func (h eventHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *eventHeap) Push(x any) {
	e := x.(*event)
	e.index = len(*h)
	*h = append(*h, e)
}

// Pop implements heap.Interface.
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.index = -1
	return e
}
