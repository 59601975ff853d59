package topology

import (
	"fmt"
	"log/slog"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

// Disk is where the record and the acceptor's cell are kept.
type Disk interface {
	// Meta reads what SetMeta or Adopt stored; nil when there is none.
	Meta(name string) ([]byte, error)
	// SetMeta is durable when it returns.
	SetMeta(name string, value []byte) error
	// Adopt stores the ring record under the name "ring" and sets every
	// partition's fence, with all writes either before or after it, and drops
	// everything of some partitions. It is durable when it returns.
	Adopt(record []byte, fences func(p ring.Partition) uint64, partitions int, drops []ring.Partition) error
	// Strays lists those of some sorted partitions that have records, and are not
	// being dropped.
	Strays(among []ring.Partition) ([]ring.Partition, error)
	// Reopened is closed when the disk may show other data next than before.
	Reopened() <-chan struct{}
}

// Membership says who can be reached, and tells others about this node.
type Membership interface {
	// View is who is there now, as this node believes.
	View() *gossip.View
	// Changed is closed at the next change of the view. Get it before the view.
	Changed() <-chan struct{}
	// Announce has others know what this node holds.
	Announce(gossip.State)
}

// Config is what a Topology needs. What is marked optional may be zero.
type Config struct {
	// Self is this node, as it wants to stand in the record; its State is
	// not used.
	Self ring.Member
	// Cluster is the cluster's name. A record of another name is refused.
	Cluster string
	// Founder founds a cluster if the disk holds no record.
	Founder bool
	// Expect is how many members, this one included, the founder waits for;
	// at least Replicas. 0 is Replicas.
	Expect int
	// Replicas and Partitions are the founder's choice for the cluster; 0
	// is ring.ReplicasDefault and ring.PartitionsDefault.
	Replicas, Partitions int
	// Share says that this node takes its share of the slots when it becomes a
	// member; without it, it is on standby until somebody has it join.
	Share bool
	// Replace, optional, is the ID, or its first 8 digits or more, of a lost
	// member whose place this node takes.
	Replace string

	Disk       Disk
	Membership Membership
	Transport  rpc.Transport
	// Seed begins the generators of all chance here. Two lives of a node
	// have different ones.
	Seed uint64
	// Lost, optional, says that the disk has lost what it had synced, so
	// that it may have forgotten a vote; nil while it has not. A node whose
	// disk once did never votes again.
	Lost func() error
	// Foreign, optional, are the peers that the membership turned away
	// because they belong to another cluster.
	Foreign func() []gossip.Foreign
	// Reached, optional, says that requests to a member are answered; default
	// is what gossip says.
	Reached func(ring.NodeID) bool
	// Ready, optional, replaces the word that others are told of this
	// node's state, for instance "failed"; empty leaves it as it is.
	Ready  func() string
	Logger *slog.Logger // optional
}

func (c *Config) complete() error {
	if c.Replicas == 0 {
		c.Replicas = ring.ReplicasDefault
	}
	if c.Partitions == 0 {
		c.Partitions = ring.PartitionsDefault
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Lost == nil {
		c.Lost = func() error { return nil }
	}
	if c.Foreign == nil {
		c.Foreign = func() []gossip.Foreign { return nil }
	}
	if c.Reached == nil {
		c.Reached = func(ring.NodeID) bool { return true }
	}
	if c.Ready == nil {
		c.Ready = func() string { return "" }
	}
	if c.Self.ID.IsZero() || c.Disk == nil || c.Membership == nil || c.Transport == nil {
		return fmt.Errorf("topology: Self.ID, Disk, Membership and Transport are needed")
	}
	if !c.Founder {
		return nil
	}
	if c.Expect == 0 {
		c.Expect = c.Replicas
	}
	if c.Expect < c.Replicas || c.Expect > ring.MembersMax {
		return fmt.Errorf("found cluster %q with %d members: want at least as many as the %d replicas, at most %d",
			c.Cluster, c.Expect, c.Replicas, ring.MembersMax)
	}
	return nil
}
