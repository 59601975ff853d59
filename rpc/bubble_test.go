package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/ring"
)

// pipes is a network of one listener inside a bubble, whose connections can be
// held up.
type pipes struct {
	accepts chan net.Conn
	closed  chan struct{}
	once    sync.Once
	dials   atomic.Int64
	refuse  atomic.Bool
	hang    atomic.Bool   // dials take for ever
	stuck   chan struct{} // closed while data flows; see freeze
	mu      sync.Mutex
}

func newPipes() *pipes {
	p := &pipes{accepts: make(chan net.Conn), closed: make(chan struct{}), stuck: make(chan struct{})}
	close(p.stuck)
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepts:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(ctx context.Context, _ string) (net.Conn, error) {
	p.dials.Add(1)
	if p.refuse.Load() {
		return nil, errors.New("connection refused")
	}
	if p.hang.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ours, theirs := net.Pipe()
	select {
	case p.accepts <- &frozen{Conn: theirs, p: p}:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// freeze holds up all that the listener's side reads from now on.
func (p *pipes) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stuck = make(chan struct{})
}

func (p *pipes) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.stuck)
}

type frozen struct {
	net.Conn
	p *pipes
}

func (f *frozen) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	f.p.mu.Lock()
	stuck := f.p.stuck
	f.p.mu.Unlock()
	<-stuck
	return n, err
}

// bubble runs f with a server and a client that are connected by pipes.
func bubble(t *testing.T, cfg TCPConfig, mux *Mux, f func(t *testing.T, p *pipes, c *Client)) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		if mux == nil {
			mux = echoMux()
		}
		server := serve(p, TCPConfig{Self: Peer{ID: ring.NodeID{1}}, Mux: mux})
		client := newClient(cfg, p.dial)
		f(t, p, client)
		client.Close()
		server.Close()
	})
}

var server1 = Peer{ID: ring.NodeID{1}, Addr: "server:1"}

func callEcho(c Transport, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	_, err := echo.Call(ctx, c, server1, &blob{Data: []byte("x")})
	return err
}

func TestRequestsWaitForTheConnectionAndExpireUnsent(t *testing.T) {
	bubble(t, TCPConfig{}, nil, func(t *testing.T, p *pipes, c *Client) {
		p.hang.Store(true)
		began := time.Now()
		err := callEcho(c, time.Second)
		if !errors.Is(err, ErrNotSent) || !NotSent(err) {
			t.Errorf("nobody was reached: %v", err)
		}
		if waited := time.Since(began); waited < time.Second || waited > time.Second+50*time.Millisecond {
			t.Errorf("given up after %v", waited)
		}
	})
}

