package network

import (
	"math/rand/v2"
	"time"
)

// Link says what happens to messages from one host to another.
type Link struct {
	// Latency of every message, and up to Jitter more. Jitter reorders.
	Latency, Jitter time.Duration
	// Loss is how often a packet is lost. TCP sends it again, later and
	// later, so that the message is late, not gone.
	Loss float64
	// Reset is how often a message finds its connection broken.
	Reset float64
	// Duplicate is how often a request arrives twice. TCP never does that:
	// it is for routes that promise to bear it.
	Duplicate float64
	// Late is how often a message is held up by up to LateBy.
	Late   float64
	LateBy time.Duration
	// Bandwidth in bytes a second; 0 is no bound.
	Bandwidth int
}

const (
	retransmitMin = 200 * time.Millisecond // the first wait of TCP for a lost packet
	retransmitMax = 10 * time.Second
	redial        = time.Second // between two attempts of one dial
)

// link is the way from one host to another, by name, whatever becomes of the
// hosts.
type link struct {
	net      *Network
	from, to string
	seed     uint64
	source   rand.PCG // set anew for each message: see about
	rng      *rand.Rand
	rank     uint64        // of what is scheduled for that message
	instant  time.Duration // of the last draws
	alike    []uint64      // what the messages of that instant look like
	own      *Link         // nil: the network's
	cut      time.Time     // since when; zero while it is whole
	muted    bool          // datagrams are lost
	held     []*packet     // waits for the link to be whole again
	free     time.Time     // when the bandwidth has carried all that was sent
}

// packet is a message on its way.
type packet struct {
	to      *Host
	conn    *conn // nil for a stream's
	size    int
	sum     uint32 // of its bytes
	note    string
	dropped bool
	deliver func() // with the network locked
}

// about begins the draws for one message. They come from what it is and from the
// time, not from how many were drawn before: the order in which several are sent
// at one instant is the scheduler's, and must not matter. bytes is a checksum of
// its bytes.
func (l *link) about(what string, size int, bytes uint32) {
	now := time.Since(l.net.began)
	if now != l.instant {
		l.instant, l.alike = now, l.alike[:0]
	}
	sum := fnv64(fnv64(fnvText(fnvBasis, what), uint64(bytes)<<32|uint64(uint32(size))), uint64(now))
	same := uint64(1)
	for _, other := range l.alike {
		if other == sum {
			same++
		}
	}
	l.alike = append(l.alike, sum)
	l.source.Seed(l.seed+same, sum)
	l.rank = fnv64(l.seed+same, sum)
}

// schedule fires f after a time, with the network locked. It stands before or after
// others of that instant by what the last draws were about.
func (l *link) schedule(after time.Duration, f func()) *event {
	return l.net.schedule(time.Now().Add(after), l.rank, f)
}

// FNV-1a, without the allocations of package hash: every message draws.
const (
	fnvBasis = 14695981039346656037
	fnvPrime = 1099511628211
)

// fnvText adds the bytes of a text.
func fnvText(sum uint64, text string) uint64 {
	for i := range len(text) {
		sum = (sum ^ uint64(text[i])) * fnvPrime
	}
	return sum
}

// fnv64 adds the eight bytes of v, the highest first.
func fnv64(sum, v uint64) uint64 {
	for shift := 56; shift >= 0; shift -= 8 {
		sum = (sum ^ v>>shift&0xff) * fnvPrime
	}
	return sum
}

func (l *link) shape() *Link {
	if l.own != nil {
		return l.own
	}
	return &l.net.cfg.Link
}

// delay draws how long a message takes.
func (l *link) delay(size int) time.Duration {
	d := l.pace()
	for wait := retransmitMin; l.chance(l.shape().Loss); wait = min(2*wait, retransmitMax) {
		d += wait
	}
	return d + l.linger(size)
}

// pace draws how long a packet takes that nothing holds up.
func (l *link) pace() time.Duration {
	s := l.shape()
	if s.Jitter > 0 {
		return s.Latency + time.Duration(l.rng.Int64N(int64(s.Jitter)))
	}
	return s.Latency
}

// linger draws how long a packet is held up on its way.
func (l *link) linger(size int) time.Duration {
	s := l.shape()
	var d time.Duration
	if l.chance(s.Late) && s.LateBy > 0 {
		d += time.Duration(l.rng.Int64N(int64(s.LateBy)))
	}
	if s.Bandwidth > 0 {
		now := time.Now()
		if l.free.Before(now) {
			l.free = now
		}
		l.free = l.free.Add(time.Duration(size) * time.Second / time.Duration(s.Bandwidth))
		d += l.free.Sub(now)
	}
	return d
}

// chance says whether something of probability p happens now; at most 0.95, so
// that what is lost always arrives in the end.
func (l *link) chance(p float64) bool { return p > 0 && l.rng.Float64() < min(p, 0.95) }

