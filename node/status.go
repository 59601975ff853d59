package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// statusTimeout is how long a member may take to tell about itself.
const statusTimeout = time.Second

// register puts the routes on the mux that tell about the cluster.
func (n *Node) register(mux *rpc.Mux) {
	api.Ring.Handle(mux, rpc.ClassControl, n.ringFor)
	api.Status.Handle(mux, rpc.ClassControl, n.status)
	api.Repair.Handle(mux, rpc.ClassControl, n.audit)
	api.Change.Handle(mux, rpc.ClassControl, n.change)
	api.Plan.Handle(mux, rpc.ClassControl, n.plan)
	api.Moves.Handle(mux, rpc.ClassControl, n.moves)
	api.History.Handle(mux, rpc.ClassControl, n.history.serve)
	api.Drain.Handle(mux, rpc.ClassControl, n.drain)
	api.Force.Handle(mux, rpc.ClassControl, n.force)
	api.Reach.Handle(mux, rpc.ClassControl, n.reach)
}

// audit starts an audit of this node's copies, or says how far it is.
func (n *Node) audit(_ context.Context, _ rpc.Peer, req *api.RepairRequest) (*api.RepairResponse, error) {
	if !req.Start {
		resp := n.repair.Audited()
		return &resp, nil
	}
	r := n.topology.Current()
	switch {
	case r == nil || !r.Founded():
		return nil, fmt.Errorf("%w: there is no partition to audit yet", api.ErrNotReady)
	case req.Partition != api.AllPartitions && (req.Partition < 0 || req.Partition >= r.Partitions):
		return nil, fmt.Errorf("%w: partition %d: want 0 to %d", api.ErrBadRequest, req.Partition, r.Partitions-1)
	}
	resp, err := n.repair.Audit(req.Partition)
	if err != nil {
		return nil, err
	}
	return &resp, nil
}

// ringFor answers a client that routes by itself.
func (n *Node) ringFor(_ context.Context, _ rpc.Peer, req *api.RingRequest) (*api.RingResponse, error) {
	r := n.topology.Current()
	if r == nil {
		return nil, fmt.Errorf("%w: this node has not joined a cluster yet", api.ErrNotReady)
	}
	resp := &api.RingResponse{Epoch: r.Epoch, Now: n.env.Now().UnixMilli()}
	if r.Epoch > req.Epoch {
		resp.Record = r.Encode()
	}
	view := n.members.View()
	for _, m := range r.Members {
		a := api.MemberAddress{ID: m.ID, Alive: n.kv.Reachable(m.ID)}
		if p := view.Peer(m.ID); p != nil {
			a.Addr = p.RPCAddr
		}
		resp.Members = append(resp.Members, a)
	}
	return resp, nil
}

// status tells of the cluster as this node sees it: what gossip and circuits say
// of every member, and what each says of itself.
func (n *Node) status(ctx context.Context, _ rpc.Peer, req *api.StatusRequest) (*api.StatusResponse, error) {
	r := n.topology.Current()
	resp := &api.StatusResponse{Cluster: n.cfg.Cluster, Node: n.id.String(), Members: []api.MemberStatus{}}
	if r != nil {
		resp.ClusterID = r.Cluster.String()
		resp.Epoch, resp.Partitions, resp.Replicas = r.Epoch, r.Partitions, r.Replicas
	}
	if req.Local {
		resp.Members = append(resp.Members, n.self(r))
		return resp, nil
	}
	resp.Members = n.everybody(ctx, r)
	resp.Reason = n.notReady(r, resp.Members)
	resp.Ready = resp.Reason == ""
	return resp, nil
}

