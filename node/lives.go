package node

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
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/rpc/wire"
)

// A data directory that was restored from an old backup is whole, and lacks what
// was acknowledged since; so does one on a disk that lied when it synced. The
// files cannot show that; peers can. Every start of a node has a number, every
// acknowledgement of a merge says how many batches are on that home's disk, and
// members keep the latest of both. They tell a node that has started what they
// know of its life before: if that went further, the node has gone back in time.

// helloRoute tells a peer which life of this node it meets.
const helloRoute rpc.Route[helloRequest, helloResponse] = "node.hello"

const (
	livesName = "lives"
	// livesMax bounds the members whose lives are kept.
	livesMax = ring.MembersMax

	helloRetry   = 200 * time.Millisecond
	helloTimeout = 2 * time.Second
	// helloAside is how long at least a round of greetings waits for what else happens
	// at the instant that begins it, like the opening of a circuit: what it does would
	// be the scheduler's. A moment of its own comes on top, at most as long.
	helloAside = 200 * time.Microsecond

	// settleMax ends the wait for members that would know a later life: alone,
	// a node serves what it has.
	settleMax = 3 * time.Second
	// keepEvery is how often what members have told is put on disk.
	keepEvery = 30 * time.Second
)

// life is one run of a node: the number of its start, a nonce that tells two runs
// of one number apart, and how many batches were on its disk at the latest.
type life struct {
	Boot    uint64
	Nonce   uint64
	Batches uint64
}

// follows says why l cannot be the life that comes after a known one; nil if it
// can be, or is the same.
func (l life) follows(known life) error {
	switch {
	case known.Boot == l.Boot && known.Nonce == l.Nonce:
		return nil
	case known.Boot >= l.Boot:
		return fmt.Errorf("it has met start %d of this node, and this is start %d", known.Boot, l.Boot)
	case known.Batches > l.Batches:
		return fmt.Errorf("it was told of %d batches on this disk, and there were %d when this node started", known.Batches, l.Batches)
	}
	return nil
}

func (l life) append(b []byte) []byte {
	b = wire.AppendArray(b, 3)
	b = wire.AppendUint(b, l.Boot)
	b = wire.AppendUint(b, l.Nonce)
	return wire.AppendUint(b, l.Batches)
}

func (l *life) parse(r *wire.Reader) error {
	s := r.Struct()
	l.Boot, l.Nonce, l.Batches = s.Uint(), s.Uint(), s.Uint()
	return s.End()
}

type helloRequest struct{ Life life }

// helloResponse is the life of the asker that the peer had met before.
type helloResponse struct{ Known life }

// AppendWire implements wire.Appender.
func (m *helloRequest) AppendWire(b []byte) []byte { return m.Life.append(b) }

// ParseWire implements wire.Parser.
func (m *helloRequest) ParseWire(r *wire.Reader) error { return m.Life.parse(r) }

// AppendWire implements wire.Appender.
func (m *helloResponse) AppendWire(b []byte) []byte { return m.Known.append(b) }

// ParseWire implements wire.Parser.
func (m *helloResponse) ParseWire(r *wire.Reader) error { return m.Known.parse(r) }

// lives are the latest lives of the members that this node has met, and its own.
type lives struct {
	node *Node
	own  life // at the start

	mu    sync.Mutex
	met   map[ring.NodeID]*metLife // guarded by mu, but not what it points to
	dirty atomic.Bool

	// greeted are the members that know this life: only they are told of
	// batches, so that nobody takes them for an earlier life's.
	greeted sync.Map // ring.NodeID -> struct{}
	byID    sync.Map // ring.NodeID -> *metLife, for Told

	// settled says that enough members have answered for this node's copies
	// to count for reads.
	settled atomic.Bool
	// declared says that this life's disk has gone back in time, and that the
	// store knows.
	declared atomic.Bool
}

// metLife is a member's life as this node knows it.
type metLife struct {
	boot, nonce uint64
	batches     atomic.Uint64
}

func (m *metLife) life() life { return life{m.boot, m.nonce, m.batches.Load()} }

func openLives(n *Node, nonce uint64) (*lives, error) {
	l := &lives{node: n, own: life{n.store.Boot(), nonce, n.store.Batches()}, met: map[ring.NodeID]*metLife{}}
	l.settled.Store(l.own.Boot == 1) // nobody can have met an earlier one
	raw, err := n.store.Meta(livesName)
	if err != nil || raw == nil {
		return l, err
	}
	r := wire.NewReader(raw)
	count := r.Array()
	if count > livesMax {
		return nil, fmt.Errorf("lives of %d members: at most %d", count, livesMax)
	}
	for range count {
		var id ring.NodeID
		var known life
		s := r.Struct()
		s.Fixed(id[:])
		if s.More() {
			known.parse(r)
		}
		if err := s.End(); err != nil {
			return nil, fmt.Errorf("lives: %w", err)
		}
		l.keep(id, known)
	}
	return l, r.Err()
}

// keep replaces what is known of a member; l.mu is held, or nobody else is there.
func (l *lives) keep(id ring.NodeID, known life) {
	m := &metLife{boot: known.Boot, nonce: known.Nonce}
	m.batches.Store(known.Batches)
	l.met[id] = m
	l.byID.Store(id, m)
}

