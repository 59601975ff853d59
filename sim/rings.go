package sim

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
)

// Rings are the ring records that the nodes of a cluster have held, by epoch. Any
// goroutine may use them.
type Rings struct {
	mu      sync.Mutex // guards what follows
	records map[uint64]*ring.Record
	last    uint64         // the newest epoch
	forced  []*ring.Record // that somebody has forced
	held    map[ring.NodeID][]holding
	err     error // the first thing that was wrong with them
}

// holding says since when a member holds a record at the latest.
type holding struct {
	at     time.Time
	record *ring.Record
}

// NewRings begins without any.
func NewRings() *Rings {
	return &Rings{records: map[uint64]*ring.Record{}, held: map[ring.NodeID][]holding{}}
}

// Holds enters that a member holds a record durably from now on.
func (r *Rings) Holds(id ring.NodeID, record *ring.Record) {
	r.Saw(record)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[id] = append(r.held[id], holding{time.Now(), record})
}

// fence is the newest fence of a partition that a member held durably before a time; 0
// if none is known.
func (r *Rings) fence(id ring.NodeID, p ring.Partition, before time.Time) (since uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.held[id] {
		if h.at.Before(before) {
			since = max(since, h.record.Since[p])
		}
	}
	return since
}

// Saw enters a record that a node holds. One epoch has one record, each may follow the
// one before it, and two that were forced have one history; what breaks that is told by
// Err.
func (r *Rings) Saw(record *ring.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.records[record.Epoch]; known != nil {
		if r.err == nil && !bytes.Equal(known.Encode(), record.Encode()) {
			r.err = broken(OneRing, "there are two ring records of epoch %d", record.Epoch)
		}
		return
	}
	r.records[record.Epoch], r.last = record, max(r.last, record.Epoch)
	if f := record.LastForced(); f != nil && f.Epoch == record.Epoch {
		for _, other := range r.forced {
			if err := record.Split(other); err != nil && r.err == nil {
				r.err = broken(OneRing, "the ring was forced twice, side by side: %v", err)
			}
		}
		r.forced = append(r.forced, record)
	}
	for _, next := range []*ring.Record{record, r.records[record.Epoch+1]} {
		if next == nil || r.err != nil {
			continue
		}
		if prev := r.records[next.Epoch-1]; prev != nil {
			if err := next.Follows(prev); err != nil {
				r.err = broken(OneRing, "the ring record of epoch %d may not follow the one before it: %v", next.Epoch, err)
			} else if err := readersEnd(prev, next); err != nil {
				r.err = broken(OneRing, "the ring record of epoch %d may not follow the one before it: %v", next.Epoch, err)
			}
		}
	}
}

// At is the record of an epoch; nil if nobody was seen to hold it.
func (r *Rings) At(epoch uint64) *ring.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.records[epoch]
}

// Last is the newest epoch that somebody holds; 0 is none.
func (r *Rings) Last() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// Epochs are those of all records that were seen, sorted.
func (r *Rings) Epochs() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []uint64
	for epoch := range r.records {
		out = append(out, epoch)
	}
	slices.Sort(out)
	return out
}

// newest is the newest record that a member holds.
func (r *Rings) newest(id ring.NodeID) *ring.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	var newest *ring.Record
	for _, h := range r.held[id] {
		if newest == nil || h.record.Epoch > newest.Epoch {
			newest = h.record
		}
	}
	return newest
}

// between are the records behind one and up to another, by epoch, those of other
// histories than theirs left out.
func (r *Rings) between(from, to *ring.Record) (out []*ring.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for epoch, record := range r.records {
		if epoch > from.Epoch && epoch <= to.Epoch && record.Split(to) == nil {
			out = append(out, record)
		}
	}
	slices.SortFunc(out, func(a, b *ring.Record) int { return cmp.Compare(a.Epoch, b.Epoch) })
	return out
}

// before is the record that another one was made from; nil if nobody was seen to hold
// it.
func (r *Rings) before(next *ring.Record) *ring.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.records[made(next)]
}

// made is the epoch of the record that another one was made from.
func made(next *ring.Record) uint64 {
	if f := next.LastForced(); f != nil && f.Epoch == next.Epoch {
		return f.Base
	}
	return next.Epoch - 1
}

// Err says what was wrong with the records.
func (r *Rings) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

const (
	// adopted is what a node says when it holds a newer record.
	adopted = "ring record adopted"
	// abstains is how it begins to say that it does not vote on the ring any more.
	abstains = "this member does not vote on the ring any more"
)

// listener hears in a node's words that it has adopted a ring record, or votes no more.
// It is called while the node has not used that record yet: so none is missed, however
// short it stands.
type listener struct {
	slog.Handler
	heard func(what string)
}

// Handle implements slog.Handler.
func (l listener) Handle(ctx context.Context, r slog.Record) error {
	for _, what := range []string{adopted, abstains} {
		if strings.HasPrefix(r.Message, what) {
			l.heard(what)
		}
	}
	return l.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (l listener) WithAttrs(attrs []slog.Attr) slog.Handler {
	return listener{l.Handler.WithAttrs(attrs), l.heard}
}

// WithGroup implements slog.Handler.
func (l listener) WithGroup(name string) slog.Handler {
	return listener{l.Handler.WithGroup(name), l.heard}
}

// hears is told of what the machine's node says.
func (m *Machine) hears(what string) {
	if what == abstains {
		m.mute.Store(int64(m.disks))
		return
	}
	m.look()
}

// look enters the ring record that the machine holds on its disk now.
func (m *Machine) look() {
	s := m.store.Load()
	if s == nil {
		return // it starts, and looks when it has
	}
	encoded, err := s.Meta("ring")
	if err != nil || len(encoded) == 0 {
		return
	}
	if r, err := ring.Decode(encoded); err == nil && r.Founded() {
		m.cluster.rings.Holds(m.id, r)
	}
}
