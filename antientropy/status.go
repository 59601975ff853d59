package antientropy

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

const (
	// speedEvery is how long a reading is kept at least that an estimate is made
	// from. Pages come at once: between two of them nothing becomes less.
	speedEvery = 10 * time.Second
	// speedMin is the shortest time that a speed is taken from.
	speedMin = time.Second
)

// progress estimates how long it takes until nothing is missing, from how fast
// that became less.
type progress struct {
	mu         sync.Mutex // guards what follows
	from, next lacking    // the speed is that since from; next takes its place
}

// lacking is a reading of how much is missing.
type lacking struct {
	at      time.Time
	missing int64
}

// eta takes a reading and gives seconds, negative for unknown.
func (p *progress) eta(missing int64, now time.Time) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	read := lacking{now, missing}
	switch {
	case p.from.at.IsZero() || missing > p.from.missing:
		p.from, p.next = read, read
	case now.Sub(p.next.at) >= speedEvery:
		p.from, p.next = p.next, read
	}
	since, less := now.Sub(p.from.at), p.from.missing-missing
	switch {
	case missing == 0:
		return 0
	case since < speedMin || less <= 0:
		return -1
	}
	return float64(missing) * since.Seconds() / float64(less)
}

// Status implements Engine.
func (r *Repair) Status() api.RepairStatus {
	st := api.RepairStatus{
		PulledKeys: r.pulledKeys.Load(), PulledBytes: r.pulledBytes.Load(), Scans: r.scans.Load(),
		Audited: r.audited.Load(), Differences: r.differences.Load(), Anomalies: r.anomalies.Load(),
		Closing: r.closing.Load(), Closed: r.closed.Load(),
		Tombstones: r.tombstones.Load(), Forgotten: r.forgotten.Load(),
		Scrubbed: r.scrubbed.Load(), Rotten: r.rotten.Load(),
	}
	if s := r.lastAnomaly.Load(); s != nil {
		st.LastAnomaly = *s
	}
	if b := r.blocked.Load(); b != nil {
		st.Blocked = *b
	}
	if b := r.closingWaits.Load(); b != nil {
		st.Blocked = slices.Concat(st.Blocked, *b)
	}
	if m, ok := r.cfg.Store.(measured); ok {
		s := m.Stats()
		st.StandIns, st.StandInBytes = s.StandIns, s.StandInBytes
	}
	st.HandingOver = len(r.cfg.Store.ToHandOver())
	missing := r.missing()
	if rec := r.current(); rec != nil {
		for p := range ring.Partition(rec.Partitions) {
			if rec.HomeIndex(p, r.cfg.Self) < 0 {
				continue
			}
			st.Homes++
			if !r.Counts(p) || missing[p] > 0 {
				st.Behind++
			}
			if !r.cfg.Store.CountsForRead(p) {
				st.Lossy++
			}
		}
	}
	for _, n := range missing {
		st.Missing += int64(n)
	}
	st.ETA = r.progress.eta(st.Missing, time.Now())
	return st
}

// missing counts the dots that are known to be lacking, by partition. Partners
// that have more than this node mostly have the same. Where one of them is being
// pulled from, what it has said counts: the others wait for it, and look again later.
func (r *Repair) missing() map[ring.Partition]uint64 {
	all, told := map[ring.Partition]uint64{}, map[ring.NodeID]map[ring.Partition]uint64{}
	for _, pt := range r.book.all() {
		pt.mu.Lock()
		told[pt.id] = maps.Clone(pt.missing)
		pt.mu.Unlock()
	}
	for _, of := range told {
		for p, n := range of {
			all[p] = max(all[p], n)
		}
	}
	for p, id := range r.turns.holders() {
		if n := told[id][p]; n > 0 {
			all[p] = n
		}
	}
	return all
}
