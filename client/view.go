package client

import (
	"errors"
	"slices"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// view is the cluster as the client knows it, never changed once made.
type view struct {
	record *ring.Record // nil until a node has sent one
	epoch  uint64
	// members with an address, those in the client's zone first, else in the order of
	// the record; then the seeds that are no member's address.
	nodes   []*node
	near    int // how many of nodes are in the client's zone
	members []api.MemberAddress
	// homes of each partition that have an address, those in the client's zone first;
	// nil without a table.
	homes [][]*node
}

// seedView knows the seeds only.
func seedView(addrs []string) *view {
	v := &view{nodes: make([]*node, len(addrs))}
	for i, a := range addrs {
		v.nodes[i] = &node{peer: rpc.Peer{Addr: a}, name: a}
	}
	return v
}

// next is the view after an answer. record may be v's own, when only addresses
// are news. What is known of a node stays known; of one that is new the answer is
// believed. A direct client goes on with the nodes that it has.
func (v *view) next(record *ring.Record, members []api.MemberAddress, seeds []string, direct bool, zone string) *view {
	out := &view{record: record, members: members}
	if record != nil {
		out.epoch = record.Epoch
	}
	if direct {
		out.nodes = v.nodes
		return out
	}
	known := make(map[rpc.Peer]*node, len(v.nodes))
	for _, n := range v.nodes {
		known[n.peer] = n
	}
	byID := make(map[ring.NodeID]*node, len(members))
	taken := make(map[string]bool, len(members))
	add := func(p rpc.Peer) *node {
		n := known[p]
		if n == nil {
			n = &node{peer: p, name: p.Addr}
		}
		taken[p.Addr] = true
		out.nodes = append(out.nodes, n)
		return n
	}
	for _, m := range members {
		if m.Addr == "" || byID[m.ID] != nil {
			continue
		}
		p := rpc.Peer{ID: m.ID, Addr: m.Addr}
		met := known[p] != nil
		n := add(p)
		if !met && !m.Alive {
			n.down.Store(true) // until it answers a probe
		}
		byID[m.ID] = n
	}
	near := nodesIn(record, byID, zone)
	nearFirst(out.nodes, near)
	out.near = len(near)
	for _, a := range seeds {
		if !taken[a] {
			add(rpc.Peer{Addr: a})
		}
	}
	if record != nil && record.Founded() {
		out.homes = homesOf(record, byID)
		for _, homes := range out.homes {
			nearFirst(homes, near)
		}
	}
	return out
}

// nodesIn are the members in a zone; none for no zone.
func nodesIn(record *ring.Record, byID map[ring.NodeID]*node, zone string) map[*node]bool {
	near := map[*node]bool{}
	if record == nil || zone == "" {
		return near
	}
	for id, n := range byID {
		if m := record.Member(id); m != nil && m.Zone == zone {
			near[n] = true
		}
	}
	return near
}

// nearFirst brings those that are near to the front, and keeps the order otherwise.
func nearFirst(nodes []*node, near map[*node]bool) {
	if len(near) == 0 {
		return
	}
	slices.SortStableFunc(nodes, func(a, b *node) int {
		switch {
		case near[a] == near[b]:
			return 0
		case near[a]:
			return -1
		}
		return 1
	})
}

// fill gives members whose address a node does not know the one that is known
// from before: a stale address is better than none.
func (v *view) fill(members []api.MemberAddress) {
	for i := range members {
		for j := range v.members {
			if members[i].Addr == "" && v.members[j].ID == members[i].ID {
				members[i].Addr = v.members[j].Addr
			}
		}
	}
}

// homesOf resolves the table. Partitions share one array.
func homesOf(record *ring.Record, byID map[ring.NodeID]*node) [][]*node {
	homes := make([][]*node, record.Partitions)
	all := make([]*node, 0, record.Partitions*record.Replicas)
	for p := range homes {
		from := len(all)
		for _, id := range record.Homes(ring.Partition(p)) {
			if n := byID[id]; n != nil {
				all = append(all, n)
			}
		}
		homes[p] = all[from:len(all):len(all)]
	}
	return homes
}

// attemptsMax bounds the nodes that one call is sent to.
const attemptsMax = 8

// tried are the nodes that a call was sent to, and what their refusals mean for
// the choice of the next one.
type tried struct {
	nodes [attemptsMax]*node
	n     int

	// answered says that one of them was there to refuse. Those that seem
	// down are left alone then: to wait for them would not help.
	answered bool
	// judged says that one found too few homes. Only other homes may know
	// better; all others would ask the same ones.
	judged bool
}

// refused takes note of why a node did not do it.
func (t *tried) refused(err error) {
	if fromNode(err) {
		t.answered = true
		t.judged = t.judged || errors.Is(err, ErrUnavailable)
	}
}

func (t *tried) add(n *node) {
	if t.n < len(t.nodes) {
		t.nodes[t.n] = n
	}
	t.n++
}

func (t *tried) has(n *node) bool {
	for _, x := range t.nodes[:min(t.n, len(t.nodes))] {
		if x == n {
			return true
		}
	}
	return false
}

// pick is the node to ask next: the first home that answers, another home,
// any member that answers, and if nobody has answered those that did not lately; those
// in the client's zone before others of their kind. It is nil when there is nobody left.
// turn spreads the choice among nodes that are no homes.
func (v *view) pick(p int, t *tried, turn int) *node {
	if t.n >= attemptsMax {
		return nil
	}
	var homes []*node
	if p >= 0 && p < len(v.homes) {
		homes = v.homes[p]
	}
	for _, n := range homes {
		if !n.down.Load() && !t.has(n) {
			return n
		}
	}
	if t.judged && len(homes) > 0 {
		return nil
	}
	if n := v.first(t, turn, false); n != nil || t.answered {
		return n
	}
	for _, n := range homes {
		if !t.has(n) {
			return n
		}
	}
	return v.first(t, turn, true)
}

func (v *view) first(t *tried, turn int, evenDown bool) *node {
	if n := first(v.nodes[:v.near], t, turn, evenDown); n != nil {
		return n
	}
	return first(v.nodes[v.near:], t, turn, evenDown)
}

func first(nodes []*node, t *tried, turn int, evenDown bool) *node {
	for i := range nodes {
		n := nodes[(turn+i)%len(nodes)]
		if (evenDown || !n.down.Load()) && !t.has(n) {
			return n
		}
	}
	return nil
}
