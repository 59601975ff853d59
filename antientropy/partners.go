package antientropy

import (
	"context"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
)

// partner is another member that is a home of some of this node's partitions. One
// goroutine compares clocks with it, pulls what is missing here and fills what this
// node has lost.
type partner struct {
	id   ring.NodeID
	turn wake // its next round is to begin

	// What follows, up to mu, is that goroutine's.

	chance *rand.Rand

	// mine and epoch are this node's own era and ring epoch at the latest look.
	mine, epoch uint64
	// shared are the partitions that both are homes of, by epoch. anew are those of
	// them of which the partner is to tell all again: they were not shared before,
	// or this node has lost something of them.
	shared, anew map[ring.Partition]struct{}
	// theirEra and since are the cursor of the partner's answers.
	theirEra, since uint64
	// fresh says that what is missing cannot be on its way: it is pulled at once.
	fresh bool
	gaps  map[ring.Partition]*gap

	mu sync.Mutex // guards what follows
	// whole says that all clocks were exchanged, by a ring epoch.
	whole bool
	by    uint64
	// missing counts the dots that are known to be lacking here.
	missing map[ring.Partition]uint64
	// failures counts exchanges without success since the last one, tries
	// those of pulls of a partition.
	failures int
	tries    map[ring.Partition]int
}

// gap is a partition in which the partner has incorporated more than this node.
type gap struct {
	theirs store.Clock
	// suspects were missing at first; what is still missing flightMax later is
	// due.
	suspects store.DotSet
	first    time.Time
	due      bool
	// rejoined says that due dots were missing when the partner was met anew.
	rejoined bool
	// want is the pull under way, after the key up to which it came.
	want  store.DotSet
	after []byte
	// taken was pulled to its end, or filled, and the clock has no room to claim it,
	// or is to claim it later.
	taken store.DotSet
	// hidden are the wanted dots that the partner claims and does not show, and
	// unproven those that are not claimed for that, since disbelieved; waited were it
	// for long enough that nobody is about to hear of them.
	hidden           []wantedKey
	unproven, waited store.DotSet
	disbelieved      time.Time
	// again is when a pull that failed is tried next.
	again time.Time
}

// book has the partners.
type book struct {
	mu       sync.Mutex // guards what follows
	partners map[ring.NodeID]*partner
}

func (b *book) init() {
	b.partners = map[ring.NodeID]*partner{}
}

// find gives a partner; nil if the member is none.
func (b *book) find(id ring.NodeID) *partner {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.partners[id]
}

// all are the partners, sorted by ID.
func (b *book) all() []*partner {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]*partner, 0, len(b.partners))
	for _, pt := range b.partners {
		out = append(out, pt)
	}
	slices.SortFunc(out, func(x, y *partner) int { return x.id.Compare(y.id) })
	return out
}

// partnersOf lists the members that share a partition with this node, sorted.
func (r *Repair) partnersOf(rec *ring.Record) []ring.NodeID {
	if rec == nil || rec.HomeCount(r.cfg.Self) == 0 {
		return nil
	}
	seen := map[ring.NodeID]struct{}{}
	var out []ring.NodeID
	for p := range ring.Partition(rec.Partitions) {
		if rec.HomeIndex(p, r.cfg.Self) < 0 {
			continue
		}
		for _, id := range rec.Homes(p) {
			if _, twice := seen[id]; !twice && id != r.cfg.Self {
				seen[id] = struct{}{}
				out = append(out, id)
			}
		}
	}
	slices.SortFunc(out, ring.NodeID.Compare)
	return out
}

// running is a partner with its goroutine.
type running struct {
	partner *partner
	cancel  context.CancelFunc
	ended   sync.WaitGroup
}