// self is this node as it sees itself.
func (n *Node) self(r *ring.Record) api.MemberStatus {
	stats := n.store.Stats()
	m := api.MemberStatus{
		Name: n.name, ID: n.id.String(), Zone: n.cfg.Zone, Address: n.addr, Gossip: n.GossipAddr(),
		Reachable: true, Keys: stats.Keys, Disk: stats.DiskBytes, Version: n.cfg.Version,
		Records: stats.Records, Syncs: stats.Batches,
		Problems: []string{}, Repair: n.repair.Status(),
	}
	m.State = n.state(r, &m.Repair)
	if r != nil {
		m.Epoch = r.Epoch
		m.Homes = r.HomeCount(n.id)
		m.Keeper = r.IsKeeper(n.id)
		inRing(&m, r, n.id)
	}
	m.Problems = append(m.Problems, n.problems(&m.Repair)...)
	if lead, ok := n.kv.ClockAhead(); ok {
		m.Problems = append(m.Problems, fmt.Sprintf("clock is %v ahead of the other members: no writes are taken here", lead.Round(time.Millisecond)))
	}
	return m
}

// problems are sentences about this node's place and copies, worst first.
func (n *Node) problems(s *api.RepairStatus) []string {
	var out []string
	h := n.store.Health()
	if h.Failed != nil {
		out = append(out, "storage failed: "+h.Failed.Error())
	}
	if why := n.topology.Split(); why != "" {
		out = append(out, why)
	}
	if why := apart(n.topology.Current(), n.id); why != "" {
		out = append(out, why)
	}
	if why := n.topology.Abstains(); why != "" {
		out = append(out, fmt.Sprintf("never votes on the ring again, since its disk may have forgotten a vote (%s): have a new one take its place (kith replace)", why))
	}
	if why := n.lonely(); why != "" {
		out = append(out, why)
	}
	if why := n.replacement.problem(); why != "" {
		out = append(out, why)
	}
	if why := n.mover.Owes(); why != "" {
		out = append(out, "has handed over its slots, and leaves later: "+why)
	}
	out = append(out, h.Losses...)
	if s.Lossy > 0 {
		out = append(out, fmt.Sprintf("%d of %d partitions have lost something: they take writes, count for no read, and are being filled from the other homes%s",
			s.Lossy, s.Homes, remaining(s)))
	}
	if s.Behind > 0 {
		out = append(out, fmt.Sprintf("%d of %d partitions lack writes that other homes have, or were not compared with them yet%s", s.Behind, s.Homes, remaining(s)))
	}
	if s.Lossy == 0 && !n.store.TreesTrusted() {
		out = append(out, "hash trees are being built from the records: copies are not compared until they are")
	}
	if s.HandingOver > 0 {
		out = append(out, fmt.Sprintf("what it held of %d partitions that have other homes now is kept until these have it", s.HandingOver))
	}
	if s.StandIns > 0 {
		out = append(out, fmt.Sprintf("records kept for other homes until these can be reached: %d, of %d bytes", s.StandIns, s.StandInBytes))
	}
	for _, why := range s.Blocked {
		out = append(out, "deleted keys cannot be forgotten yet: "+why)
	}
	if s.Rotten > 0 {
		out = append(out, fmt.Sprintf("the scrub has found %d damaged records since the start", s.Rotten))
	}
	return out
}

// remaining says how much catching up is left; empty if that is not known.
func remaining(s *api.RepairStatus) string {
	if s.Missing <= 0 {
		return ""
	}
	text := fmt.Sprintf(": %d writes are missing", s.Missing)
	if s.ETA >= 0 {
		text += fmt.Sprintf(", for about %v", time.Duration(s.ETA*float64(time.Second)).Round(time.Second))
	}
	return text
}

// state is one word for this node.
func (n *Node) state(r *ring.Record, s *api.RepairStatus) string {
	h := n.store.Health()
	switch {
	case h.Failed != nil:
		return "failed"
	case n.draining.Load():
		return "draining"
	case r == nil:
		return "joining"
	case !r.Founded():
		return "founding"
	case r.Member(n.id) == nil:
		return "joining"
	case r.HomeCount(n.id) == 0 && r.Member(n.id).State == ring.Active:
		return "joining"
	case r.HomeCount(n.id) == 0:
		return "standby"
	case n.lives.Unsure() != nil:
		return "recovering" // it takes writes, and counts for no read yet
	case n.replacement.pending.Load() || s.Behind > 0 || s.Lossy > 0:
		return "catching-up" // it takes writes; what is behind counts for no read
	}
	return "ready"
}

