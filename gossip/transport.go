package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// packetMax is above everything that a member sends in one packet
	// (memberlist fills 1,400 bytes). A larger one is not ours, and 31 KB of
	// it can be made to inflate to 39 MiB.
	packetMax = 1536
	// streamMax bounds what one incoming stream may send: the state of some
	// thousand members.
	streamMax = 4 << 20
	// streamsMax bounds incoming streams at one time; memberlist gives each a
	// goroutine and has no bound of its own.
	streamsMax = 128
	// turnsMax bounds the incoming streams that are being read. memberlist takes
	// memory for what a stream claims to bring, 20 MiB or so, and to inflate it, before
	// that has come: a stranger has it for a hundred bytes.
	turnsMax = 16
	// turnWait is how long a stream may wait for its turn.
	turnWait = 5 * time.Second
	// dialMax is how long a dead address may hold up the joiner. memberlist's
	// ten seconds suit the exchange that follows, not the first handshake.
	dialMax = 3 * time.Second
	// bindTries: with port 0 the kernel picks a TCP port, and the same number
	// may be taken on UDP.
	bindTries = 16
)

// transport stands between memberlist and the network. It keeps what comes in
// within bounds, and at Close ends every stream and dial at once, so that no
// goroutine of the libraries stays behind.
type transport struct {
	inner memberlist.NodeAwareTransport
	// dial opens a stream; it ends early when the transport is shut down.
	dial func(addr memberlist.Address, timeout time.Duration) (net.Conn, error)
	// oversized is told of packets that were dropped for their size.
	oversized func(from net.Addr, size int)

	// bound is where the sockets listen; empty with a transport from outside.
	bound string
	// advertised is what others are told. Fixed by newTransport.
	ip   net.IP
	port int

	// deaf is until when nothing is let in, in nanoseconds; see judge.
	deaf atomic.Int64

	ctx     context.Context
	cancel  context.CancelFunc
	packets chan *memberlist.Packet
	streams chan net.Conn
	turns   chan struct{} // has one for each incoming stream that is being read
	wg      sync.WaitGroup

	mu       sync.Mutex // guards conns, incoming and closed
	conns    map[*stream]struct{}
	incoming int
	closed   bool
}

var (
	_ memberlist.NodeAwareTransport = (*transport)(nil)

	errTransportClosed = errors.New("gossip is closed")
	errStreamTooLong   = fmt.Errorf("stream longer than %d bytes", streamMax)
	errNoTurn          = fmt.Errorf("%d streams were being read for %v", turnsMax, turnWait)
)

// newTransport listens where cfg says, or wraps the transport that cfg brings.
func newTransport(cfg *Config, logger *log.Logger, oversized func(net.Addr, int)) (*transport, error) {
	ctx, cancel := context.WithCancel(context.Background())
	t := &transport{
		oversized: oversized,
		ctx:       ctx,
		cancel:    cancel,
		packets:   make(chan *memberlist.Packet),
		streams:   make(chan net.Conn),
		turns:     make(chan struct{}, turnsMax),
		conns:     make(map[*stream]struct{}),
	}
	var err error
	if cfg.Transport != nil {
		t.inner = cfg.Transport
		t.dial = t.inner.DialAddressTimeout
	} else {
		err = t.listen(cfg, logger)
	}
	if err == nil {
		err = t.advertise(cfg)
	}
	if err != nil {
		cancel()
		if t.inner != nil && cfg.Transport == nil {
			err = errors.Join(err, t.inner.Shutdown())
		}
		return nil, err
	}
	t.wg.Add(2)
	go t.pumpPackets()
	go t.pumpStreams()
	return t, nil
}

func (t *transport) listen(cfg *Config, logger *log.Logger) error {
	host, port, err := splitAddr(cfg.Bind)
	if err != nil {
		return fmt.Errorf("gossip: bind: %w", err)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	ips, err := cfg.resolve(t.ctx, host)
	if err != nil {
		return fmt.Errorf("gossip: bind: %w", err)
	}
	tries := 1
	if port == 0 {
		tries = bindTries
	}
	var inner *memberlist.NetTransport
	for range tries {
		inner, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{ips[0].String()},
			BindPort:  port,
			Logger:    logger,
		})
		if err == nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("gossip: listen at %s: %w", cfg.Bind, err)
	}
	t.inner = inner
	t.bound = joinAddr(ips[0], inner.GetAutoBindPort())
	dialer := &net.Dialer{}
	t.dial = func(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(t.ctx, timeout)
		defer cancel()
		return dialer.DialContext(ctx, "tcp", a.Addr)
	}
	return nil
}

// advertise settles the address that others are told, once: an address that
// changed under way would be a conflict with ourselves.
func (t *transport) advertise(cfg *Config) error {
	var text string
	var port int
	if cfg.Advertise != "" {
		host, p, err := splitAddr(cfg.Advertise)
		if err != nil {
			return fmt.Errorf("gossip: advertise: %w", err)
		}
		ips, err := cfg.resolve(t.ctx, host)
		if err != nil {
			return fmt.Errorf("gossip: advertise: %w", err)
		}
		if ips[0].IsUnspecified() {
			return fmt.Errorf("gossip: advertise %q: others cannot reach this address", cfg.Advertise)
		}
		text, port = ips[0].String(), p
		if port == 0 && t.bound != "" {
			if _, port, err = splitAddr(t.bound); err != nil {
				return fmt.Errorf("gossip: advertise: %w", err)
			}
		}
	}
	ip, port, err := t.inner.FinalAdvertiseAddr(text, port)
	if err != nil {
		return fmt.Errorf("gossip: no address to advertise: %w", err)
	}
	if ip.IsUnspecified() {
		return fmt.Errorf("gossip: listening at %q needs an address to advertise", cfg.Bind)
	}
	t.ip, t.port = shorten(ip), port
	return nil
}