// transmit sends a packet on its way. The network is locked.
func (l *link) transmit(p *packet) {
	l.net.counts.Bytes += int64(p.size)
	l.about(p.note, p.size, p.sum)
	l.schedule(l.delay(p.size), func() { l.arrive(p) })
}

// arrive ends a packet's way: at its host, or before a cut.
func (l *link) arrive(p *packet) {
	switch {
	case p.dropped || p.to.dead || l.net.closed:
		l.net.counts.Dropped++
		l.net.trace("dropped", l.from, l.to, p.note, p.size)
		l.unknown(p)
	case !l.cut.IsZero():
		l.net.counts.Held++
		l.net.trace("held", l.from, l.to, p.note, p.size)
		l.held = append(l.held, p)
	case p.to.paused:
		l.net.counts.Held++
		p.to.postpone(fnvText(fnvText(fnv64(fnvBasis, uint64(p.sum)), p.note), l.from), func() { l.arrive(p) })
	case p.conn != nil && !p.conn.broken && l.resets(p.note, p.size):
		l.net.counts.Dropped++
		p.conn.lose("connection reset")
	default:
		p.deliver()
	}
}

// unknown answers a packet for a process that has ended, on a machine that runs:
// it knows no such connection. What its end had to say may still be on its way.
func (l *link) unknown(p *packet) {
	n, c := l.net, p.conn
	if n.closed || c == nil || c.broken || c.target != p.to || n.off[p.to.peer.Addr] || !l.cut.IsZero() {
		return
	}
	back := c.back()
	back.about("reset", p.size, p.sum)
	back.schedule(back.delay(0), func() {
		if back.cut.IsZero() {
			c.lose("connection reset by peer")
		}
	})
}

// resets says whether a message finds its connection broken.
func (l *link) resets(note string, size int) bool {
	if l.shape().Reset == 0 {
		return false
	}
	l.about("arrival of "+note, size, 0)
	return l.chance(l.shape().Reset)
}

// sever cuts the link. Connections over it break when they have stalled for too
// long.
func (l *link) sever() {
	if !l.cut.IsZero() {
		return
	}
	since := time.Now()
	l.cut = since
	l.net.version++
	l.net.trace("cut", l.from, l.to, "", 0)
	l.net.schedule(since.Add(l.net.cfg.StallTimeout), l.seed, func() {
		if l.cut.Equal(since) {
			l.net.stall(l.from, l.to)
			l.net.stall(l.to, l.from)
		}
	})
}

// mend makes the link whole. What was held is sent again, each packet when TCP
// tries next.
func (l *link) mend() {
	l.muted = false
	if l.cut.IsZero() {
		return
	}
	l.net.trace("healed", l.from, l.to, "", 0)
	l.cut = time.Time{}
	l.net.version++
	held := l.held
	l.held = nil
	for _, p := range held {
		l.about("again "+p.note, p.size, p.sum)
		l.schedule(time.Duration(l.rng.Int64N(int64(time.Second))), func() { l.arrive(p) })
	}
}

// SetLink shapes the link from one host to another, by their names.
func (n *Network) SetLink(from, to string, shape Link) {
	n.mu.Lock()
	defer n.unlock()
	n.link(from, to).own = &shape
}

// UnsetLink ends SetLink.
func (n *Network) UnsetLink(from, to string) {
	n.mu.Lock()
	defer n.unlock()
	n.link(from, to).own = nil
}

// SetDefault shapes all links that SetLink did not shape.
func (n *Network) SetDefault(shape Link) {
	n.mu.Lock()
	defer n.unlock()
	n.cfg.Link = shape
}

// Cut stops what one host sends to another; the other direction stays.
func (n *Network) Cut(from, to string) {
	n.mu.Lock()
	defer n.unlock()
	n.link(from, to).sever()
}

// Mend ends Cut.
func (n *Network) Mend(from, to string) {
	n.mu.Lock()
	defer n.unlock()
	n.link(from, to).mend()
}

// Partition cuts all links between hosts of different groups, both ways. Hosts
// in no group reach everyone, as do hosts that share a group.
func (n *Network) Partition(groups ...[]string) {
	n.mu.Lock()
	defer n.unlock()
	for i, group := range groups {
		for j, other := range groups {
			if i == j {
				continue
			}
			for _, a := range group {
				for _, b := range other {
					n.link(a, b).sever()
				}
			}
		}
	}
}

// Heal ends all cuts.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.unlock()
	for _, l := range n.sortedLinks() {
		l.mend()
	}
}

// Reaches says that a packet which one host sends now would arrive at another:
// both run, and the way is whole.
func (n *Network) Reaches(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, b := n.newest[from], n.newest[to]
	if a == nil || b == nil || a.dead || b.dead || a.paused || b.paused {
		return false
	}
	l := n.links[[2]string{from, to}]
	return l == nil || l.cut.IsZero()
}
