package client

import (
	"sync/atomic"
	"time"

	"github.com/kithdb/kith/rpc"
)

// node is one address that requests can go to, and how it has behaved. A
// member that changes its address becomes another node.
type node struct {
	peer rpc.Peer
	name string // as messages show it

	// down says that it did not answer lately. It is asked only if nobody
	// else is left, until a probe is answered.
	down atomic.Bool

	// Requests sent and answered; the difference waits.
	sent, answered atomic.Uint64

	// Of the keeper alone.
	answeredBefore uint64 // answered, a tick ago
	waitedBefore   bool   // requests were waiting a tick ago
	probing        atomic.Bool
	probeWait      time.Duration // from one failed probe to the next
	probeAt        time.Time
}

// stuck says that requests have waited for a whole tick, and that none of the
// node's was answered meanwhile. Called once a tick.
func (n *node) stuck() bool {
	answered, sent := n.answered.Load(), n.sent.Load()
	waits := sent > answered
	stuck := waits && n.waitedBefore && answered == n.answeredBefore
	n.answeredBefore, n.waitedBefore = answered, waits
	return stuck
}

// Of probes.
const (
	probeTimeout = 500 * time.Millisecond
	probeWaitMin = 100 * time.Millisecond
	probeWaitMax = 2 * time.Second
)

// due says that a node that is down should be probed again.
func (n *node) due(now time.Time) bool {
	return n.down.Load() && !n.probing.Load() && !now.Before(n.probeAt)
}

// failed plans the next probe.
func (n *node) failed(now time.Time) {
	n.probeWait = min(max(2*n.probeWait, probeWaitMin), probeWaitMax)
	n.probeAt = now.Add(n.probeWait)
}
