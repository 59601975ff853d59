package gossip

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
)

// Entry is what the book says of one peer.
type Entry struct {
	// ID is the peer's, never zero.
	ID ring.NodeID
	// Addrs are the gossip addresses at which it was met, the newest first, at
	// most AddrsMax.
	Addrs []string
	// Cluster is the one that it last said it belongs to; zero: none yet.
	Cluster ring.ClusterID
	// Seen is when it was last alive, as far as was saved.
	Seen time.Time
}

// Book keeps the peers of this node over restarts. Load is called once, by
// Start, before anything else; Save by one goroutine, seconds after a change,
// with everything that is to be kept. Both may take their time. Save must not
// keep the slice. A Save that fails is tried again.
type Book interface {
	// Load gives what was saved last; nothing, and no error, before the first time.
	Load() ([]Entry, error)
	// Save replaces all that was saved.
	Save([]Entry) error
}

const (
	// AddrsMax is how many addresses of one peer are kept.
	AddrsMax = 4
	// EntriesMax is how many peers are kept; beyond it, those not seen for the
	// longest time are dropped.
	EntriesMax = 1024

	// saveDelay gathers the changes of one moment into one write. What a node
	// that dies sooner has met is lost, and then only seeds bring it back.
	saveDelay = 100 * time.Millisecond
	// saveRetry is the pause after a failed write.
	saveRetry = 30 * time.Second
	// seenRefresh is how stale Seen may be on disk: it serves people and the
	// order of dropping, and is not worth more writes.
	seenRefresh = 10 * time.Minute
	// strangerTime is how long a newcomer that never became a member is
	// looked for after it went away.
	strangerTime = time.Hour
)

// peerBook is the book in memory.
type peerBook struct {
	self ring.NodeID

	mu      sync.Mutex // guards what follows; held for map work only
	entries map[ring.NodeID]*Entry
	// forgotten are members that were removed: they never come back in.
	forgotten map[ring.NodeID]bool
	dirty     bool
	saved     time.Time

	changed chan struct{} // a token: there is something to save
}

func newPeerBook(self ring.NodeID, loaded []Entry) *peerBook {
	b := &peerBook{
		self:      self,
		entries:   make(map[ring.NodeID]*Entry),
		forgotten: make(map[ring.NodeID]bool),
		changed:   make(chan struct{}, 1),
	}
	for _, e := range loaded {
		if e.ID.IsZero() || e.ID == self {
			continue
		}
		e.Addrs = slices.Clone(e.Addrs[:min(len(e.Addrs), AddrsMax)])
		b.entries[e.ID] = &e
	}
	b.trim()
	return b
}

// meet notes everyone who is alive, and drops strangers that are long gone.
func (b *peerBook) meet(v *View, own ring.ClusterID, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range v.Peers {
		if p := &v.Peers[i]; p.Alive && p.ID != b.self && !b.forgotten[p.ID] {
			b.note(p, now)
		}
	}
	if !own.IsZero() {
		for id, e := range b.entries {
			if e.Cluster.IsZero() && now.Sub(e.Seen) > strangerTime {
				delete(b.entries, id)
				b.dirty = true
			}
		}
	}
	b.trim()
	if now.Sub(b.saved) > seenRefresh {
		b.dirty = true
	}
	if b.dirty {
		wake(b.changed)
	}
}

func (b *peerBook) note(p *Peer, now time.Time) {
	e := b.entries[p.ID]
	if e == nil {
		e = &Entry{ID: p.ID}
		b.entries[p.ID] = e
		b.dirty = true
	}
	e.Seen = now
	if e.Cluster != p.State.Cluster && !p.State.Cluster.IsZero() {
		e.Cluster = p.State.Cluster
		b.dirty = true
	}
	if len(e.Addrs) > 0 && e.Addrs[0] == p.GossipAddr {
		return
	}
	addrs := []string{p.GossipAddr}
	for _, a := range e.Addrs {
		if a != p.GossipAddr && len(addrs) < AddrsMax {
			addrs = append(addrs, a)
		}
	}
	e.Addrs = addrs
	b.dirty = true
}

// trim drops the ones not seen for longest, down to EntriesMax.
func (b *peerBook) trim() {
	over := len(b.entries) - EntriesMax
	if over <= 0 {
		return
	}
	all := b.sorted()
	slices.SortStableFunc(all, func(x, y Entry) int { return x.Seen.Compare(y.Seen) })
	for _, e := range all[:over] {
		delete(b.entries, e.ID)
	}
	b.dirty = true
}

func (b *peerBook) forget(id ring.NodeID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgotten[id] = true
	if b.entries[id] != nil {
		delete(b.entries, id)
		b.dirty = true
		wake(b.changed)
	}
}

func (b *peerBook) isForgotten(id ring.NodeID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.forgotten[id]
}

// all gives a copy, sorted by ID.
func (b *peerBook) all() []Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sorted()
}

func (b *peerBook) sorted() []Entry {
	all := make([]Entry, 0, len(b.entries))
	for _, e := range b.entries {
		copied := *e
		copied.Addrs = slices.Clone(e.Addrs)
		all = append(all, copied)
	}
	slices.SortFunc(all, func(x, y Entry) int { return cmp.Or(x.ID.Compare(y.ID)) })
	return all
}

// toSave gives what is to be written, or nil when the last write is good.
func (b *peerBook) toSave(now time.Time) []Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.dirty {
		return nil
	}
	b.dirty = false
	b.saved = now
	return b.sorted()
}

func (b *peerBook) saveFailed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dirty = true
}

// saveLoop is the one goroutine that writes the book. What is still unwritten
// at the end is written then.
func (c *Cluster) saveLoop(ctx context.Context) {
	for {
		pause := saveDelay
		select {
		case <-c.book.changed:
		case <-ctx.Done():
			c.save()
			return
		}
		for {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				c.save()
				return
			}
			if c.save() {
				break
			}
			pause = saveRetry
		}
	}
}

func (c *Cluster) save() bool {
	entries := c.book.toSave(time.Now())
	if entries == nil || c.cfg.Book == nil {
		return true
	}
	if err := c.cfg.Book.Save(entries); err != nil {
		c.book.saveFailed()
		c.log.Warn("the peer book was not saved", "error", err)
		return false
	}
	return true
}

// wake leaves a token; a second one adds nothing.
func wake(token chan struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}
