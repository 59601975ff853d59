package heal

import (
	"context"
	"errors"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kithdb/kith/ring"
)

// Defaults and bounds of Config.
const (
	// AfterDefault is how long a member has to be away to be called dead.
	AfterDefault = 5 * time.Minute
	// AfterMin is the shortest such time: less is a network that flaps, or a server
	// that is started again.
	AfterMin = 10 * time.Second
)

const (
	// lookEvery is how often is looked who is there, with jitter.
	lookEvery = 2 * time.Second
	// proposeMax bounds one try to have a decision made.
	proposeMax = 30 * time.Second
)

// Rings is the ring record on this node; *topology.Topology satisfies it.
type Rings interface {
	// Current is nil until the node belongs to a cluster.
	Current() *ring.Record
	// Propose gets a change decided.
	Propose(ctx context.Context, change func(*ring.Record) (*ring.Record, error)) (*ring.Record, error)
}

// Death is what the command is told of a member.
type Death struct {
	Member ring.Member
	// Addr is its last HOST:PORT for clients.
	Addr string
	// Since is when it was seen last.
	Since time.Time
	// First says that this node has the lowest ID of those that it can reach: so
	// that of several nodes with such a command one can act.
	First bool
}

// Config is what a Healer works with. All fields are needed but for those that are marked.
type Config struct {
	Self  ring.NodeID
	Rings Rings
	// Away says that a member can be reached neither by gossip nor by requests.
	Away func(ring.NodeID) bool
	// Addr is a member's last address; optional.
	Addr func(ring.NodeID) string
	// After is how long a member has to be away to be called dead; default
	// AfterDefault, at least AfterMin.
	After time.Duration
	// Heal has slots of dead members given to others.
	Heal bool
	// Command, optional, is told of each death, once for as long as the member stays
	// away. It ends when ctx does.
	Command func(ctx context.Context, d Death) error
	// Seed of the jitter.
	Seed   uint64
	Logger *slog.Logger
}

// Healer watches who stays away. Run is to be called once.
type Healer struct {
	cfg    Config
	log    *slog.Logger
	policy Policy
	waits  atomic.Pointer[string]

	mu    sync.Mutex                // guards the rest, and is never held while others are asked
	since map[ring.NodeID]time.Time // when members were there last
	told  map[ring.NodeID]struct{}  // of whose death the command was told
	gave  time.Time
	epoch uint64 // of the record that was looked at last
}

// New makes a Healer that does nothing before Run.
func New(cfg Config) *Healer {
	if cfg.After == 0 {
		cfg.After = AfterDefault
	}
	h := &Healer{
		cfg: cfg, log: cfg.Logger, policy: Policy{After: cfg.After, Pause: cfg.After},
		since: map[ring.NodeID]time.Time{}, told: map[ring.NodeID]struct{}{},
	}
	h.waits.Store(new(string))
	return h
}

// Waits says what keeps this node from giving up a member that has been away for long
// enough; empty if nothing does.
func (h *Healer) Waits() string { return *h.waits.Load() }

// Run watches until ctx is done, and then returns nil. All that it has started has ended
// by then. Nothing that takes its time, a command or a proposal, keeps it from seeing who
// comes back.
func (h *Healer) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	loops.Go(func() { h.loop(ctx, "look", func(r *ring.Record) error { h.look(r, time.Now()); return nil }) })
	loops.Go(func() { h.loop(ctx, "tell", func(r *ring.Record) error { h.tell(ctx, r); return nil }) })
	if h.cfg.Heal {
		loops.Go(func() { h.loop(ctx, "heal", func(r *ring.Record) error { return h.heal(ctx, r) }) })
	}
	loops.Wait()
	return nil
}

// loop does something about every lookEvery, and more seldom while that fails.
func (h *Healer) loop(ctx context.Context, name string, do func(*ring.Record) error) {
	seed := fnv.New64a()
	seed.Write([]byte("heal/" + name))
	chance := rand.New(rand.NewPCG(h.cfg.Seed, seed.Sum64()))
	var failures int
	for {
		pause := lookEvery/2 + time.Duration(chance.Int64N(int64(lookEvery)))
		timer := time.NewTimer(pause << min(failures, 4))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		r := h.cfg.Rings.Current()
		if r == nil {
			continue
		}
		if do(r) != nil {
			failures++
		} else {
			failures = 0
		}
	}
}

