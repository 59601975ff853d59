package rpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kithdb/kith/ring"
)

const (
	probeEvery = 250 * time.Millisecond // to a peer whose circuit is open
	probeAgain = time.Second            // while one is under way
	probeTime  = 5 * time.Second        // that a probe has: peers may be seconds away
	failureMin = 100 * time.Millisecond // a request that had less time says nothing of the peer
	failureMax = 2                      // failures without a success open the circuit
)

// GuardConfig sets up a Guard. The zero value is good.
type GuardConfig struct {
	// Seed of the jitter between probes.
	Seed uint64
}

// Guard is a Transport that remembers how this node itself has fared with each
// peer: gossip may believe a peer alive that we can't reach. While a peer's
// circuit is open, requests to it fail at once with ErrUnreachable, and Run
// probes it. Peers are told apart by their ID; those without pass unguarded.
//
// A circuit opens when no connection can be made, or when two requests failed
// for want of an answer and none has been answered since they began. It closes
// with the first answer, whatever it says.
type Guard struct {
	next    Transport
	cfg     GuardConfig
	changed chan struct{} // of capacity 1
	opened  chan struct{} // of capacity 1: wakes Run

	mu    sync.Mutex // held by those who replace peers
	peers atomic.Pointer[map[ring.NodeID]*circuit]
}

// circuit is what is known of one peer.
type circuit struct {
	latency latency
	open    atomic.Bool

	mu       sync.Mutex // guards the rest, and changes of open
	to       Peer       // of the latest request
	cause    error      // of the latest failure
	failures int        // since the latest answer
	answered time.Time  // when the latest answer came
	probes   int        // under way
	probed   time.Time  // when the latest one began
}

// NewGuard guards next. Without Run, a circuit that has opened stays open until
// its peer has a new address.
func NewGuard(next Transport, cfg GuardConfig) *Guard {
	g := &Guard{next: next, cfg: cfg, changed: make(chan struct{}, 1), opened: make(chan struct{}, 1)}
	g.peers.Store(&map[ring.NodeID]*circuit{})
	return g
}

// Open says that requests to id fail at once. It is false for a peer that was
// never tried.
func (g *Guard) Open(id ring.NodeID) bool {
	c := (*g.peers.Load())[id]
	return c != nil && c.open.Load()
}

// Latency gives the exponentially weighted mean and about the 95th percentile of
// the latest answers of id; both are 0 before the first.
func (g *Guard) Latency(id ring.NodeID) (mean, p95 time.Duration) {
	c := (*g.peers.Load())[id]
	if c == nil {
		return 0, 0
	}
	return c.latency.read()
}

// Changed gets a value when a circuit has opened or closed since the last one
// was taken. It is for one reader.
func (g *Guard) Changed() <-chan struct{} { return g.changed }

// Forget drops what is known of a peer that is no member any more.
func (g *Guard) Forget(id ring.NodeID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	next := maps.Clone(*g.peers.Load())
	delete(next, id)
	g.peers.Store(&next)
}

// Send implements Transport.
func (g *Guard) Send(to Peer, route string, msg any, deadline time.Time, done Completer) {
	if to.ID.IsZero() {
		g.next.Send(to, route, msg, deadline, done)
		return
	}
	c := g.circuit(to)
	if c.open.Load() {
		if cause := c.refuse(to); cause != nil {
			// The cause is told in words only: it speaks of an earlier request, which
			// may have been sent, and this one was not.
			done.Complete(nil, fmt.Errorf("%s to %s: %w: circuit open: %v", route, to.Addr, ErrUnreachable, cause))
			return
		}
	}
	w := watches.Get().(*watch)
	*w = watch{guard: g, circuit: c, to: to, done: done, began: time.Now()}
	g.next.Send(to, route, msg, deadline, w)
}

