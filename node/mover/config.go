package mover

import (
	"cmp"
	"context"
	"errors"
	"log/slog"

	"github.com/kithdb/kith/ring"
)

// Rings is the ring record on this node; *topology.Topology satisfies it.
type Rings interface {
	// Current is the newest record that this node holds durably; nil while it
	// belongs to no cluster.
	Current() *ring.Record
	// Changed is closed at the next change of Current.
	Changed() <-chan struct{}
	// Propose gets a change decided. It gives change a decided record, perhaps
	// several times, and returns the error of change as it is.
	Propose(ctx context.Context, change func(*ring.Record) (*ring.Record, error)) (*ring.Record, error)
}

// Syncer pulls whole partitions; *antientropy.Repair satisfies it.
type Syncer interface {
	// Sync returns nil once this node has noted durably that it has pulled the
	// partition from each of pull.From under the epoch pull.Since.
	Sync(ctx context.Context, pull ring.Pull) error
}

// Progress is how far the pull of one partition is.
type Progress struct {
	Partition ring.Partition
	// Keys and Bytes were pulled, Of is about how many keys there are; 0 is
	// unknown.
	Keys, Bytes, Of uint64
}

// Config is what a Mover works with. All fields are needed but for those with a
// default.
type Config struct {
	Self   ring.NodeID
	Rings  Rings
	Syncer Syncer
	// Noted is this node's note of a partition, from memory.
	Noted func(p ring.Partition) ring.Pulled
	// Absent says that requests to a member are not answered now.
	Absent func(id ring.NodeID) bool
	// Owes says what others must still get from this node before it may be
	// taken out of the record; empty for nothing. It may ask others.
	Owes func(ctx context.Context) string
	// Progress are the pulls under way, and Bytes is what was pulled since the
	// start, for people.
	Progress func() []Progress
	Bytes    func() uint64
	// Served counts the requests that this node has served, optional: beside them,
	// records are fewer.
	Served func() uint64
	// Seed begins the generator of chance here. Two lives of a node have
	// different ones.
	Seed   uint64
	Logger *slog.Logger // optional

	// Pace bounds the moves that are under way at once; default PaceDefault.
	Pace ring.Pace
	// Pulls is how many partitions this node pulls at once; default
	// PullsDefault.
	Pulls int
}

// PullsDefault is how many partitions a node pulls at once.
const PullsDefault = 8

// PaceDefault bounds the moves under way. How many bytes a second they take is up
// to the Syncer; this bounds how many partitions have one home more to write to.
var PaceDefault = ring.Pace{In: 64, Out: 64}

func (c *Config) complete() error {
	if c.Self.IsZero() || c.Rings == nil || c.Syncer == nil || c.Noted == nil || c.Absent == nil {
		return errors.New("mover: Self, Rings, Syncer, Noted and Absent are needed")
	}
	if c.Owes == nil {
		c.Owes = func(context.Context) string { return "" }
	}
	if c.Progress == nil {
		c.Progress = func() []Progress { return nil }
	}
	if c.Bytes == nil {
		c.Bytes = func() uint64 { return 0 }
	}
	if c.Served == nil {
		c.Served = func() uint64 { return 0 }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Pace == (ring.Pace{}) {
		c.Pace = PaceDefault
	}
	c.Pulls = cmp.Or(c.Pulls, PullsDefault)
	return nil
}
