package membership

import (
	"slices"
	"sync/atomic"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/ring"
)

// Member is one node's end of a World; it has the methods of gossip.Cluster
// that nodes use.
type Member struct {
	world *World
	view  atomic.Pointer[gossip.View]

	// world.mu guards the rest
	self      gossip.Peer
	closed    bool
	forgotten map[ring.NodeID]bool
	changed   chan struct{}
	failed    chan error
}

// View is who this member knows of now, itself included, sorted by ID. It is
// never changed.
func (m *Member) View() *gossip.View { return m.view.Load() }

// Changed is closed with the next change of View. Get it before reading View.
func (m *Member) Changed() <-chan struct{} {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	return m.changed
}

// Announce tells all others the member's state. It never blocks; the newest
// state wins.
func (m *Member) Announce(s gossip.State) {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	if m.closed || m.self.State == s {
		return
	}
	m.self.State = s
	m.world.settled = false
	m.rebuild()
}

// Failed gets what World.Fail says.
func (m *Member) Failed() <-chan error { return m.failed }

// Addr is the member's gossip address.
func (m *Member) Addr() string { return m.self.GossipAddr }

// Forget drops a removed member from the view for good.
func (m *Member) Forget(id ring.NodeID) {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	if m.forgotten == nil {
		m.forgotten = map[ring.NodeID]bool{}
	}
	m.forgotten[id] = true
	m.world.settled = false
	m.rebuild()
}

// Close is the end of the member's process: no goodbye, others find out.
func (m *Member) Close() error {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	m.closed = true
	m.world.settled = false
	return nil
}

// rebuild makes the view anew and wakes who waits. The world is locked.
func (m *Member) rebuild() {
	v := &gossip.View{Peers: []gossip.Peer{m.self}}
	for id := range m.world.members {
		if p := m.world.pairs[[2]ring.NodeID{m.self.ID, id}]; p != nil && p.known && !m.forgotten[id] {
			v.Peers = append(v.Peers, p.seen)
		}
	}
	slices.SortFunc(v.Peers, func(a, b gossip.Peer) int { return a.ID.Compare(b.ID) })
	m.view.Store(v)
	close(m.changed)
	m.changed = make(chan struct{})
}
