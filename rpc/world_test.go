package rpc_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
)

// note is a message for reflection, number one for itself.
type note struct {
	Text  string
	Lines [][]byte
}

type number struct{ N uint64 }

func (m *number) AppendWire(b []byte) []byte { return wire.AppendUint(wire.AppendArray(b, 1), m.N) }

func (m *number) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.N = s.Uint()
	return s.End()
}

// raw is a body as it stands.
type raw []byte

func (m raw) AppendWire(b []byte) []byte { return append(b, m...) }

const (
	double rpc.Route[number, number] = "test.double"
	notes  rpc.Route[note, note]     = "test.notes"
)

// world is one server, what it logs, and the numbers that it was asked for.
type world struct {
	*rpc.Server
	mux  *rpc.Mux
	peer rpc.Peer
	log  *lines
	seen sync.Map
}

type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.b.Bytes(), []byte("\n"))
}

// lasting gives an address where a server can be started again: kernels give its
// port to nobody who has no wish, so that it stays free meanwhile.
func lasting(t *testing.T) string {
	t.Helper()
	for range 100 {
		if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 10000+rand.IntN(1000))); err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port from 10000 to 10999 is free")
	return ""
}

func start(t *testing.T, addr string, cfg rpc.TCPConfig) *world {
	t.Helper()
	w := &world{mux: rpc.NewMux(rpc.MuxConfig{}), log: &lines{}}
	double.HandleInline(w.mux, rpc.ClassClient, func(c *rpc.Call, req *number) {
		w.seen.Store(req.N, true)
		c.Reply(&number{N: 2 * req.N})
	})
	notes.HandleInline(w.mux, rpc.ClassClient, func(c *rpc.Call, req *note) { c.Reply(req) })
	cfg.Mux = w.mux
	cfg.Self.ID = ring.NodeID{1}
	cfg.Logger = slog.New(slog.NewTextHandler(w.log, nil))
	var err error
	if w.Server, err = rpc.Listen(addr, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); w.mux.Close() })
	w.peer = rpc.Peer{ID: ring.NodeID{1}, Addr: w.Addr()}
	return w
}

func newClient(t *testing.T, cfg rpc.TCPConfig) *rpc.Client {
	c := rpc.NewClient(cfg)
	t.Cleanup(c.Close)
	return c
}

func ask(c rpc.Transport, to rpc.Peer, n uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	resp, err := double.Call(ctx, c, to, &number{N: n})
	if err == nil && resp.N != 2*n {
		err = fmt.Errorf("twice %d is %d", n, resp.N)
	}
	return err
}

// bystander asks all the time until the test ends, and must see no error.
func bystander(t *testing.T, w *world) (asked *atomic.Int64) {
	c := newClient(t, rpc.TCPConfig{})
	stop, ended := make(chan struct{}), make(chan struct{})
	asked = &atomic.Int64{}
	go func() {
		defer close(ended)
		for n := uint64(1 << 40); ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := ask(c, w.peer, n); err != nil {
				t.Errorf("a bystander sees: %v", err)
				return
			}
			asked.Add(1)
		}
	}()
	t.Cleanup(func() { close(stop); <-ended })
	waitFor(t, "the bystander's first answer", func() bool { return asked.Load() > 0 })
	return asked
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: waited in vain", what)
		}
	}
}

// between listens for connections that pass carries to an address, each beside the
// others, until both of its ends are closed.
func between(t *testing.T, to string, pass func(in, out net.Conn)) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				out, err := net.Dial("tcp", to)
				if err != nil {
					_ = in.Close()
					return
				}
				pass(in, out)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	return l
}

// cutter is a proxy whose connections break after so many bytes one way.
type cutter struct {
	net.Listener
	up, down atomic.Int64 // bytes that pass; negative is no bound
	reset    atomic.Bool  // break with a reset
}

func newCutter(t *testing.T, to string) *cutter {
	c := &cutter{}
	c.up.Store(-1)
	c.down.Store(-1)
	c.Listener = between(t, to, c.pass)
	return c
}

func (c *cutter) pass(in, out net.Conn) {
	ended := make(chan struct{}, 2)
	copyN := func(to, from net.Conn, n int64) {
		if n >= 0 {
			_, _ = io.CopyN(to, from, n)
		} else {
			_, _ = io.Copy(to, from)
		}
		ended <- struct{}{}
	}
	go copyN(out, in, c.up.Load())
	go copyN(in, out, c.down.Load())
	<-ended
	if c.reset.Load() {
		_ = in.(*net.TCPConn).SetLinger(0)
		_ = out.(*net.TCPConn).SetLinger(0)
	}
	_ = in.Close()
	_ = out.Close()
	<-ended
}