// everybody asks all members of the ring and of gossip, each for itself.
func (n *Node) everybody(ctx context.Context, r *ring.Record) []api.MemberStatus {
	view := n.members.View()
	var list []api.MemberStatus
	add := func(id ring.NodeID, name, zone string) {
		m := api.MemberStatus{Name: name, ID: id.String(), Zone: zone, State: "unreachable", Problems: []string{}, Reachable: n.kv.Reachable(id)}
		if p := view.Peer(id); p != nil {
			m.Name, m.Zone, m.Address, m.Gossip = p.Name, p.Zone, p.RPCAddr, p.GossipAddr
			if why := foreignProtocol(p); why != "" {
				m.Problems = append(m.Problems, why)
			}
		}
		if r != nil {
			m.Homes, m.Keeper = r.HomeCount(id), r.IsKeeper(id)
			inRing(&m, r, id)
			if m.Membership == ring.Lost.String() {
				m.State = "lost"
				m.Problems = append(m.Problems, lostProblem(&m))
			} else if r.Founded() && !m.Reachable {
				m.Problems = append(m.Problems, n.missed(r, id)...)
			}
			if why := apart(r, id); why != "" && !m.Reachable {
				m.Problems = append(m.Problems, why)
			}
		}
		list = append(list, m)
	}
	if r != nil {
		for _, m := range r.Members {
			add(m.ID, m.Name, m.Zone)
		}
	}
	for _, p := range view.Peers {
		if joining(&p, r) {
			add(p.ID, p.Name, p.Zone)
		}
	}
	wait := statusTimeout
	if end, ok := ctx.Deadline(); ok {
		// Who does not answer must not take the time in which we do.
		wait = min(wait, time.Until(end)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var asked sync.WaitGroup
	for i := range list {
		asked.Go(func() { n.ask(ctx, view, r, &list[i]) })
	}
	asked.Wait()
	n.judgeClocks(list)
	return list
}

// missed says what nobody has while a member cannot be reached.
func (n *Node) missed(r *ring.Record, id ring.NodeID) []string {
	only := without(r, id, func(other ring.NodeID) bool { return n.kv.Reachable(other) && r.Member(other).State != ring.Lost })
	if only == 0 {
		return nil
	}
	return []string{fmt.Sprintf("cannot be reached, and no other home of %d of %d partitions can: their keys can be neither read nor written until one of their homes is back, with its disk", only, r.Partitions)}
}

// inRing fills in what the ring record says of a member's part.
func inRing(m *api.MemberStatus, r *ring.Record, id ring.NodeID) {
	if is := r.Member(id); is != nil {
		m.Membership = is.State.String()
	}
	for i := range r.Moves {
		switch id {
		case r.Moves[i].To:
			m.MovesIn++
		case r.Moves[i].From:
			m.MovesOut++
		}
	}
}

// lostProblem says what becomes of a lost member's slots.
func lostProblem(m *api.MemberStatus) string {
	if m.MovesOut > 0 {
		return fmt.Sprintf("was given up as lost; its %d slots are being given to the others", m.Homes)
	}
	return fmt.Sprintf("was given up as lost; its %d slots wait for a node that takes its place: "+
		"kith server --replace %s --join HOST:PORT, with an empty data directory; to give them to the others: kith remove %s", m.Homes, m.ID, m.ID)
}

// joining says that a peer is no member and may become one. Who was removed or
// replaced may look alive for a while, as where somebody else has its address.
func joining(p *gossip.Peer, r *ring.Record) bool {
	return p.Alive && (r == nil || r.Member(p.ID) == nil && !r.IsBanned(p.ID))
}

// ask lets a member tell about itself.
func (n *Node) ask(ctx context.Context, view *gossip.View, r *ring.Record, m *api.MemberStatus) {
	id, err := ring.ParseNodeID(m.ID)
	if err != nil {
		panic("node: our own text of an ID does not parse: " + err.Error())
	}
	if id == n.id {
		*m = n.self(r)
		return
	}
	p := view.Peer(id)
	if p == nil || !m.Reachable {
		return
	}
	resp, err := api.Status.Call(ctx, n.guard, rpc.Peer{ID: id, Addr: p.RPCAddr}, &api.StatusRequest{Local: true})
	if err != nil || len(resp.Members) != 1 || resp.Members[0].ID != m.ID {
		m.Reachable = n.kv.Reachable(id)
		m.Problems = append(m.Problems, "does not tell about itself")
		return
	}
	told := resp.Members[0]
	if r != nil {
		told.Homes, told.Keeper, told.Membership = m.Homes, m.Keeper, m.Membership
		told.MovesIn, told.MovesOut = m.MovesIn, m.MovesOut
	}
	if told.Problems == nil {
		told.Problems = []string{}
	}
	told.Reachable = true
	*m = told
}

// judgeClocks names members whose clock is off.
func (n *Node) judgeClocks(list []api.MemberStatus) {
	offsets := n.kv.ClockOffsets()
	for i := range list {
		id, err := ring.ParseNodeID(list[i].ID)
		if err != nil {
			continue
		}
		offset, ok := offsets[id]
		if !ok {
			continue
		}
		list[i].ClockOffset = offset.Seconds()
		if offset.Abs() > n.kv.SkewMax() {
			word := "ahead of"
			if offset < 0 {
				word = "behind"
			}
			list[i].Problems = append(list[i].Problems,
				fmt.Sprintf("clock is %v %s that of %s", offset.Abs().Round(time.Millisecond), word, n.name))
		}
	}
}

// notReady says why this node would not serve every key at quorum; empty if it
// would. A member that lacks something may serve most of its partitions already;
// here it counts for none.
func (n *Node) notReady(r *ring.Record, members []api.MemberStatus) string {
	switch {
	case r == nil:
		return n.notJoined()
	case !r.Founded():
		have, want := n.topology.Founding()
		return fmt.Sprintf("the cluster is being founded: %d of %d members are there", have, want)
	case r.Member(n.id) == nil:
		return "this node is not in the ring record yet"
	}
	if err := n.store.Health().Failed; err != nil {
		return "storage failed: " + err.Error()
	}
	if n.draining.Load() {
		return "this node is draining, and takes no new requests"
	}
	able, whole := map[ring.NodeID]bool{}, map[ring.NodeID]bool{}
	for i := range members {
		if id, err := ring.ParseNodeID(members[i].ID); err == nil {
			able[id] = n.kv.Reachable(id)
			whole[id] = able[id] && members[i].State == "ready"
		}
	}
	if short := shortOf(r, able); short > 0 {
		return fmt.Sprintf("%d of %d partitions have no quorum of reachable homes", short, r.Partitions)
	}
	if short := shortOf(r, whole); short > 0 {
		return fmt.Sprintf("%d of %d partitions have no quorum of homes that are ready; others take writes, and count for no read of what they lack", short, r.Partitions)
	}
	return ""
}

// shortOf counts the partitions of which fewer than a quorum of homes are among
// those.
func shortOf(r *ring.Record, homes map[ring.NodeID]bool) (short int) {
	for p := range ring.Partition(r.Partitions) {
		can, all := 0, r.Homes(p)
		for _, id := range all {
			if homes[id] {
				can++
			}
		}
		if can < len(all)/2+1 {
			short++
		}
	}
	return short
}