func TestFailedDialFailsRequestsAtOnceForAWhile(t *testing.T) {
	bubble(t, TCPConfig{}, nil, func(t *testing.T, p *pipes, c *Client) {
		p.refuse.Store(true)
		for range 1000 {
			if err := callEcho(c, time.Second); !errors.Is(err, ErrUnreachable) || !NotSent(err) {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if n := p.dials.Load(); n < 4 || n > 12 {
			t.Errorf("%d dials in a second", n)
		}
		p.refuse.Store(false)
		time.Sleep(backoffMax)
		if err := callEcho(c, time.Second); err != nil {
			t.Errorf("the server is back: %v", err)
		}
	})
}

// A peer that takes requests and answers none is given up, and asked anew.
func TestSilentConnectionIsReplaced(t *testing.T) {
	bubble(t, TCPConfig{}, nil, func(t *testing.T, p *pipes, c *Client) {
		if err := callEcho(c, time.Second); err != nil {
			t.Fatal(err)
		}
		p.freeze()
		defer p.thaw()
		for range 8 {
			switch err := callEcho(c, time.Second); {
			case errors.Is(err, ErrDeadline) && !NotSent(err):
			case (errors.Is(err, ErrNotSent) || errors.Is(err, ErrUnreachable)) && NotSent(err):
			default:
				t.Errorf("the peer is silent: %v, NotSent %v", err, NotSent(err))
			}
		}
		if err := callEcho(c, time.Second); !NotSent(err) {
			t.Errorf("the connection was to be replaced by now: %v", err)
		}
		if n := p.dials.Load(); n < 2 {
			t.Errorf("%d dials", n)
		}
	})
}

// What waits behind a peer that doesn't read is bounded, and what expires
// there never left.
func TestPeerThatDoesNotReadIsBounded(t *testing.T) {
	bubble(t, TCPConfig{InFlightMax: 1 << 20}, nil, func(t *testing.T, p *pipes, c *Client) {
		if err := callEcho(c, time.Second); err != nil {
			t.Fatal(err)
		}
		p.freeze()
		defer p.thaw()
		outcomes := make(chan error, 100)
		for range 100 {
			echo.Send(c, server1, &blob{Data: make([]byte, 60<<10)}, time.Now().Add(time.Second), CompleteFunc(func(_ []byte, err error) { outcomes <- err }))
		}
		count := map[string]int{}
		for range 100 {
			switch err := <-outcomes; {
			case errors.Is(err, ErrOverloaded) && NotSent(err):
				count["overloaded"]++
			case errors.Is(err, ErrNotSent) && NotSent(err):
				count["not sent"]++
			case errors.Is(err, ErrDeadline) && !NotSent(err):
				count["deadline"]++
			default:
				t.Error(err)
			}
		}
		if count["overloaded"] != 83 || count["not sent"] == 0 || count["deadline"] == 0 {
			t.Errorf("outcomes: %v", count)
		}
	})
}

// Requests that expired while they waited are not served later.
func TestTakenBackRequestsAreNotServed(t *testing.T) {
	var served atomic.Int64
	mux := NewMux(MuxConfig{})
	echo.HandleInline(mux, ClassClient, func(c *Call, req *blob) {
		served.Add(1)
		c.Reply(req)
	})
	bubble(t, TCPConfig{}, mux, func(t *testing.T, p *pipes, c *Client) {
		if err := callEcho(c, time.Second); err != nil {
			t.Fatal(err)
		}
		served.Store(0)
		p.freeze()
		var unsent, others int64
		outcomes := make(chan error, 500)
		for range 500 {
			echo.Send(c, server1, &blob{Data: make([]byte, 1000)}, time.Now().Add(time.Second), CompleteFunc(func(_ []byte, err error) { outcomes <- err }))
		}
		for range 500 {
			if NotSent(<-outcomes) {
				unsent++
			} else {
				others++
			}
		}
		p.thaw()
		if err := callEcho(c, time.Second); err != nil {
			t.Errorf("after the pause: %v", err)
		}
		if unsent == 0 || served.Load() > others+1 {
			t.Errorf("%d requests served; %d were said not to be sent, %d perhaps", served.Load(), unsent, others)
		}
	})
}

func TestCloseCompletesEverything(t *testing.T) {
	mux := NewMux(MuxConfig{})
	echo.HandleInline(mux, ClassClient, func(*Call, *blob) {})
	bubble(t, TCPConfig{}, mux, func(t *testing.T, p *pipes, c *Client) {
		outcomes := make(chan error, 2)
		done := CompleteFunc(func(_ []byte, err error) { outcomes <- err })
		echo.Send(c, server1, &blob{}, time.Now().Add(time.Minute), done)
		synctest.Wait()
		c.Close()
		if err := <-outcomes; !errors.Is(err, ErrLost) || !errors.Is(err, ErrClosed) || NotSent(err) {
			t.Errorf("in flight at Close: %v", err)
		}
		echo.Send(c, server1, &blob{}, time.Now().Add(time.Minute), done)
		if err := <-outcomes; !errors.Is(err, ErrNotSent) || !errors.Is(err, ErrClosed) || !NotSent(err) {
			t.Errorf("sent after Close: %v", err)
		}
	})
}

// The answers to what has arrived are still sent when the server closes.
func TestServerCloseAnswersWhatHasArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mux := NewMux(MuxConfig{})
		calls := make(chan *Call, 1)
		echo.HandleInline(mux, ClassClient, func(c *Call, _ *blob) { calls <- c })
		p := newPipes()
		server := serve(p, TCPConfig{Self: server1, Mux: mux})
		client := newClient(TCPConfig{}, p.dial)
		outcome := make(chan error, 1)
		go func() { outcome <- callEcho(client, time.Minute) }()
		call := <-calls
		go func() {
			time.Sleep(goodbyeTime / 2)
			call.Reply(&blob{})
		}()
		server.Close()
		if err := <-outcome; err != nil {
			t.Error(err)
		}
		client.Close()
	})
}

// Who says nothing, or one byte every second, is gone after the handshake's
// time; others are served meanwhile.
func TestFault57_SlowHandshakesAreCutOff(t *testing.T) {
	bubble(t, TCPConfig{}, nil, func(t *testing.T, p *pipes, c *Client) {
		block := appendHandshake(nil, &hello{protocols: Protocols{1, 1}})
		for drip := range 2 {
			conn, err := p.dial(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if drip == 1 {
				for _, b := range block {
					if _, err := conn.Write([]byte{b}); err != nil {
						break
					}
					time.Sleep(time.Second)
				}
			}
			if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, io.ErrClosedPipe) {
				t.Error(err)
			}
			if waited := time.Since(began); waited < handshakeTime || waited > handshakeTime+2*time.Second {
				t.Errorf("cut off after %v", waited)
			}
			if err := callEcho(c, time.Second); err != nil {
				t.Error(err)
			}
			_ = conn.Close()
		}
	})
}

// anybody lets every dialer in.
func anybody(*hello) error { return nil }

