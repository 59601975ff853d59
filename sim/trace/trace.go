// Package trace is what a simulated run leaves behind: who was there, what
// happened, what clients asked and were told, how the copies stood, and which
// expectations held. It is values only, so that whoever runs (scenarios, random
// schedules, real processes) and whoever shows (the timeline, JSON, the HTML
// report) need not know each other.
package trace

import "time"

// Run is one run. All times are since its beginning.
type Run struct {
	Title string
	// Text is the scenario as it was written; empty for a random schedule.
	Text string
	Seed uint64
	// World says what membership was: scripted, serf, or processes.
	World string
	// Replay is the command that runs it again.
	Replay string
	Length time.Duration // virtual
	Wall   time.Duration // real

	Nodes      []Node
	Replicas   int
	Partitions int

	Events  []Event
	Ops     []Op
	Samples []Sample
	Checks  []Check
	// Story tells what happened to one key, the one that broke a promise if
	// one did.
	Story Story
}

// Node is one machine.
type Node struct{ Name, Zone string }

// Event is something that happened to the cluster.
type Event struct {
	At time.Duration
	// Kind is one word: cut, heal, crash, powercut, start, stop, pause,
	// resume, clock, disk, link, isolate, partition, note, ready, expect.
	Kind string
	// Nodes are those that it happened to; for cuts, From and To are the
	// sides that don't hear each other.
	Nodes    []string
	From, To []string
	Note     string
}

// Outcome is what a client was told.
type Outcome string

// The outcomes.
const (
	Done    Outcome = "done"
	Refused Outcome = "refused" // of a write: no home has it
	Unknown Outcome = "unknown" // of a write: it may surface later
)

// Op is one operation of a client.
type Op struct {
	At, Took time.Duration // when it began, and how long it took
	Client   string
	Via      string // the node that coordinated, if known
	Side     string // the side of the cut that the client was on; empty without a cut
	Kind     string // get, put or delete
	Key      string
	Value    string // put, or shown; shortened
	Level    string // one, quorum, all or a number
	Context  bool   // a put that carried one
	Outcome  Outcome
	// Stale says that a read showed less than was acknowledged by then, and
	// Behind how long before it began that had been acknowledged.
	Stale  bool
	Behind time.Duration
	Note   string
}

// Sample is the state at one moment, taken at even distances.
type Sample struct {
	At    time.Duration
	Nodes []NodeSample // in the order of Run.Nodes
	// Differ is how many keys are not the same on all their homes.
	Differ int
	Keys   int // of all that was compared
}

// NodeSample is one machine at one moment.
type NodeSample struct {
	State string // up, down, paused, lossy, failed
	// Sees has, for every machine in the order of Run.Nodes, whether this one
	// believes it to be reachable.
	Sees   []bool
	Offset time.Duration // of its clock
}

// Check is an expectation or an invariant, and whether it held.
type Check struct {
	Name string
	OK   bool
	// Detail says what was found; always there when it did not hold.
	Detail string
	Line   int // of the scenario; 0 for what always holds
}

// Story is what happened to one key, a line an event.
type Story struct {
	Key   string
	Lines []string
}

// OK says that everything held.
func (r *Run) OK() bool {
	for _, c := range r.Checks {
		if !c.OK {
			return false
		}
	}
	return true
}