// peersLoop has a goroutine for every partner, starts and ends them as the ring
// changes, and wakes them when the ring has changed or the store emptied clocks.
func (r *Repair) peersLoop(ctx context.Context) error {
	all := map[ring.NodeID]*running{}
	defer func() {
		for _, id := range sortedIDs(all) {
			all[id].cancel()
		}
		for _, run := range all {
			run.ended.Wait()
		}
	}()
	epoch, era := uint64(0), uint64(0)
	// Also before the first look: clocks that are emptied at the instant of the
	// start are no news then.
	for r.aside(ctx, "partners", r.cfg.Self) == nil {
		ringed, changed := r.cfg.Rings.Changed(), r.cfg.Store.Changed()
		rec, now := r.current(), r.cfg.Store.Era()
		ids := r.partnersOf(rec)
		news := era != now || rec != nil && epoch != rec.Epoch
		if era = now; rec != nil {
			epoch = rec.Epoch
		}
		for _, id := range sortedIDs(all) {
			if !slices.Contains(ids, id) {
				all[id].cancel()
				all[id].ended.Wait()
				r.dropPartner(id)
				delete(all, id)
			}
		}
		for _, id := range ids {
			if all[id] == nil {
				all[id] = r.startPartner(ctx, id)
			} else if news {
				all[id].partner.turn.up()
			}
		}
		select {
		case <-ringed:
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

func sortedIDs[V any](m map[ring.NodeID]V) []ring.NodeID {
	return slices.SortedFunc(maps.Keys(m), ring.NodeID.Compare)
}

func (r *Repair) startPartner(ctx context.Context, id ring.NodeID) *running {
	pt := &partner{id: id, turn: newWake(), chance: r.generator("catch-up", id), fresh: true, gaps: map[ring.Partition]*gap{},
		shared: map[ring.Partition]struct{}{}, anew: map[ring.Partition]struct{}{},
		missing: map[ring.Partition]uint64{}, tries: map[ring.Partition]int{}}
	r.book.mu.Lock()
	r.book.partners[id] = pt
	r.book.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	run := &running{partner: pt, cancel: cancel}
	run.ended.Go(func() { r.partnerLoop(ctx, pt) })
	return run
}

func (r *Repair) dropPartner(id ring.NodeID) {
	r.book.mu.Lock()
	delete(r.book.partners, id)
	r.book.mu.Unlock()
	r.pace.forget(id)
}

// generator is the source of chance of one loop.
func (r *Repair) generator(name string, id ring.NodeID) *rand.Rand {
	return rand.New(rand.NewPCG(mixed(r.cfg.Seed, []byte(name)), binary.BigEndian.Uint64(id[:8])^binary.BigEndian.Uint64(id[8:])))
}

// jittered is a pause of three to five quarters of d.
func jittered(chance *rand.Rand, d time.Duration) time.Duration {
	return d*3/4 + time.Duration(chance.Int64N(int64(d/2)+1))
}

// turns says from which partner each partition is pulled now: from one at a time,
// so that nothing is fetched twice.
type turns struct {
	mu   sync.Mutex // guards what follows
	held map[ring.Partition]ring.NodeID
	free chan struct{} // closed and replaced when one is given back
}

func (t *turns) init() {
	t.held = map[ring.Partition]ring.NodeID{}
	t.free = make(chan struct{})
}

// take says whether the partition is id's from now on; if not, a channel that is
// closed when a turn has been given back.
func (t *turns) take(p ring.Partition, id ring.NodeID) (bool, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, taken := t.held[p]; taken {
		return false, t.free
	}
	t.held[p] = id
	return true, nil
}

// holders are from whom partitions are pulled now.
func (t *turns) holders() map[ring.Partition]ring.NodeID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.held)
}

func (t *turns) give(p ring.Partition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.held, p)
	close(t.free)
	t.free = make(chan struct{})
}

// standing is a partner's outcome in one partition.
type standing struct {
	whole    bool // all clocks were exchanged, by an epoch
	epoch    uint64
	missing  uint64
	failures int // exchanges, if not whole
	tries    int // pulls
}

func (pt *partner) standing(p ring.Partition) standing {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	return standing{pt.whole, pt.by, pt.missing[p], pt.failures, pt.tries[p]}
}

// note keeps how many dots of a partition are lacking.
func (pt *partner) note(p ring.Partition, missing uint64) {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	if missing == 0 {
		delete(pt.missing, p)
		delete(pt.tries, p)
		return
	}
	pt.missing[p] = missing
}