// meet answers a peer, after its life is on disk here.
func (l *lives) meet(_ context.Context, from rpc.Peer, req *helloRequest) (*helloResponse, error) {
	if from.ID.IsZero() {
		return nil, fmt.Errorf("%w: a client has no life to tell of", api.ErrBadRequest)
	}
	var known life
	l.mu.Lock()
	old := l.met[from.ID]
	if old != nil {
		known = old.life()
	}
	news := old == nil && len(l.met) < livesMax || old != nil && known.Boot < req.Life.Boot
	if news {
		l.keep(from.ID, req.Life)
	}
	l.mu.Unlock()
	if news {
		if err := l.store(); err != nil {
			return nil, fmt.Errorf("keeping the life of %s: %w", from.ID.Short(), err)
		}
	}
	return &helloResponse{Known: known}, nil
}

// store puts on disk what is known.
func (l *lives) store() error {
	l.dirty.Store(false)
	l.mu.Lock()
	b := wire.AppendArray(nil, len(l.met))
	for _, id := range slices.SortedFunc(maps.Keys(l.met), ring.NodeID.Compare) {
		b = wire.AppendBytes(wire.AppendArray(b, 2), id[:])
		b = l.met[id].life().append(b)
	}
	l.mu.Unlock()
	err := l.node.store.SetMeta(livesName, b)
	if err != nil {
		l.dirty.Store(true)
	}
	return err
}

// Unsure implements kv.Witness.
func (l *lives) Unsure() error {
	if l.settled.Load() {
		return nil
	}
	return fmt.Errorf("%w: it has started and not met its peers yet", api.ErrNotReady)
}

// Tell implements kv.Witness.
func (l *lives) Tell(to ring.NodeID) uint64 {
	if _, ok := l.greeted.Load(to); !ok {
		return 0
	}
	return l.node.store.Batches()
}

// Told implements kv.Witness.
func (l *lives) Told(by ring.NodeID, batches uint64) {
	known, ok := l.byID.Load(by)
	if !ok {
		return
	}
	m := known.(*metLife)
	for {
		old := m.batches.Load()
		if old >= batches {
			return
		}
		if m.batches.CompareAndSwap(old, batches) {
			if !l.dirty.Load() {
				l.dirty.Store(true)
			}
			return
		}
	}
}

// run greets every member once, as soon as it can be reached, and keeps what
// members tell. However long greetings take, the wait for them ends in time.
func (l *lives) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	defer keeping.Wait()
	defer stop()
	keeping.Go(func() { l.keepUp(ctx) })
	patience := time.AfterFunc(settleMax, func() { l.settled.Store(true) })
	defer patience.Stop()
	retry := time.NewTimer(helloRetry)
	defer retry.Stop()
	chance := rand.New(rand.NewPCG(l.own.Nonce, 0x6c69766573)) // "lives"
	for {
		aside := time.NewTimer(helloAside + time.Duration(chance.Int64N(int64(helloAside))))
		select {
		case <-aside.C:
		case <-ctx.Done():
			aside.Stop()
			return nil
		}
		changed := l.node.members.Changed()
		missing, err := l.greetAll(ctx)
		if err != nil {
			return err
		}
		l.settle() // the ring record may have come since somebody answered
		retry.Stop()
		if missing {
			retry.Reset(helloRetry)
		}
		select {
		case <-changed:
		case <-retry.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// keepUp puts on disk, now and then, what members have told.
func (l *lives) keepUp(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if l.dirty.Load() {
				_ = l.store() // the store says why; it is tried again
			}
		case <-ctx.Done():
			return
		}
	}
}

// greetAll greets those who are alive and were not greeted, all at once: one that
// is silent holds up nobody. It says whether one of them did not answer.
func (l *lives) greetAll(ctx context.Context) (missing bool, err error) {
	var greetings sync.WaitGroup
	var mu sync.Mutex // guards missing and err
	for _, p := range l.node.members.View().Peers {
		if _, done := l.greeted.Load(p.ID); done || p.ID == l.node.id || !p.Alive || p.RPCAddr == "" {
			continue
		}
		greetings.Go(func() {
			done, failure := l.greet(ctx, rpc.Peer{ID: p.ID, Addr: p.RPCAddr})
			mu.Lock()
			defer mu.Unlock()
			err = errors.Join(err, failure)
			missing = missing || !done
		})
	}
	greetings.Wait()
	return missing, err
}

// greet tells a peer about this life. It is done once the peer has answered, and
// what its answer means for this disk is on disk.
func (l *lives) greet(ctx context.Context, to rpc.Peer) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	resp, err := helloRoute.Call(ctx, l.node.guard, to, &helloRequest{l.own})
	if err != nil {
		return false, nil // it is greeted again
	}
	if why := l.own.follows(resp.Known); why != nil {
		if err := l.declare(to, why); err != nil {
			return false, err
		}
	}
	l.greeted.Store(to.ID, struct{}{})
	l.settle()
	return true, nil
}

// declare takes a peer's word that this disk has gone back in time. One word is
// enough for this life; a loss that is known from before it is another one, of
// which some may be mended.
func (l *lives) declare(by rpc.Peer, why error) error {
	if l.declared.Load() {
		return nil
	}
	err := l.node.store.DeclareLoss(fmt.Sprintf("member %s says: %v: the data directory was restored from an old backup, or the disk has lost what it had synced",
		by.ID.Short(), why))
	l.declared.Store(err == nil)
	return err
}

// settle ends the wait once a majority of the ring's members, this one counted,
// has met this life.
func (l *lives) settle() {
	r := l.node.topology.Current()
	if l.settled.Load() || r == nil {
		return
	}
	others := 0
	for _, m := range r.Members {
		if _, ok := l.greeted.Load(m.ID); ok {
			others++
		}
	}
	if others >= len(r.Members)/2 {
		l.settled.Store(true) // never back: it may have been settled meanwhile
	}
}
