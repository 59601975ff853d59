package gossip

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/serf/serf"

	"github.com/kithdb/kith/ring"
)

// drainLoop takes serf's events off its hands. serf sends them while it holds
// the lock that Members needs, so this loop takes no lock at all, and keeps
// nothing of an event but that there was one: the view is a level.
func (c *Cluster) drainLoop(ctx context.Context) {
	for {
		select {
		case <-c.events:
			wake(c.dirty)
		case <-ctx.Done():
			return
		}
	}
}

// refreshTime is how often the view is built anew with no event: a safety net
// for what serf changes without one, such as a member that is leaving.
const refreshTime = 10 * time.Second

// viewLoop is the only one that makes views.
func (c *Cluster) viewLoop(ctx context.Context) {
	refresh := time.NewTicker(refreshTime)
	defer refresh.Stop()
	for {
		c.look()
		select {
		case <-c.dirty:
		case <-refresh.C:
		case <-ctx.Done():
			return
		}
	}
}

// look builds the view of this moment and, if it differs, publishes it.
func (c *Cluster) look() {
	next := c.buildView(c.serf.Members())
	last := c.current.Load()
	c.guard.settleSide(next)
	c.book.meet(next, c.state.Load().Cluster, time.Now())
	if slices.Equal(next.Peers, last.view.Peers) {
		return
	}
	c.current.Store(&moment{view: next, changed: make(chan struct{})})
	close(last.changed)
	c.tellChanges(last.view, next)
}

func (c *Cluster) buildView(members []serf.Member) *View {
	v := &View{Peers: make([]Peer, 0, len(members))}
	own := c.state.Load().Cluster
	for i := range members {
		m := &members[i]
		id, err := ring.ParseNodeID(m.Name)
		if err != nil || id == c.cfg.ID {
			continue
		}
		t, err := decodeTags(m.Tags[tagKey])
		if err != nil || c.guard.isForeign(id) {
			continue
		}
		if theirs := t.state.Cluster; !own.IsZero() && !theirs.IsZero() && own != theirs {
			continue
		}
		// A member that is said to be leaving is still there; only its own
		// silence shows that it has gone.
		alive := m.Status == serf.StatusAlive || m.Status == serf.StatusLeaving
		if !alive && c.book.isForgotten(id) {
			continue
		}
		v.Peers = append(v.Peers, Peer{
			ID: id, Name: t.name, Zone: t.zone,
			RPCAddr: t.rpcAddr, GossipAddr: joinAddr(shorten(m.Addr), int(m.Port)),
			Alive: alive, State: t.state,
			ProtocolMin: t.min, ProtocolMax: t.max,
		})
	}
	v.Peers = append(v.Peers, c.myself())
	slices.SortFunc(v.Peers, func(a, b Peer) int { return a.ID.Compare(b.ID) })
	return v
}

// myself is this node's own place in the view: what it announced last, told
// already or not.
func (c *Cluster) myself() Peer {
	return Peer{
		ID: c.cfg.ID, Name: c.cfg.Name, Zone: c.cfg.Zone,
		RPCAddr: c.cfg.RPCAddr, GossipAddr: c.net.addr(),
		Alive: true, State: *c.state.Load(),
		ProtocolMin: c.cfg.ProtocolMin, ProtocolMax: c.cfg.ProtocolMax,
	}
}

func (c *Cluster) firstView() *View { return &View{Peers: []Peer{c.myself()}} }

func (c *Cluster) tellChanges(last, next *View) {
	for i := range next.Peers {
		p := &next.Peers[i]
		before := last.Peer(p.ID)
		if p.ID == c.cfg.ID || before != nil && before.Alive == p.Alive && before.GossipAddr == p.GossipAddr {
			continue
		}
		text := "a peer is reachable"
		if !p.Alive {
			text = "a peer is out of reach"
		}
		c.log.Info(text, "peer", p.ID.String(), "name", p.Name, "gossip", p.GossipAddr, "rpc", p.RPCAddr)
	}
}

// retellTimes are when a state is told again after it was told, from one time to
// the next: a change of tags goes out in a handful of packets, and what loses them
// also loses the change until whole states are exchanged, half a minute later.
// They are means: the nodes of a cluster that is founded all tell at one moment,
// and must not all tell again at one.
var retellTimes = [...]time.Duration{time.Second, 4 * time.Second}

const (
	// paddingMax keeps changes of tags apart: memberlist's queue, when a change
	// has replaced the only one in it, numbers from the beginning again, and a
	// later one of equal length and number then takes the place of the first
	// before that was sent. Readers leave the bytes behind the fields alone.
	paddingMax = 32
	// tagsMax is what serf takes of our one tag.
	tagsMax = 505
)

// tellLoop is the only one that changes the tags. The newest state is told;
// those that came and went between two tellings are not.
func (c *Cluster) tellLoop(ctx context.Context) {
	retell := time.NewTimer(0)
	defer retell.Stop()
	retell.Stop() // nothing has been told yet
	told := 0     // how often the newest state was told again
	rng := chance(c.cfg.Seed, "tell")
	for {
		select {
		case <-c.tell:
			told = 0
		case <-c.judge.onSettle:
			told = 0
		case <-retell.C:
			told++
		case <-ctx.Done():
			return
		}
		// The only error of a well-formed change is that it was not sent yet.
		// It stays queued, and is told again.
		if err := c.serf.SetTags(padded(c.tags(), rng.IntN(paddingMax))); err != nil {
			c.log.Debug("the new state is not sent yet", "error", err)
		}
		if told < len(retellTimes) {
			mean := retellTimes[told]
			retell.Reset(mean/2 + time.Duration(rng.Int64N(int64(mean))))
		}
	}
}

// tags are what this node says about itself now.
func (c *Cluster) tags() map[string]string {
	t := tags{
		state: *c.state.Load(), min: c.cfg.ProtocolMin, max: c.cfg.ProtocolMax,
		run: c.run, settled: c.judge.settled.Load(),
		rpcAddr: c.cfg.RPCAddr, name: c.cfg.Name, zone: c.cfg.Zone,
	}
	return map[string]string{tagKey: t.encode()}
}

// padded makes tags longer by so many bytes, or as many as there is room for.
func padded(t map[string]string, n int) map[string]string {
	n = min(n, max(tagsMax-len(t[tagKey]), 0))
	t[tagKey] += string(make([]byte, n))
	return t
}
