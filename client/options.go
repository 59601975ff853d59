package client

import (
	"time"

	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// Defaults of the options, and bounds.
const (
	// TimeoutDefault bounds a call whose context has no deadline.
	TimeoutDefault = 5 * time.Second
	// ConnectionsDefault is how many connections a client keeps to a node.
	ConnectionsDefault = 1
	// KeyMax is the most bytes of a key; a key has at least one.
	KeyMax = 4096
	// ValueMax is the most bytes of a value that any cluster can be set to
	// take. A cluster's own bound is 1 MiB by default.
	ValueMax = 16 << 20
)

// An Option changes how a Client works. Options are given to Dial.
type Option func(*config)

type config struct {
	timeout     time.Duration
	connections int
	transport   rpc.Transport
	direct      bool
	zone        string
}

// WithTimeout bounds every call whose context has no deadline of its own.
// The default is TimeoutDefault; zero or less means the default.
func WithTimeout(d time.Duration) Option {
	return func(c *config) {
		if d > 0 {
			c.timeout = d
		}
	}
}

// WithConnections sets how many connections are kept to each node, at least
// one. One carries many requests at once; more of them help a program that
// has many processors to spare.
func WithConnections(n int) Option {
	return func(c *config) { c.connections = max(n, 1) }
}

// WithTransport sends requests by t instead of by TCP: for a network of one's
// own, such as a simulated one. Close does not close t.
func WithTransport(t rpc.Transport) Option {
	return func(c *config) { c.transport = t }
}

// Direct sends every request to the addresses that were given to Dial, in
// their order, and to no other node. It is for asking one certain node, which
// then coordinates whether it is a home of the key or not.
func Direct() Option {
	return func(c *config) { c.direct = true }
}

// WithZone says which zone the client is in, of those that servers are given: its nodes
// are asked first, and LocalQuorum is of the homes there. Without it, or with an empty
// zone, any node is asked, and LocalQuorum is of the homes in the zone of the node that
// coordinates the call.
func WithZone(zone string) Option {
	return func(c *config) { c.zone = zone }
}

// A Level says how many homes must answer: One, Quorum, All, or a number by R
// or W; or in which zones: LocalQuorum, EachQuorum. A Level is a CallOption: for reads
// it is the R, for writes the W. Without one, calls ask for a quorum.
//
// A read sees every write that was acknowledged before it began, if their levels are one
// of these pairs, in either order:
//
//	Quorum       Quorum, EachQuorum or All
//	EachQuorum   Quorum, EachQuorum, All, or LocalQuorum of any zone with homes
//	LocalQuorum  LocalQuorum of the same zone, EachQuorum or All
//	All          anything
//	n homes      m homes, if n+m is more than N
//
// With other pairs it may miss one. While a zone loses its last home, or after it has,
// LocalQuorum of that zone is refused, and what was written at it before may be missed
// by reads at EachQuorum until repair has spread it.
type Level api.Level

// Levels with a name.
const (
	// One home is enough. Such a read may miss an acknowledged write.
	One = Level(api.One)
	// Quorum is more than half of the homes. Quorum reads see every quorum
	// write that was acknowledged before.
	Quorum = Level(api.Quorum)
	// All homes. One home that is away refuses the call.
	All = Level(api.All)
	// LocalQuorum is more than half of the homes in the caller's zone: see WithZone. No
	// other zone is waited for. Where the zone has no home of the key, the call is
	// refused.
	LocalQuorum = Level(api.LocalQuorum)
	// EachQuorum is more than half of the homes in each zone that has any: reads at
	// LocalQuorum see such a write in every zone.
	EachQuorum = Level(api.EachQuorum)
)

// R asks for exactly n homes to answer a read.
func R(n int) Level { return count(n) }

// W asks for exactly n homes to have a write on disk before it is done.
func W(n int) Level { return count(n) }

// count maps numbers that can be no count of homes to one that every cluster
// refuses and that is not the number of a named level.
func count(n int) Level {
	if n < 1 || n > int(levelImpossible) {
		return levelImpossible
	}
	return Level(n)
}

const levelImpossible = Level(200)

// A CallOption changes one call.
type CallOption interface{ apply(*call) }

// call is the options of one call.
type call struct {
	level    Level
	context  Context
	keysOnly bool
	life     life
	sloppy   bool
}

// life is how long a value can be read: a TTL, or until when, or for ever.
type life struct {
	ttl     time.Duration
	expires time.Time
	hasTTL  bool
}

func (l Level) apply(c *call) { c.level = l }

// WithContext makes a write replace exactly what the read saw that returned
// the context: siblings written meanwhile by others survive beside it.
// Without one, a write replaces whatever its coordinator holds. Reads and
// scans ignore it.
func WithContext(token Context) CallOption { return withContext(token) }

type withContext Context

func (t withContext) apply(c *call) { c.context = Context(t) }

// TTLMax is the longest TTL: 100 years.
const TTLMax = api.TTLMax * time.Millisecond

// WithTTL lets a put's value be read for d only, counted from the write; then the
// key reads as if it had been deleted. It is rounded up to milliseconds; less than
// one or more than TTLMax is refused, and so is a delete with a TTL. Reads ignore
// it. Of WithTTL and WithExpiry the last one counts.
func WithTTL(d time.Duration) CallOption { return withLife{ttl: d, hasTTL: true} }

// WithExpiry lets a put's value be read until t, by the cluster's clocks and to
// the millisecond. The time may have passed: then the key reads as absent at once,
// which is what it means to restore a value that has expired. The zero time is
// never. What was said of WithTTL holds.
func WithExpiry(t time.Time) CallOption { return withLife{expires: t} }

type withLife life

func (l withLife) apply(c *call) { c.life = life(l) }

// Sloppy lets a write be done also where too few homes of the key can be reached:
// members that keep it for them until they are back are counted for W, and the
// Receipt says so. Until then a read at quorum may miss such a write. At least one
// home must be reached. Reads ignore it, and levels in zones refuse it.
func Sloppy() CallOption { return sloppy{} }

type sloppy struct{}

func (sloppy) apply(c *call) { c.sloppy = true }

// KeysOnly makes a scan leave out the values.
func KeysOnly() CallOption { return keysOnly{} }

type keysOnly struct{}

func (keysOnly) apply(c *call) { c.keysOnly = true }

func callOf(opts []CallOption) call {
	var c call
	for _, o := range opts {
		o.apply(&c)
	}
	return c
}
