package mover

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
)

// pull is one that is under way.
type pull struct {
	ring.Pull
	cancel context.CancelFunc
	done   chan struct{} // closed once err stands
	err    error
}

// failure is what became of the latest pulls of a partition under one epoch.
type failure struct {
	since uint64
	count int
	until time.Time     // when to try again
	avoid []ring.NodeID // those that are there and do not give
	why   string
}

func (f *failure) avoids(id ring.NodeID) bool { return slices.Contains(f.avoid, id) }

const (
	// failMin and failMax bound the pause after a pull that failed.
	failMin = 250 * time.Millisecond
	failMax = 8 * time.Second
)

func (f *failure) add(chance *rand.Rand) {
	pause := min(failMin<<min(f.count, 8), failMax)
	f.count++
	f.until = time.Now().Add(pause/2 + time.Duration(chance.Int64N(int64(pause/2))))
}

// pull ends the pulls that are not wanted any more, and begins those that are, as far
// as the pace allows.
func (m *Mover) pull(ctx context.Context, r *ring.Record, wanted []ring.Pull) {
	m.collect(r)
	want := make(map[ring.Partition]*ring.Pull, len(wanted))
	for i := range wanted {
		want[wanted[i].Partition] = &wanted[i]
	}
	for _, p := range slices.Sorted(maps.Keys(m.pulls)) {
		under := m.pulls[p]
		if w := want[p]; w == nil || w.Since != under.Since || !within(w.From, under.From) {
			under.cancel() // it is collected when it has ended
		}
	}
	for i := range wanted {
		w := &wanted[i]
		if len(m.pulls) >= m.cfg.Pulls {
			return
		}
		if f := m.failures[w.Partition]; f != nil && f.since == w.Since && time.Now().Before(f.until) {
			continue
		}
		if m.pulls[w.Partition] == nil {
			m.begin(ctx, *w)
		}
	}
}

// within says that all of some members are among others.
func within(some, others []ring.NodeID) bool {
	return !slices.ContainsFunc(some, func(id ring.NodeID) bool { return !slices.Contains(others, id) })
}

// begin starts a pull, a moment from now: those that begin together take turns.
func (m *Mover) begin(ctx context.Context, w ring.Pull) {
	ctx, cancel := context.WithCancel(ctx)
	p := &pull{Pull: w, cancel: cancel, done: make(chan struct{})}
	m.pulls[w.Partition] = p
	moment := m.moment()
	m.running.Go(func() {
		defer cancel()
		timer := time.NewTimer(moment)
		defer timer.Stop()
		select {
		case <-timer.C:
			p.err = m.cfg.Syncer.Sync(ctx, w)
		case <-ctx.Done():
			p.err = ctx.Err()
		}
		close(p.done)
		m.wake()
	})
}

// collect takes note of the pulls that have ended, in the order of their partitions.
func (m *Mover) collect(r *ring.Record) {
	var ended []*pull
	for _, p := range m.pulls {
		select {
		case <-p.done:
			ended = append(ended, p)
		default:
		}
	}
	slices.SortFunc(ended, func(a, b *pull) int { return int(a.Partition) - int(b.Partition) })
	for _, p := range ended {
		delete(m.pulls, p.Partition)
		if p.err == nil {
			delete(m.failures, p.Partition)
		} else if !errors.Is(p.err, context.Canceled) {
			m.failed(p)
		}
	}
	for p, f := range m.failures {
		if r.MoveOf(p) == nil || r.Since[p] != f.since {
			delete(m.failures, p)
		}
	}
}

// failed has a pull tried again later, from others where others will do.
func (m *Mover) failed(p *pull) {
	f := m.failures[p.Partition]
	if f == nil || f.since != p.Since {
		f = &failure{since: p.Since}
		m.failures[p.Partition] = f
	}
	known := m.cfg.Noted(p.Partition)
	f.avoid = f.avoid[:0]
	for _, id := range p.From {
		given := known.Since == p.Since && known.By == m.cfg.Self && slices.Contains(known.From, id)
		if !given && !m.cfg.Absent(id) {
			f.avoid = append(f.avoid, id)
		}
	}
	f.why = p.err.Error()
	f.add(m.chance)
	m.cfg.Logger.Info("a partition that moves could not be pulled yet", "partition", p.Partition, "epoch", p.Since, "failures", f.count, "error", p.err)
}
