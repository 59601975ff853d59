package antientropy

import (
	"context"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// Engine is what a node asks its repair; *Repair satisfies it.
type Engine interface {
	// Counts says that this node's copies of the partition may count for
	// reads: since the start they were compared with those of every home
	// that could be reached, and lack nothing of theirs.
	Counts(p ring.Partition) bool
	// Status is for people.
	Status() api.RepairStatus
	// Audit starts an audit of a partition, or of all with api.AllPartitions,
	// or joins the one under way, and returns how far it is.
	Audit(partition int) (api.RepairResponse, error)
	// Audited is how far the latest audit is.
	Audited() api.RepairResponse
	// Run works until ctx is done.
	Run(ctx context.Context) error
}