// addr is the HOST:PORT that others are told.
func (t *transport) addr() string { return joinAddr(t.ip, t.port) }

// isSelf says that an address surely leads back to this node.
func (t *transport) isSelf(addr string) bool {
	return addr == t.addr() || addr == t.bound
}

// hush lets nothing in for a time; zero ends it. What this node dials itself
// goes on.
func (t *transport) hush(d time.Duration) { t.deaf.Store(time.Now().Add(d).UnixNano()) }

func (t *transport) isDeaf() bool { return time.Now().UnixNano() < t.deaf.Load() }

func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.ip, t.port, nil
}

func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.inner.WriteTo(b, addr)
}

func (t *transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return t.inner.WriteToAddress(b, addr)
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (t *transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	conn, err := t.dial(addr, min(timeout, dialMax))
	if err != nil {
		return nil, err
	}
	s := &stream{Conn: conn, owner: t}
	if !t.admit(s) {
		return nil, errors.Join(errTransportClosed, conn.Close())
	}
	return s, nil
}

func (t *transport) pumpPackets() {
	defer t.wg.Done()
	for {
		select {
		case p := <-t.inner.PacketCh():
			if t.isDeaf() {
				continue
			}
			if len(p.Buf) > packetMax {
				t.oversized(p.From, len(p.Buf))
				continue
			}
			select {
			case t.packets <- p:
			case <-t.ctx.Done():
			}
		case <-t.ctx.Done():
			return
		}
	}
}

func (t *transport) pumpStreams() {
	defer t.wg.Done()
	for {
		select {
		case conn := <-t.inner.StreamCh():
			s := &stream{Conn: conn, owner: t, incoming: true, left: streamMax}
			if t.isDeaf() || !t.admit(s) {
				drop(conn)
				continue
			}
			select {
			case t.streams <- s:
			case <-t.ctx.Done():
				drop(s)
			}
		case <-t.ctx.Done():
			return
		}
	}
}

// drop closes a stream that nobody will use: its error helps nobody either.
func drop(conn net.Conn) { _ = conn.Close() }

func (t *transport) admit(s *stream) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || s.incoming && t.incoming >= streamsMax {
		return false
	}
	if s.incoming {
		t.incoming++
	}
	t.conns[s] = struct{}{}
	return true
}

func (t *transport) release(s *stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.conns[s]; !ok {
		return
	}
	delete(t.conns, s)
	if s.incoming {
		t.incoming--
	}
	if s.turn {
		s.turn = false
		<-t.turns
	}
}

// await gives a stream its turn, which lasts until it is closed.
func (t *transport) await(s *stream) error {
	select {
	case t.turns <- struct{}{}:
	default:
		late := time.NewTimer(turnWait)
		defer late.Stop()
		select {
		case t.turns <- struct{}{}:
		case <-late.C:
			return errNoTurn
		case <-t.ctx.Done():
			return errTransportClosed
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, open := t.conns[s]; !open || t.closed {
		<-t.turns
		return net.ErrClosed
	}
	s.turn = true
	return nil
}

// Shutdown closes the sockets and every open stream, and waits for what
// listens. The pumps go on until the inner transport is down: its listeners
// may be waiting to hand something over.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	t.closed = true
	open := make([]*stream, 0, len(t.conns))
	for s := range t.conns {
		open = append(open, s)
	}
	t.mu.Unlock()
	for _, s := range open {
		drop(s)
	}
	drained := make(chan struct{})
	stop := make(chan struct{})
	t.cancel()
	t.wg.Wait()
	go t.drain(stop, drained)
	err := t.inner.Shutdown()
	close(stop)
	<-drained
	return err
}

// drain takes over from the pumps while the inner transport shuts down.
func (t *transport) drain(stop <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	for {
		select {
		case <-t.inner.PacketCh():
		case conn := <-t.inner.StreamCh():
			drop(conn)
		case <-stop:
			return
		}
	}
}

// stream is one connection, counted until it is closed.
type stream struct {
	net.Conn
	owner    *transport
	incoming bool
	left     int  // bytes that an incoming stream may still bring
	awaited  bool // it has had its turn: belongs to its reader
	turn     bool // it has it now: guarded by the owner's mu
}

func (s *stream) Read(b []byte) (int, error) {
	if !s.incoming {
		return s.Conn.Read(b)
	}
	if s.left <= 0 {
		return 0, errStreamTooLong
	}
	if len(b) > s.left {
		b = b[:s.left]
	}
	n, err := s.Conn.Read(b)
	s.left -= n
	if n > 0 && !s.awaited { // who says nothing holds nobody up
		s.awaited = true
		if err := s.owner.await(s); err != nil {
			return 0, err
		}
	}
	return n, err
}

func (s *stream) Close() error {
	s.owner.release(s)
	return s.Conn.Close()
}
