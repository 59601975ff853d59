package antientropy

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
)

// Engine is what a node asks its repair; *Repair satisfies it.
type Engine interface {
	// Counts says that this node's copies of the partition may count for
	// reads: since the start they were compared with those of every home
	// that could be reached, and lack nothing of theirs.
	Counts(p ring.Partition) bool
	// Status is for people.
	Status() api.RepairStatus
	// Audit starts an audit of a partition, or of all with api.AllPartitions,
	// or joins the one under way, and returns how far it is.
	Audit(partition int) (api.RepairResponse, error)
	// Audited is how far the latest audit is.
	Audited() api.RepairResponse
	// Run works until ctx is done.
	Run(ctx context.Context) error
}

var (
	_ Engine = (*Repair)(nil)
	_ Store  = (*store.Store)(nil)
)

// Defaults of Config.
const (
	ClocksEveryDefault    = 3 * time.Second
	AuditEveryDefault     = 10 * time.Minute
	ScrubEveryDefault     = 24 * time.Hour
	ForgetAfterDefault    = time.Minute
	CloseAfterDefault     = 30 * time.Second
	BytesPerSecondDefault = 64 << 20
)

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	orElse(&c.ClocksEvery, ClocksEveryDefault)
	orElse(&c.AuditEvery, AuditEveryDefault)
	orElse(&c.ScrubEvery, ScrubEveryDefault)
	orElse(&c.ForgetAfter, ForgetAfterDefault)
	orElse(&c.CloseAfter, CloseAfterDefault)
	orElse(&c.BytesPerSecond, BytesPerSecondDefault)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func orElse[T int | time.Duration](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}

// Repair makes this node's copies equal to those of the other homes, and answers
// the other homes that do the same. Register and Run are to be called once.
type Repair struct {
	cfg  Config
	log  *slog.Logger
	pace *pacer
	counters

	// nonce tells the eras of this process from those of an earlier one, of
	// which other homes may know: a directory that was restored from a backup
	// counts its starts anew.
	nonce uint64

	// ready are the partitions whose copies may count for reads.
	ready bitmap

	// book has what is known of each other home; turns says which of them a
	// partition is pulled from now.
	book     book
	turns    turns
	lossy    lossyBook
	progress progress
	syncs    syncBook

	auditing auditing // audits beside the schedule
}

// counters are totals since the start, but for gauges.
type counters struct {
	pulledKeys, pulledBytes, scans  atomic.Int64
	audited, differences, anomalies atomic.Int64
	tombstones, forgotten           atomic.Int64 // tombstones is a gauge
	scrubbed, rotten                atomic.Int64
	lastAnomaly                     atomic.Pointer[string]
	blocked                         atomic.Pointer[[]string]
	closing, closed                 atomic.Int64 // closing is a gauge, of partitions
	closingWaits                    atomic.Pointer[[]string]
}

// New makes a Repair. It does nothing before Register and Run.
func New(cfg Config) *Repair {
	cfg = cfg.withDefaults()
	r := &Repair{cfg: cfg, log: cfg.Logger, pace: newPacer(cfg.BytesPerSecond, cfg.Circuits, cfg.Served)}
	r.nonce = rand.New(rand.NewPCG(cfg.Seed, uint64(cfg.Now().UnixNano()))).Uint64()
	r.book.init()
	r.turns.init()
	r.lossy.init()
	r.auditing.init()
	r.syncs.init()
	return r
}

// Register answers other homes. Nothing that is registered here calls another
// node, but for a newer ring record that a request names: see serveSync and serveClaims.
func (r *Repair) Register(m *rpc.Mux) {
	r.registerClocks(m)
	r.registerPull(m)
	r.registerSync(m)
	r.registerStandIns(m)
	r.registerHandOver(m)
	r.registerAudit(m)
	r.registerForget(m)
	r.registerClosing(m)
}

// Run implements Engine. All that it has started has ended when it returns; it
// gives nil when ctx is done.
func (r *Repair) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	loops := []func(context.Context) error{
		r.peersLoop, r.readyLoop, r.lossyLoop, r.standInLoop, r.handOverLoop,
		r.auditLoop, r.forgetLoop, r.scrubLoop, r.closingLoop,
	}
	errs := make([]error, len(loops))
	var running sync.WaitGroup
	for i, loop := range loops {
		running.Go(func() {
			err := loop(ctx)
			if err != nil && ctx.Err() == nil {
				errs[i] = err
				cancel()
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// current is the ring record if the node serves keys by it, else nil.
func (r *Repair) current() *ring.Record {
	rec := r.cfg.Rings.Current()
	if rec == nil || !rec.Founded() {
		return nil
	}
	return rec
}

// others are the homes of a partition beside this node, by slot.
func (r *Repair) others(rec *ring.Record, p ring.Partition) []ring.NodeID {
	homes := rec.Homes(p)
	out := make([]ring.NodeID, 0, len(homes))
	for _, id := range homes {
		if id != r.cfg.Self {
			out = append(out, id)
		}
	}
	return out
}

// holders are those who keep a partition's keys: its homes, by slot, and who takes its
// writes as the target of a move. What is to be true of all copies is asked of them.
func holders(rec *ring.Record, p ring.Partition) []ring.NodeID {
	out := slices.Clone(rec.Homes(p))
	if m := rec.MoveOf(p); m != nil && rec.Holds(p, m.To) {
		out = append(out, m.To)
	}
	return out
}

// otherHolders are the holders beside this node.
func (r *Repair) otherHolders(rec *ring.Record, p ring.Partition) []ring.NodeID {
	return slices.DeleteFunc(holders(rec, p), func(id ring.NodeID) bool { return id == r.cfg.Self })
}

// eraToTell is the store's era as other homes are told it.
func (r *Repair) eraToTell() uint64 { return r.cfg.Store.Era() ^ r.nonce }

// peer is where a member is; false if that is not known.
func (r *Repair) peer(id ring.NodeID) (rpc.Peer, bool) {
	p := r.cfg.Members.View().Peer(id)
	if p == nil || p.RPCAddr == "" {
		return rpc.Peer{ID: id}, false
	}
	return rpc.Peer{ID: id, Addr: p.RPCAddr}, true
}

// reachable says that requests to another member are tried: its address is known
// and its circuit is closed.
func (r *Repair) reachable(id ring.NodeID) bool {
	_, ok := r.peer(id)
	return ok && !r.cfg.Circuits.Open(id)
}

// wake is a level that one goroutine waits for and any may raise.
type wake chan struct{}

func newWake() wake { return make(wake, 1) }

// up never blocks.
func (w wake) up() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// down takes back what a loop sees to now. Where several things have woken it at one
// instant a select picks any of them, and the others must not wake it again.
func (w wake) down() {
	select {
	case <-w:
	default:
	}
}

// bitmap is a set of partitions.
type bitmap [ring.SlotCount / 64]atomic.Uint64

func (b *bitmap) set(p ring.Partition) { b[p/64].Or(1 << (p % 64)) }

func (b *bitmap) clear(p ring.Partition) { b[p/64].And(^uint64(1 << (p % 64))) }

func (b *bitmap) has(p ring.Partition) bool { return b[p/64].Load()>>(p%64)&1 == 1 }