// look notes who is away, and whether somebody was given up.
func (h *Healer) look(r *ring.Record, now time.Time) {
	away := make([]bool, len(r.Members))
	for i := range r.Members {
		id := r.Members[i].ID
		away[i] = id != h.cfg.Self && h.cfg.Away(id)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range h.since {
		if r.Member(id) == nil {
			delete(h.since, id)
			delete(h.told, id)
		}
	}
	for i := range r.Members {
		id := r.Members[i].ID
		_, known := h.since[id]
		switch {
		case !away[i]:
			delete(h.since, id)
			delete(h.told, id)
		case !known:
			h.since[id] = now
		}
	}
	if r.Epoch != h.epoch {
		h.epoch = r.Epoch
		if given(r, func(id ring.NodeID) (time.Time, bool) { at, ok := h.since[id]; return at, ok }) != nil {
			h.gave = now
		}
	}
}

// away is since when a member cannot be reached.
func (h *Healer) away(id ring.NodeID) (time.Time, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, ok := h.since[id]
	return at, ok
}

// dead says since when a member is dead that was not told of before, and notes that it is
// told of now.
func (h *Healer) dead(id ring.NodeID) (since time.Time, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	since, ok = h.since[id]
	if _, done := h.told[id]; done || !ok || time.Since(since) < h.cfg.After {
		return since, false
	}
	h.told[id] = struct{}{}
	return since, true
}

// tell runs the command for those who are dead now and were not before. It waits for the
// end of each: the command is not to be run twice at once.
func (h *Healer) tell(ctx context.Context, r *ring.Record) {
	for _, m := range r.Members {
		since, dead := h.dead(m.ID)
		if !dead || ctx.Err() != nil {
			continue
		}
		h.log.Warn("a member is dead: it could not be reached for long", "member", name(m), "state", m.State, "since", since, "slots", r.HomeCount(m.ID))
		if h.cfg.Command == nil {
			continue
		}
		d := Death{Member: m, Since: since, First: h.first(r)}
		if h.cfg.Addr != nil {
			d.Addr = h.cfg.Addr(m.ID)
		}
		if err := h.cfg.Command(ctx, d); err != nil && ctx.Err() == nil {
			h.log.Error("the command for a dead member has failed", "member", name(m), "error", err)
		}
	}
}

// first says that no member with a lower ID can be reached.
func (h *Healer) first(r *ring.Record) bool {
	for _, m := range r.Members {
		if m.ID == h.cfg.Self {
			return true
		}
		if _, away := h.away(m.ID); !away && m.State != ring.Lost {
			return false
		}
	}
	return false
}

// heal gives up a member if the policy says so.
func (h *Healer) heal(ctx context.Context, r *ring.Record) error {
	h.mu.Lock()
	gave := h.gave
	h.mu.Unlock()
	d := h.policy.Decide(r, Sight{Now: time.Now(), Self: h.cfg.Self, Away: h.away, Gave: gave})
	if before := h.waits.Swap(&d.Waits); *before != d.Waits && d.Waits != "" {
		h.log.Warn("a dead member is not given up yet", "reason", d.Waits)
	}
	if d.Dead.IsZero() {
		return nil
	}
	dead := *r.Member(d.Dead)
	ctx, cancel := context.WithTimeout(ctx, proposeMax)
	defer cancel()
	next, err := h.cfg.Rings.Propose(ctx, func(r *ring.Record) (*ring.Record, error) { return d.change(r, h.away) })
	switch {
	case errors.Is(err, errOther), errors.Is(err, errBack):
		return nil
	case err != nil:
		h.log.Warn("a dead member could not be given up, trying on", "member", name(dead), "error", err)
		return err
	}
	if d.Over {
		h.log.Warn("a dead member has nothing any more and is taken out", "member", name(dead), "epoch", next.Epoch)
		return nil
	}
	h.mu.Lock()
	h.gave = time.Now()
	h.mu.Unlock()
	to := "all others"
	if m := next.Member(d.Successor); m != nil {
		to = name(*m)
	}
	h.log.Warn("a dead member is given up: its slots go to others, and then it is no member any more",
		"member", name(dead), "slots", next.HomeCount(d.Dead), "to", to, "epoch", next.Epoch)
	return nil
}
