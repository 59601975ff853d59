package topology

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/ring"
)

// The names under which a Disk keeps what is here.
const (
	metaRing     = "ring"          // the decided record; Disk.Adopt writes it
	metaCell     = "ring/cell"     // see storedCell
	metaAbstains = "ring/abstains" // why this node never votes again
	metaPledge   = "ring/pledge"   // see pledge
)

// Topology is the ring record on this node. It is safe for concurrent use. It
// has no goroutines but those of Run and of the requests that it serves.
type Topology struct {
	cfg Config
	log *slog.Logger

	held    atomic.Pointer[decided] // nil before the first record; durable
	changed wake

	writing   turn // to write the record or the cell
	proposing turn
	wishes    atomic.Int32 // changes that wait for their turn to be proposed
	wanted    wake         // when one more does
	learning  turn
	lesson    lesson        // changed in the turn to learn
	lessons   atomic.Uint64 // counts them
	chance    *rand.Rand    // used by whose turn it is to propose

	abstains atomic.Pointer[string] // why; nil while this node votes
	pledged  atomic.Pointer[pledge] // changed in the turn to write
	parted   parting
	left     atomic.Bool
	goes     atomic.Bool // this node has asked to be let go
	sure     atomic.Bool // see Certain
	// replacing is what a replacement waits for; nil before the first try.
	replacing atomic.Pointer[string]
}

// decided is a record together with its encoding.
type decided struct {
	record  *ring.Record
	encoded []byte
}

// Open loads the record that this node holds, or founds a cluster if there is
// none and the config says so. A record of another cluster name, one that bans
// this node, and one that cannot be read are errors.
func Open(cfg Config) (*Topology, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	t := &Topology{cfg: cfg, log: cfg.Logger, writing: newTurn(), proposing: newTurn(), learning: newTurn()}
	t.chance = t.generator("propose")
	if err := t.load(); err != nil {
		return nil, err
	}
	if t.held.Load() == nil && cfg.Founder {
		if err := t.foundAlone(); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *Topology) load() error {
	encoded, err := t.cfg.Disk.Meta(metaRing)
	if err != nil {
		return fmt.Errorf("read the ring record: %w", err)
	}
	epoch := uint64(0)
	if len(encoded) > 0 {
		r, err := ring.Decode(encoded)
		if err != nil {
			return fmt.Errorf("read the ring record: %w", err)
		}
		if r.Name != t.cfg.Cluster {
			return fmt.Errorf("%w: this directory belongs to cluster %q (%s), not to %q",
				ErrOtherCluster, r.Name, r.Cluster, t.cfg.Cluster)
		}
		if err := t.banned(r); err != nil {
			return err
		}
		t.held.Store(&decided{r, encoded})
		epoch = r.Epoch
	}
	return t.loadVote(epoch)
}

// loadVote finds out whether this node may vote.
func (t *Topology) loadVote(epoch uint64) error {
	pledged := t.loadPledge()
	why, err := t.cfg.Disk.Meta(metaAbstains)
	if err != nil {
		return fmt.Errorf("read why this node abstains: %w", err)
	}
	if len(why) > 0 {
		t.abstain(string(why))
		return nil
	}
	stored, err := t.cfg.Disk.Meta(metaCell)
	if err == nil {
		_, err = cellOf(stored, epoch+1)
	}
	if err == nil {
		err = pledged
	}
	if err == nil {
		err = t.cfg.Lost()
	}
	if err != nil {
		t.abstain(err.Error())
		return t.cfg.Disk.SetMeta(metaAbstains, []byte(err.Error()))
	}
	return nil
}

func (t *Topology) abstain(why string) {
	t.abstains.Store(&why)
	t.log.Error("this member does not vote on the ring any more: its disk may have forgotten a vote; "+
		"replace it by a new one with an empty directory", "reason", why)
}

// mayVote is nil unless this node's disk ever lost what it had synced. Once it
// did, the answer stays no: a vote may be among the losses. Called in the turn
// to write.
func (t *Topology) mayVote() error {
	if why := t.abstains.Load(); why != nil {
		return fmt.Errorf("%w: %s", ErrAbstains, *why)
	}
	if err := t.cfg.Lost(); err != nil {
		t.abstain(err.Error())
		if stored := t.cfg.Disk.SetMeta(metaAbstains, []byte(err.Error())); stored != nil {
			t.log.Error("cannot store that this member abstains", "error", stored)
		}
		return fmt.Errorf("%w: %w", ErrAbstains, err)
	}
	return nil
}

// banned is an error if this node is a member no more, or was given up as lost:
// its copies may be stale in a way that nobody looks for, and count for nothing.
func (t *Topology) banned(r *ring.Record) error {
	m := r.Member(t.cfg.Self.ID)
	if !r.IsBanned(t.cfg.Self.ID) && (m == nil || m.State != ring.Lost) {
		return nil
	}
	how := "it has left, was removed, or another node has taken its place"
	if m != nil {
		how = "it was given up as lost"
	}
	return fmt.Errorf("member %s, cluster %q: %w: %s at ring epoch %d or before; to come back, it needs an empty directory, and with it a new ID",
		t.cfg.Self.ID, r.Name, ring.ErrBanned, how, r.Epoch)
}

// foundAlone makes the first record, with this node as its only member. The
// cluster's ID is as random as the node's own, and another one for each life.
func (t *Topology) foundAlone() error {
	if err := t.mayVote(); err != nil {
		return fmt.Errorf("found cluster %q: this directory was in use before: %w", t.cfg.Cluster, err)
	}
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint64(nil, t.cfg.Seed))
	h.Write(t.cfg.Self.ID[:])
	h.Write([]byte(t.cfg.Cluster))
	r, err := ring.Found(ring.ClusterID(h.Sum(nil)[:16]), t.cfg.Cluster, t.cfg.Self, t.cfg.Partitions, t.cfg.Replicas)
	if err != nil {
		return err
	}
	if err := t.Adopt(context.Background(), r.Encode()); err != nil {
		return err
	}
	t.log.Info("founded a cluster, waiting for its members", "cluster", r.Cluster, "name", r.Name, "expect", t.cfg.Expect)
	return nil
}

