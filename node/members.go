package node

import (
	"sync/atomic"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/ring"
)

// members is the membership before and after it has started: topology and kv
// need it while they are built, and it needs the address that they are served
// on.
type members struct {
	started chan struct{} // closed by set
	real    atomic.Pointer[Membership]
}

func newMembers() *members { return &members{started: make(chan struct{})} }

func (m *members) set(real Membership) {
	m.real.Store(&real)
	close(m.started)
}

func (m *members) get() Membership {
	if real := m.real.Load(); real != nil {
		return *real
	}
	return nil
}

var nobody = new(gossip.View)

// View implements Membership.
func (m *members) View() *gossip.View {
	if real := m.get(); real != nil {
		return real.View()
	}
	return nobody
}

// Changed implements Membership.
func (m *members) Changed() <-chan struct{} {
	if real := m.get(); real != nil {
		return real.Changed()
	}
	return m.started
}

// Announce implements Membership. Before the start nobody hears it; the first
// state is given to the real one when it starts.
func (m *members) Announce(s gossip.State) {
	if real := m.get(); real != nil {
		real.Announce(s)
	}
}

func (m *members) addr() string {
	if real := m.get(); real != nil {
		return real.Addr()
	}
	return ""
}

func (m *members) close() error {
	if real := m.get(); real != nil {
		return real.Close()
	}
	return nil
}

// Forget drops a member that was removed, where the membership keeps such.
func (m *members) Forget(id ring.NodeID) {
	if f, ok := m.get().(interface{ Forget(ring.NodeID) }); ok {
		f.Forget(id)
	}
}

// joinError says why the last try to reach another node failed, where the membership
// knows; nil after one that succeeded.
func (m *members) joinError() error {
	if f, ok := m.get().(interface{ JoinError() error }); ok {
		return f.JoinError()
	}
	return nil
}

// Foreign are the peers that were turned away because they belong to another
// cluster, where the membership knows of such.
func (m *members) Foreign() []gossip.Foreign {
	if f, ok := m.get().(interface{ Foreign() []gossip.Foreign }); ok {
		return f.Foreign()
	}
	return nil
}
