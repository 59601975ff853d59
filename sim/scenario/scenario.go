package scenario

import (
	"fmt"
	"time"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
)

// Bounds of what a text may ask for.
const (
	TextMax   = 64 << 10  // bytes of a text
	NodesMax  = 64        // of one cluster
	TimeMax   = time.Hour // of any time or length
	OpsMax    = 20_000    // that all loads together are expected to do
	KeysMax   = 1000      // of one load
	PutsMax   = 1000      // of one key, by all loads
	BlindMax  = 300       // of these, without a context: the oracle has to think of each pair
	ClientMax = 100       // clients of one load
	SizeMax   = 64 << 10  // bytes of a value
	wordMax   = 64        // bytes of a name, key or value
)

// Scenario is a parsed text.
type Scenario struct {
	// Name is the library's, or the file's; the text has none.
	Name string
	// Text is what was parsed, comments and all.
	Text string
	// Story is the leading comment, a line each, without its marks. Its first
	// line is the title.
	Story []string

	// Nodes of the cluster, and behind them the spare ones, which are machines
	// without a node until they join.
	Nodes      []string
	Spare      []string
	Zones      []Zone
	Replicas   int // 0 is 3, or as many as there are nodes
	Partitions int // 0 is 16
	Link       *network.Link
	Pace       sim.Pace
	Keys       []Placed
	Loads      []Load
	Steps      []Step
	Expects    []Expect
}

// Zone is where some of the nodes stand.
type Zone struct {
	Name  string
	Nodes []string // each in one zone at most
}

// Placed is a key that is at home on certain nodes.
type Placed struct {
	Line  int // of the text, from 1
	Key   string
	Homes []string // as many as a key has
}

// Title is the first line of the story.
func (s *Scenario) Title() string {
	if len(s.Story) == 0 {
		return s.Name
	}
	return s.Story[0]
}

// Load is clients that read and write.
type Load struct {
	Line int    // of the text, from 1
	Name string // what expectations call it
	// At are the nodes that its clients stand beside: a cut has them on the
	// side of the first one. None stand outside of all cuts.
	At []string
	// Direct has the nodes of At coordinate everything, instead of homes.
	Direct  bool
	Clients int           // 1 unless told
	Rate    float64       // operations a second of all clients together; 10
	Keys    int           // 20
	Prefix  string        // of the keys; k
	Reads   int           // percent; 50
	Size    int           // bytes of a value, at least; 0 is its name
	R, W    Level         // quorum
	Blind   bool          // puts carry no context
	TTL     time.Duration // of the values; 0 is for ever
	Sloppy  bool          // stand-ins count for homes
	Timeout time.Duration // of an operation; 2s
	From    time.Duration
	To      time.Duration // 0 is the end of the script
}

// Level is how many homes must answer: a number, or one of the words.
type Level int

// Levels with a name.
const (
	Quorum Level = -1
	All    Level = -2
	One    Level = -3
)

// String is the level as it is written.
func (l Level) String() string {
	switch l {
	case Quorum:
		return "quorum"
	case All:
		return "all"
	case One:
		return "one"
	}
	return fmt.Sprint(int(l))
}

// Homes is the level as a number of homes.
func (l Level) Homes(replicas int) int {
	switch l {
	case Quorum:
		return replicas/2 + 1
	case All:
		return replicas
	case One:
		return 1
	}
	return int(l)
}

// Step is one line of the script.
type Step struct {
	Line int // of the text, from 1
	// At is when it begins, if Timed; else it begins when the one before it
	// has ended.
	Timed bool
	At    time.Duration
	Do    Action
	// For is after how long it is undone; 0 is never.
	For time.Duration
}

// Action is what a step does.
type Action interface {
	words() string // as the format has it
}