// Current is the newest record that this node holds durably; nil before it has
// joined or founded a cluster.
func (t *Topology) Current() *ring.Record {
	if h := t.held.Load(); h != nil {
		return h.record
	}
	return nil
}

// Changed is closed when Current changes next. Get it before reading Current.
func (t *Topology) Changed() <-chan struct{} { return t.changed.next() }

// Founding says how many members of this node's cluster can be reached, this one
// included, and how many the founder waits for; want is 0 where only the founder
// knows. It means something until Current is founded.
func (t *Topology) Founding() (have, want int) {
	return len(t.present()), t.cfg.Expect
}

// present are the members that hold a record of this node's cluster and can be
// reached, itself included, sorted by ID; none before it has one.
func (t *Topology) present() []ring.Member {
	held := t.Current()
	if held == nil {
		return nil
	}
	members := []ring.Member{t.cfg.Self}
	for _, p := range t.cfg.Membership.View().Peers {
		if p.ID != t.cfg.Self.ID && p.Alive && p.State.Cluster == held.Cluster {
			members = append(members, ring.Member{ID: p.ID, Name: p.Name, Zone: p.Zone})
		}
	}
	slices.SortFunc(members, func(a, b ring.Member) int { return a.ID.Compare(b.ID) })
	return members
}

// State is what others are to know of this node: the record that it holds.
func (t *Topology) State() gossip.State {
	s := gossip.State{Ready: "joining"}
	if r := t.Current(); r != nil {
		digest := r.Digest()
		s.Cluster, s.Epoch, s.Digest = r.Cluster, r.Epoch, [8]byte(digest[:8])
		if r.Founded() {
			s.Ready = "ready"
		}
	}
	if word := t.cfg.Ready(); word != "" {
		s.Ready = word
	}
	return s
}

// generator makes the generator of chance for one user of it.
func (t *Topology) generator(name string) *rand.Rand {
	sum := sha256.Sum256(append([]byte(name), t.cfg.Self.ID[:]...))
	return rand.New(rand.NewPCG(t.cfg.Seed, binary.BigEndian.Uint64(sum[:])))
}

// wake is a level's wake-up call. The zero wake works.
type wake struct {
	mu sync.Mutex // guards ch
	ch chan struct{}
}

func (w *wake) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ch == nil {
		w.ch = make(chan struct{})
	}
	return w.ch
}

func (w *wake) call() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ch != nil {
		close(w.ch)
		w.ch = nil
	}
}

// turn is exclusive like a mutex, but may be held across disk writes and calls,
// and waiting for it ends with a context.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take(ctx context.Context) error {
	if ctx.Err() != nil { // a select of two that are ready would toss a coin
		return context.Cause(ctx)
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t turn) give() { <-t }
