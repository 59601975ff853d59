package node

import (
	"context"
	"fmt"

	"github.com/kithdb/kith/node/mover"
	"github.com/kithdb/kith/ring"
)

// openMover makes what moves slots. Its chance is of another kind than that of repair,
// whose seed it shares.
func (n *Node) openMover(seed uint64) (err error) {
	n.mover, err = mover.New(mover.Config{
		Self:   n.id,
		Rings:  n.topology,
		Syncer: n.repair,
		Noted:  n.store.Pulled,
		Absent: func(id ring.NodeID) bool { return !n.kv.Reachable(id) },
		Owes:   n.owes,
		Bytes:  n.repair.SyncBytes,
		Served: func() uint64 { return n.kv.Served() },
		Seed:   seed,
		Logger: n.cfg.Logger,
		Progress: func() (all []mover.Progress) {
			for _, p := range n.repair.SyncStatus() {
				all = append(all, mover.Progress{Partition: p.Partition, Keys: p.Keys, Bytes: p.Bytes, Of: p.Of})
			}
			return all
		},
	})
	if err == nil {
		n.history, err = openHistory(n)
	}
	return err
}

// owes says what others must still get from this node before it may go for good, or what
// else they need it for.
func (n *Node) owes(ctx context.Context) string {
	if left := n.store.Dropping(); len(left) > 0 {
		return fmt.Sprintf("what it held of %d partitions must be compared with their homes first, which get what they lack", len(left))
	}
	if n.kv.Keeping() > 0 { // and only then what is on disk
		return "what it was given just now to keep for other homes must be brought there first"
	}
	if s := n.repair.Status(); s.StandIns > 0 {
		return fmt.Sprintf("%d records of %d bytes that it keeps for other homes must be brought there first", s.StandIns, s.StandInBytes)
	}
	if away, of := n.voteless(ctx); away != "" {
		return fmt.Sprintf("without it %d members would vote on the ring, and too many of them are not reached, or do not vote: %s: start what is down, or remove it (kith remove); have what does not vote replaced (kith replace)", of, away)
	}
	return ""
}

// voteless names those who are not reached, or do not vote, among the members that vote
// on the ring once this one has gone; empty if a majority of them does.
func (n *Node) voteless(ctx context.Context) (away string, of int) {
	r := n.topology.Current()
	next, err := r.WithoutMember(n.id)
	if err != nil {
		return "", 0 // it does not go by that record
	}
	return n.unvotable(ctx, r, next), len(next.Keepers)
}

// counting says which copies count for reads: those that repair has compared with other
// homes, and those of a target that takes reads over, which has a rule of its own: see
// ring.Record.Answers. Before that is met, reads are held back and not refused.
type counting struct{ n *Node }

// Counts implements kv.Repair. It does not block.
func (c counting) Counts(p ring.Partition) bool {
	if c.n.repair.Counts(p) {
		return true
	}
	r := c.n.topology.Current()
	if r == nil {
		return false
	}
	m := r.MoveOf(p)
	return m != nil && m.Phase == ring.PhaseReadNew && m.To == c.n.id
}