func (g *Guard) circuit(to Peer) *circuit {
	if c := (*g.peers.Load())[to.ID]; c != nil {
		return c
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	old := *g.peers.Load()
	if c := old[to.ID]; c != nil {
		return c
	}
	next := maps.Clone(old)
	c := &circuit{to: to}
	next[to.ID] = c
	g.peers.Store(&next)
	return c
}

// refuse gives why requests fail, or nil: a peer that has a new address gets a
// new chance.
func (c *circuit) refuse(to Peer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.to != to {
		c.to = to
		return nil
	}
	return c.cause
}

// watch is the Completer of one guarded request.
type watch struct {
	guard   *Guard
	circuit *circuit
	to      Peer
	done    Completer
	began   time.Time
}

var watches = sync.Pool{New: func() any { return &watch{} }}

// Complete implements Completer.
func (w *watch) Complete(reply []byte, err error) {
	done := w.done
	w.circuit.note(w.guard, w.to, w.began, err)
	*w = watch{}
	watches.Put(w)
	done.Complete(reply, err)
}

// note learns from the outcome of a request that began at some time.
func (c *circuit) note(g *Guard, to Peer, began time.Time, err error) {
	now := time.Now()
	switch verdict(err, now.Sub(began)) {
	case peerAnswered:
		c.latency.add(now.Sub(began))
		c.mu.Lock()
		c.failures, c.answered = 0, now
		changed := c.open.Swap(false)
		c.mu.Unlock()
		if changed {
			wake(g.changed)
		}
	case peerSilent:
		c.fail(g, to, began, err, 1)
	case peerAbsent:
		c.fail(g, to, began, err, failureMax)
	}
}

// fail counts a failure as so many; it counts for nothing if the peer has
// answered since, or had another address.
func (c *circuit) fail(g *Guard, to Peer, began time.Time, err error, count int) {
	c.mu.Lock()
	if c.answered.After(began) || c.to != to && c.open.Load() {
		c.mu.Unlock()
		return
	}
	c.to, c.cause = to, err
	c.failures += count
	changed := c.failures >= failureMax && !c.open.Swap(true)
	c.mu.Unlock()
	if changed {
		wake(g.changed)
		wake(g.opened)
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

type sign uint8

const (
	peerUnknown  sign = iota // the outcome tells nothing of the peer
	peerAnswered             // it lives, whatever it said
	peerSilent               // it may be gone
	peerAbsent               // no connection to it
)

// verdict reads an outcome after so long a wait.
func verdict(err error, waited time.Duration) sign {
	var remote *RemoteError
	answered := errors.As(err, &remote)
	switch {
	case err == nil, answered && !local(err, ErrUnreachable):
		return peerAnswered
	case errors.Is(err, ErrWrongCluster), errors.Is(err, ErrWrongNode), errors.Is(err, ErrVersion):
		return peerAbsent // somebody answers, but not this peer
	case errors.Is(err, ErrClosed), errors.Is(err, ErrOverloaded), errors.Is(err, ErrTooLarge):
		return peerUnknown
	case errors.Is(err, ErrUnreachable):
		return peerAbsent
	case errors.Is(err, ErrLost):
		return peerSilent
	case waited >= failureMin && (errors.Is(err, ErrDeadline) || errors.Is(err, ErrNotSent)):
		return peerSilent
	}
	return peerUnknown
}

// local says that err wraps target on this side, not in a peer's answer.
func local(err, target error) bool {
	if err == target {
		return true
	}
	switch e := err.(type) {
	case *RemoteError:
		return false
	case interface{ Unwrap() error }:
		return local(e.Unwrap(), target)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), func(one error) bool { return local(one, target) })
	}
	return false
}

// Run probes the peers whose circuits are open until ctx ends, and waits for
// their answers.
func (g *Guard) Run(ctx context.Context) error {
	chance := rand.New(rand.NewPCG(g.cfg.Seed, 0x67756172)) // "guar"
	var probes sync.WaitGroup
	defer probes.Wait()
	for {
		if !g.probe(&probes) {
			select {
			case <-g.opened:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		pause := time.NewTimer(probeEvery*3/4 + time.Duration(chance.Int64N(int64(probeEvery/2))))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

// probe asks the peers whose circuits are open, and says whether there are any.
func (g *Guard) probe(probes *sync.WaitGroup) (any bool) {
	peers := *g.peers.Load()
	for _, id := range slices.SortedFunc(maps.Keys(peers), ring.NodeID.Compare) {
		c := peers[id]
		began := time.Now()
		c.mu.Lock()
		// A probe that gets lost must not hold up the next one.
		open, to := c.open.Load(), c.to
		ask := open && (c.probes == 0 || began.Sub(c.probed) >= probeAgain)
		if ask {
			c.probes++
			c.probed = began
		}
		c.mu.Unlock()
		any = any || open
		if !ask {
			continue
		}
		probes.Add(1)
		ping.Send(g.next, to, &pingMessage{}, began.Add(probeTime), CompleteFunc(func(_ []byte, err error) {
			defer probes.Done()
			c.mu.Lock()
			c.probes--
			c.mu.Unlock()
			c.note(g, to, began, err)
		}))
	}
	return any
}