// What steps do to the cluster.
type (
	// Cut stops messages between groups, both ways.
	Cut struct{ Groups [][]string }
	// OneWay stops what some nodes send to others.
	OneWay struct{ From, To []string }
	// Isolate cuts each node off from all others.
	Isolate struct{ Nodes []string }
	// Flap cuts and heals by turns, each for Every, until the step's For.
	Flap struct {
		Groups [][]string
		Every  time.Duration // between a cut and the heal after it
	}
	// Heal ends all cuts.
	Heal struct{}

	// Process ends, starts, stops or wakes processes.
	Process struct {
		Verb  string // stop, kill, powercut, lose, start, replace, pause or resume
		Nodes []string
		Tear  string // of a power cut: prefix, all, pages; empty is prefix
	}
	// Rolling restarts nodes one after the other.
	Rolling struct {
		Verb  string // stop, kill or powercut
		Nodes []string
		Down  time.Duration // of each
		Every time.Duration // from one to the next
	}

	// Link shapes the ways between nodes. With To it is one way or between
	// groups; without, between Nodes and all others; without Nodes it is every
	// link. A nil Shape is as in the beginning.
	Link struct {
		Nodes, To []string
		Both      bool // both ways between two groups
		Shape     *network.Link
	}

	// Disk lets a disk fail.
	Disk struct {
		Nodes []string
		Fault string // sync-error, full, slow, readonly, lies, damage or mend
		Times int    // of sync-error
		Kept  bool   // of sync-error: the bytes survive
		Room  int    // of full, bytes
		Delay time.Duration
		File  string // of damage: journal, table or manifest
	}
	// Clock sets wall clocks wrong; zero is right.
	Clock struct {
		Nodes  []string
		Offset time.Duration // ahead; behind if negative
	}
	// View makes a node believe that another is up or down; with Right all
	// views follow the network again.
	View struct {
		Right         bool
		Node, Subject string // who believes it, and of whom
		Up            bool
	}

	// Op is one operation through a node.
	Op struct {
		Verb    string // put, delete, get, local or read
		Node    string
		Key     string // or all, of read
		Value   string
		Level   Level
		After   string        // the name of the read whose context it carries
		As      string        // the name of this read
		TTL     time.Duration // of a put's value; 0 is for ever
		Sloppy  bool          // of a write: stand-ins count for homes
		Timeout time.Duration
		Want    Want
	}
	// Records looks for records of a key on all nodes that run: values, deletes
	// and what is kept for others.
	Records struct {
		Key  string
		Want string // some, or none
	}
	// Wait lets time pass.
	Wait struct{ Length time.Duration }
	// End is where loads end that have no end of their own.
	End struct{}
	// Note is told in the timeline.
	Note struct{ Text string }
)

// Want is what a single operation must give; the zero value is anything.
type Want struct {
	// Outcome is ok, refused, unknown or failed (either of the two).
	Outcome string
	// Values that a read must show, sorted; Absent is none.
	Values []string
	Absent bool
}

// Expect is an expectation.
type Expect struct {
	Line int // of the text, from 1
	What Expectation
}

// Expectation is what must hold.
type Expectation interface {
	words() string
}

// What can be expected.
type (
	// Operations expects something of all operations that it chooses.
	Operations struct {
		Kind  string   // reads, writes or operations
		Level *Level   // nil is any
		On    []string // the clients' nodes; none is any
		Load  string   // its name; empty is any
		Held  string   // held, lost: enough homes of the key on that side, or not; empty is any
		Verb  string   // succeed, are or take
		// Outcome of are: refused, unknown, failed or stale.
		Outcome  string
		How      string // always, never, sometimes or share
		Percent  int    // of share: at least
		Limit    time.Duration
		From, To time.Duration // To 0 is the end
	}
	// Count expects a number of operations.
	Count struct {
		Least int    // so many were done
		Kind  string // reads, writes or operations
	}
	// Promised expects one of the promises that always hold.
	Promised struct {
		Words string // of the promise
	}
	// Equal expects that copies are equal so long after the script and all
	// loads have ended.
	Equal struct{ Within time.Duration }
	// Named expects that some member says of another what is wrong with it.
	Named struct {
		Node string
		Not  bool   // nobody says it
		For  string // part of what is said
	}
	// Shown expects what a key shows in the end.
	Shown struct {
		Key    string
		Values []string // all siblings; none is absent
	}
)
