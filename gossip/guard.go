package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/kithdb/kith/ring"
)

// foreignMax bounds the list of refused peers; the oldest make room.
const foreignMax = 64

// Foreign is a peer that was refused because it belongs to another cluster.
type Foreign struct {
	// ID, Name and RPCAddr are zero when only its cluster name was seen.
	ID            ring.NodeID
	Name, RPCAddr string
	// Addr is its gossip address; for a peer of another cluster name, the
	// address from which it last spoke.
	Addr string
	// Cluster is its cluster ID, zero if unknown; ClusterName is set only when
	// the name differs from ours.
	Cluster     ring.ClusterID
	ClusterName string
	// Seen is when it was last refused.
	Seen time.Time
}

// guard stands at the gate of memberlist: everything learnt about any node
// passes it first. memberlist calls it with its lock held, so it only looks
// at memory, and what takes time is handed to the judge.
type guard struct {
	self ring.NodeID
	addr string // ours, as others know it
	log  *notices

	// own is the cluster of the last Announce. sides is the one to which a
	// newcomer has been drawn by the first member it met: it must not become a
	// bridge between two clusters.
	own   atomic.Pointer[ring.ClusterID]
	sides atomic.Pointer[ring.ClusterID]

	judge *judge
	// met says that a whole state was merged in this life. Before that, no
	// single rumour is taken: it may belong to the life of another process
	// with our ID.
	met atomic.Bool

	mu      sync.Mutex // guards foreign
	foreign []Foreign  // oldest first
}

var (
	_ memberlist.MergeDelegate = (*guard)(nil)
	_ memberlist.AliveDelegate = (*guard)(nil)
)

// cluster is the one that this node stands for: its own, or the one that it
// is about to join; zero if neither is known.
func (g *guard) cluster() ring.ClusterID {
	if own := *g.own.Load(); !own.IsZero() {
		return own
	}
	return *g.sides.Load()
}

// belongs says whether a peer's cluster goes with ours. A newcomer takes the
// side of the first cluster that it meets.
func (g *guard) belongs(theirs ring.ClusterID) bool {
	if theirs.IsZero() {
		return true
	}
	if own := *g.own.Load(); !own.IsZero() {
		return own == theirs
	}
	for {
		side := g.sides.Load()
		if !side.IsZero() {
			return *side == theirs
		}
		if g.sides.CompareAndSwap(side, &theirs) {
			return true
		}
	}
}

// settleSide lets a newcomer change sides when everyone of the first one is
// out of reach. It is called with every new view.
func (g *guard) settleSide(v *View) {
	side := g.sides.Load()
	if side.IsZero() {
		return
	}
	for i := range v.Peers {
		if p := &v.Peers[i]; p.Alive && p.ID != g.self && p.State.Cluster == *side {
			return
		}
	}
	g.sides.CompareAndSwap(side, new(ring.ClusterID))
}

// NotifyMerge decides over the whole state of a node that joins us, or that
// we join. An error leaves both views as they are.
func (g *guard) NotifyMerge(nodes []*memberlist.Node) error {
	var others []Foreign
	var contested error
	met := false
	for _, n := range nodes {
		id, t, err := identify(n)
		if err != nil {
			continue // NotifyAlive will refuse it by itself
		}
		if id == g.self {
			if addr := nodeAddr(n); addr != g.addr && n.State != memberlist.StateLeft {
				contested = errors.Join(contested, g.judge.suspect(addr, t, n.State == memberlist.StateDead))
			}
			continue
		}
		if !g.belongs(t.state.Cluster) {
			others = append(others, foreignPeer(id, n, t))
		}
		met = true
	}
	if len(others) > 0 {
		return g.refuse(others)
	}
	if contested != nil {
		return contested
	}
	if met {
		g.met.Store(true)
		g.judge.settle()
	}
	return nil
}

// NotifyAlive decides over one node of which something was heard.
func (g *guard) NotifyAlive(n *memberlist.Node) error {
	id, t, err := identify(n)
	if err != nil {
		return err
	}
	if id == g.self {
		if addr := nodeAddr(n); addr != g.addr {
			if err := g.judge.suspect(addr, t, false); err != nil {
				return err
			}
			return errStale
		}
		return nil
	}
	if !g.belongs(t.state.Cluster) {
		return g.refuse([]Foreign{foreignPeer(id, n, t)})
	}
	if g.judge.undecided() || !g.met.Load() && !g.judge.settled.Load() {
		return errEarly
	}
	return nil
}

// identify reads who a node says it is. Both the name and the tags come from
// a stranger.
func identify(n *memberlist.Node) (ring.NodeID, tags, error) {
	id, err := ring.ParseNodeID(n.Name)
	if err != nil || id.IsZero() {
		return ring.NodeID{}, tags{}, fmt.Errorf("%w: name %.40q", errTags, n.Name)
	}
	t, err := decodeMeta(n.Meta)
	return id, t, err
}

func nodeAddr(n *memberlist.Node) string {
	return joinAddr(shorten(n.Addr), int(n.Port))
}

func foreignPeer(id ring.NodeID, n *memberlist.Node, t tags) Foreign {
	return Foreign{ID: id, Name: t.name, RPCAddr: t.rpcAddr, Addr: nodeAddr(n), Cluster: t.state.Cluster}
}

// refuse notes the peers of another cluster; one line tells of all that are
// new.
func (g *guard) refuse(others []Foreign) error {
	first := others[0]
	ours := g.cluster()
	fresh := 0
	for _, f := range others {
		if g.note(f) {
			if fresh == 0 {
				first = f
			}
			fresh++
		}
	}
	if fresh > 0 {
		g.log.Limited(slog.LevelWarn, "foreign "+first.ID.String(),
			"refused a member of another cluster: nothing was merged",
			"peer", first.ID.String(), "peer_gossip", first.Addr, "peer_rpc", first.RPCAddr,
			"peer_cluster", first.Cluster.String(), "own_cluster", ours.String(), "own_gossip", g.addr,
			"others_with_it", fresh-1)
	}
	return fmt.Errorf("%w: member %s at %s belongs to cluster %s, this node at %s to cluster %s",
		errForeign, first.ID, first.Addr, first.Cluster, g.addr, ours)
}

// note remembers a refused peer, and says whether it is new.
func (g *guard) note(f Foreign) bool {
	f.Seen = time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	at := slices.IndexFunc(g.foreign, func(o Foreign) bool { return sameForeign(o, f) })
	if at >= 0 {
		g.foreign = slices.Delete(g.foreign, at, at+1)
	} else if len(g.foreign) >= foreignMax {
		g.foreign = slices.Delete(g.foreign, 0, 1)
	}
	g.foreign = append(g.foreign, f)
	return at < 0
}

// sameForeign: a peer without an ID is known by its host, because the port of
// each of its streams is another one.
func sameForeign(a, b Foreign) bool {
	if !a.ID.IsZero() || !b.ID.IsZero() {
		return a.ID == b.ID && a.Cluster == b.Cluster
	}
	return a.ClusterName == b.ClusterName && hostOf(a.Addr) == hostOf(b.Addr)
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

// isForeign says that this ID has claimed another cluster: what gossip may
// still hold of it from the time before is not a peer of ours.
func (g *guard) isForeign(id ring.NodeID) bool {
	ours := g.cluster()
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.foreign, func(f Foreign) bool { return f.ID == id && f.Cluster != ours })
}

func (g *guard) list() []Foreign {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.foreign)
}
