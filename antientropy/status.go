package antientropy

import (
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// speedEvery is between two readings that an estimate is made from.
const speedEvery = 5 * time.Second

// progress estimates how long it takes until nothing is missing, from how fast
// that became less.
type progress struct {
	mu      sync.Mutex // guards what follows
	at      time.Time
	missing int64
	perSec  float64 // 0 is unknown
}

// eta takes a reading and gives seconds, negative for unknown.
func (p *progress) eta(missing int64, now time.Time) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch since := now.Sub(p.at); {
	case p.at.IsZero() || missing > p.missing:
		p.at, p.missing, p.perSec = now, missing, 0
	case since >= speedEvery || p.perSec == 0 && since > 0 && missing < p.missing:
		p.perSec = float64(p.missing-missing) / since.Seconds()
		p.at, p.missing = now, missing
	}
	switch {
	case missing == 0:
		return 0
	case p.perSec <= 0:
		return -1
	}
	return float64(missing) / p.perSec
}

// Status implements Engine.
func (r *Repair) Status() api.RepairStatus {
	st := api.RepairStatus{
		PulledKeys: r.pulledKeys.Load(), PulledBytes: r.pulledBytes.Load(),
		Audited: r.audited.Load(), Differences: r.differences.Load(), Anomalies: r.anomalies.Load(),
		Tombstones: r.tombstones.Load(), Forgotten: r.forgotten.Load(),
		Scrubbed: r.scrubbed.Load(), Rotten: r.rotten.Load(),
	}
	if s := r.lastAnomaly.Load(); s != nil {
		st.LastAnomaly = *s
	}
	if b := r.blocked.Load(); b != nil {
		st.Blocked = *b
	}
	if m, ok := r.cfg.Store.(measured); ok {
		s := m.Stats()
		st.StandIns, st.StandInBytes = s.StandIns, s.StandInBytes
	}
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
// that have more than this node mostly have the same.
func (r *Repair) missing() map[ring.Partition]uint64 {
	all := map[ring.Partition]uint64{}
	for _, pt := range r.book.all() {
		pt.mu.Lock()
		for p, n := range pt.missing {
			all[p] = max(all[p], n)
		}
		pt.mu.Unlock()
	}
	return all
}