func TestHandshakeRefusalsNameBothSides(t *testing.T) {
	x, y := ring.ClusterID{0xaa}, ring.ClusterID{0xbb}
	a, b := ring.NodeID{0xcc}, ring.NodeID{0xdd}
	for _, c := range []struct {
		name         string
		dialer, them hello
		want         error
		words        []string
	}{
		{"same", hello{protocols: Protocols{1, 1}, cluster: x}, hello{protocols: Protocols{1, 1}, cluster: x}, nil, nil},
		{"dialer unpinned", hello{protocols: Protocols{1, 1}}, hello{protocols: Protocols{1, 1}, cluster: x}, nil, nil},
		{"listener without a cluster", hello{protocols: Protocols{1, 1}, cluster: x}, hello{protocols: Protocols{1, 1}}, nil, nil},
		{"clusters", hello{protocols: Protocols{1, 1}, cluster: x}, hello{protocols: Protocols{1, 1}, cluster: y}, ErrWrongCluster, []string{"aa0", "bb0"}},
		{"newer", hello{protocols: Protocols{1, 1}}, hello{protocols: Protocols{2, 7}}, ErrVersion, []string{"1 to 1", "2 to 7"}},
		{"older", hello{protocols: Protocols{3, 4}}, hello{protocols: Protocols{1, 2}}, ErrVersion, []string{"3 to 4", "1 to 2"}},
		{"overlap", hello{protocols: Protocols{1, 3}}, hello{protocols: Protocols{3, 4}}, nil, nil},
		{"another node", hello{protocols: Protocols{1, 1}, expected: a}, hello{protocols: Protocols{1, 1}, node: b}, ErrWrongNode, []string{"cc0", "dd0"}},
		{"the node", hello{protocols: Protocols{1, 1}, expected: a}, hello{protocols: Protocols{1, 1}, node: a}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			listened := make(chan error, 1)
			go func() {
				_, err := listenHandshake(theirs, &c.them, anybody)
				listened <- err
			}()
			_, dialed := dialHandshake(ours, &c.dialer, handshakeTime)
			for side, err := range map[string]error{"dialer": dialed, "listener": <-listened} {
				if (err == nil) != (c.want == nil) || !errors.Is(err, c.want) {
					t.Errorf("%s: %v, want %v", side, err, c.want)
				}
				for _, word := range c.words {
					if err != nil && !strings.Contains(err.Error(), word) {
						t.Errorf("%s: %q does not name %s", side, err, word)
					}
				}
			}
		})
	}
}

// A dialer that doesn't care is told by the listener.
func TestListenerRefusesOnItsOwn(t *testing.T) {
	ours, theirs := net.Pipe()
	go func() {
		_, _ = listenHandshake(theirs, &hello{protocols: Protocols{1, 1}, cluster: ring.ClusterID{1}}, anybody)
		_ = theirs.Close()
	}()
	if _, err := ours.Write(appendHandshake(nil, &hello{protocols: Protocols{1, 1}, cluster: ring.ClusterID{2}})); err != nil {
		t.Fatal(err)
	}
	answer, err := readHandshake(ours)
	if err != nil {
		t.Fatal(err)
	}
	if err := ParseError(answer.refusal); !errors.Is(err, ErrWrongCluster) || !NotSent(err) {
		t.Errorf("the refusal says %v", err)
	}
}

// A node that joins a cluster does its handshakes anew, without losing requests.
func TestJoiningAClusterRenewsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ours, theirs atomic.Pointer[ring.ClusterID]
		ours.Store(&ring.ClusterID{})
		theirs.Store(&ring.ClusterID{})
		calls := make(chan *Call, 1)
		mux := echoMux()
		echoHeld := Route[blob, blob]("test.held")
		echoHeld.HandleInline(mux, ClassClient, func(c *Call, _ *blob) { calls <- c })
		p := newPipes()
		server := serve(p, TCPConfig{Self: server1, Mux: mux, Cluster: func() ring.ClusterID { return *theirs.Load() }})
		client := newClient(TCPConfig{Cluster: func() ring.ClusterID { return *ours.Load() }}, p.dial)
		held := make(chan error, 1)
		echoHeld.Send(client, server1, &blob{}, time.Now().Add(time.Minute), CompleteFunc(func(_ []byte, err error) { held <- err }))
		call := <-calls
		ours.Store(&ring.ClusterID{1})
		if err := callEcho(client, time.Second); err != nil || p.dials.Load() != 2 {
			t.Errorf("%v, %d dials", err, p.dials.Load())
		}
		call.Reply(&blob{})
		if err := <-held; err != nil {
			t.Errorf("a request was lost: %v", err)
		}
		theirs.Store(&ring.ClusterID{2})
		if err := callEcho(client, time.Second); err == nil {
			t.Error("a node of another cluster answered")
		}
		synctest.Wait()
		if err := callEcho(client, time.Second); !errors.Is(err, ErrWrongCluster) || !NotSent(err) {
			t.Errorf("it is another cluster now: %v", err)
		}
		client.Close()
		server.Close()
	})
}
