package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/kithdb/kith/ring"
)

const (
	// settleTime is how long a node must run, with nobody using its ID, until
	// it is an original also without having met anyone.
	settleTime = 30 * time.Second
	// verdictTime is how long "nobody is there" is believed; the death of the
	// old process takes the others some seconds to notice.
	verdictTime = time.Minute
	// rivalTime is how long a rival that was found is not asked again.
	rivalTime = 10 * time.Second
	// silentTries without an answer mean that nobody is there: one lost packet
	// must not.
	silentTries = 3
	// echoTries answers that may have been our own mean that the address leads
	// back to us. Between two of them lies a pause of chance: two processes
	// that ask each other must not stay in step.
	echoTries = 10
	echoPause = 200 * time.Millisecond
	// hushTime is how long a process stays deaf at most, so that the others
	// notice that its old address is dead: in a large cluster under load the
	// suspicion takes a minute.
	hushTime = 90 * time.Second
	// suspectsMax bounds the addresses that wait for a verdict.
	suspectsMax = 16
)

// judge finds out what it means that somebody announces our own ID from
// another address. It may be this node's past: it moved, and others have not
// noticed yet. Or another process runs with a copy of our data directory, and
// one of the two must stop: the one that is not settled among the others; of
// two equals the one that was started later.
type judge struct {
	self ring.NodeID
	addr string
	run  run
	log  *notices
	rng  *rand.Rand // of the loop alone

	// hush makes this process deaf for a time.
	hush func(time.Duration)
	// ping asks the process at an address whether it has our ID. Set by Start
	// before the loop runs.
	ping func(addr string) error
	// acks counts the pings that this process has answered.
	acks atomic.Uint64

	settled  atomic.Bool
	onSettle chan struct{} // a token: the tags must say so
	suspects chan suspect

	mu      sync.Mutex // guards what follows
	known   map[string]finding
	pending map[string]bool
	// contested is when our ID was last heard from elsewhere.
	contested time.Time
	// rival is where the process is that must stop and may not know it yet.
	rival string
}

// suspect is an address that announces our ID.
type suspect struct {
	addr    string
	run     run
	settled bool
}

var _ memberlist.PingDelegate = (*judge)(nil)

func newJudge(self ring.NodeID, addr string, r run, seed uint64, hush func(time.Duration), log *notices) *judge {
	return &judge{
		self: self, addr: addr, run: r, hush: hush, log: log,
		// Two processes with one seed must differ here.
		rng:      chance(seed^r.nonce, "judge"),
		onSettle: make(chan struct{}, 1),
		suspects: make(chan suspect, suspectsMax),
		known:    make(map[string]finding),
		pending:  make(map[string]bool),
	}
}

// suspect hears of our ID at another address, and whether the others think it
// dead there. Nil means that the address was asked just now and is not another
// process. It does not block: the guard calls it with memberlist's lock held.
func (j *judge) suspect(addr string, t tags, dead bool) error {
	now := time.Now()
	if dead {
		j.hush(0)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.contested = now
	f, ok := j.known[addr]
	if ok && f.found != another && now.Sub(f.at) < verdictTime {
		return nil
	}
	if recent := ok && now.Sub(f.at) < rivalTime; !recent && !j.pending[addr] {
		select {
		case j.suspects <- suspect{addr: addr, run: t.run, settled: t.settled}:
			j.pending[addr] = true
		default: // enough are waiting; this one will be heard again
		}
	}
	return fmt.Errorf("%w: %s announces it, this node is at %s", errContested, addr, j.addr)
}

// isContested says that some member still knows our ID at another address, as
// of a moment ago.
func (j *judge) isContested() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.contested.IsZero() && time.Since(j.contested) < verdictTime/2
}

// takeRival gives the rival that is to be told, once.
func (j *judge) takeRival() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	addr := j.rival
	j.rival = ""
	return addr
}

// undecided says that this process may have to stop: until that is known it
// takes nobody into its view.
func (j *judge) undecided() bool {
	if j.settled.Load() {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.pending) > 0
}

// settle makes this process the original of its ID.
func (j *judge) settle() {
	if !j.isContested() && j.settled.CompareAndSwap(false, true) {
		wake(j.onSettle)
	}
}

// loop hears one case after the other. A non-nil answer is fatal.
func (j *judge) loop(ctx context.Context, retry chan struct{}) error {
	age := time.NewTicker(settleTime)
	defer age.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-age.C:
			j.settle()
		case s := <-j.suspects:
			if err := j.hear(ctx, s, retry); err != nil {
				return err
			}
		}
	}
}

func (j *judge) hear(ctx context.Context, s suspect, retry chan struct{}) error {
	found := j.ask(ctx, s.addr)
	settled := j.settled.Load()
	wins := settled && !s.settled || settled == s.settled && j.run.before(s.run)
	if found == another && !wins {
		return fmt.Errorf("%w: %s is already running at %s: is this data directory a copy?", ErrDuplicate, j.self, s.addr)
	}
	j.note(s.addr, found, time.Now())
	defer wake(retry)
	switch {
	case found == another:
		j.log.Limited(slog.LevelWarn, "duplicate "+s.addr,
			"another process announces the ID of this node and is refused: is its data directory a copy?",
			"other", s.addr, "id", j.self.String())
	case found == ourselves && !settled:
		// Whoever pings the old address reaches us and finds nothing wrong
		// there, so our new address would be refused for ever.
		j.hush(hushTime)
		j.log.Info("the old address still leads to this node: silent until the others have noticed",
			"old", s.addr, "now", j.addr)
	default:
		j.log.Info("others still know this node at an old address", "old", s.addr, "now", j.addr)
	}
	return nil
}

// note keeps a verdict for the guard and the joiner.
func (j *judge) note(addr string, found verdict, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.pending, addr)
	if found == another {
		// The others keep our address from a rival that sits in our place
		// among them. It learns of us only if we go to it.
		j.rival = addr
	}
	for old, f := range j.known {
		if now.Sub(f.at) > verdictTime {
			delete(j.known, old)
		}
	}
	j.known[addr] = finding{found, now}
}

type finding struct {
	found verdict
	at    time.Time
}

// verdict is what was found at an address that announces our ID.
type verdict int

const (
	nobody verdict = iota
	ourselves
	another
)

// ask pings an address. An answer shows another process only if this one
// answered nobody meanwhile: an old address may lead back to us.
func (j *judge) ask(ctx context.Context, addr string) verdict {
	silent, echoes := 0, 0
	for silent < silentTries && ctx.Err() == nil {
		before := j.acks.Load()
		if j.ping(addr) != nil {
			silent++
			continue
		}
		if j.acks.Load() == before {
			return another
		}
		if echoes++; echoes == echoTries {
			return ourselves
		}
		select {
		case <-time.After(time.Duration(j.rng.Int64N(int64(echoPause)))):
		case <-ctx.Done():
		}
	}
	return nobody
}

// AckPayload is called for every ping that this process answers.
func (j *judge) AckPayload() []byte {
	j.acks.Add(1)
	return nil
}

// NotifyPingComplete is of no use here: round trips are RPC's to measure.
func (j *judge) NotifyPingComplete(*memberlist.Node, time.Duration, []byte) {}

// hostPort is an address for memberlist, which asks only for its text.
type hostPort string

func (a hostPort) Network() string { return "udp" }
func (a hostPort) String() string  { return string(a) }

var _ net.Addr = hostPort("")
