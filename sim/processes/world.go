package processes

import (
	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
)

// Shape of every cluster, in both worlds: each set of homes is some partition's.
const (
	nodes      = 5
	replicas   = 3
	partitions = 64
)

// World is a cluster that a story can befall. Nodes are numbered from 0. Its
// methods are called from one goroutine; the clients that it makes from many.
type World interface {
	// Kind is what a trace says of the world: scripted or processes.
	Kind() string
	// Names are the nodes' names.
	Names() []string
	// Dial makes a client of some nodes, whose operations are kept in h. It
	// reaches every node that runs, whatever is cut. The caller closes it.
	Dial(h *sim.History, opts []client.Option, nodes ...int) (*sim.Client, error)
	// Cut stops what some nodes send to others: the other way stays open.
	Cut(from, to []int) error
	// Partition stops what two groups send to each other.
	Partition(a, b []int) error
	// Heal ends all cuts.
	Heal() error
	// Kill ends a process as kill -9 does, and Start starts it again.
	Kill(node int) error
	Start(node int) error
	// Pause stops a process as SIGSTOP does, and Resume ends that.
	Pause(node int) error
	Resume(node int) error
	// Log is what the nodes have said.
	Log() string
	// Close ends everything.
	Close() error
}
