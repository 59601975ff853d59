package rpc_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
)

// A connection that breaks at any byte: a request that is said not to be sent
// was not served, one that is answered was, and the next connection works.
func TestFault12_ConnectionBreaksAtAnyByte(t *testing.T) {
	w := start(t, "127.0.0.1:0", rpc.TCPConfig{})
	proxy := newCutter(t, w.Addr())
	to := rpc.Peer{ID: w.peer.ID, Addr: proxy.Addr().String()}
	n := uint64(0)
	outcomes := map[string]int{}
	try := func(up, down int64) {
		proxy.up.Store(up)
		proxy.down.Store(down)
		proxy.reset.Store(n%2 == 0)
		c := rpc.NewClient(rpc.TCPConfig{})
		defer c.Close()
		for range 2 {
			n++
			err := ask(c, to, n)
			_, served := w.seen.Load(n)
			switch {
			case err == nil && served:
				outcomes["done"]++
			case errors.Is(err, rpc.ErrLost) && !rpc.NotSent(err):
				outcomes["lost"]++
			case rpc.NotSent(err) && !served:
				outcomes["not sent"]++
			default:
				t.Errorf("cut at %d/%d: served %v, NotSent %v: %v", up, down, served, rpc.NotSent(err), err)
			}
		}
		proxy.up.Store(-1)
		proxy.down.Store(-1)
		n++
		waitFor(t, "a new connection", func() bool { return ask(c, to, n) == nil })
	}
	for at := int64(0); at < 210; at += 2 {
		try(at, -1)
		try(-1, at)
	}
	if outcomes["done"] == 0 || outcomes["lost"] == 0 || outcomes["not sent"] == 0 {
		t.Errorf("not all outcomes were seen: %v", outcomes)
	}
}

func TestFault16_StrangersAreTurnedAwayQuietly(t *testing.T) {
	w := start(t, "127.0.0.1:0", rpc.TCPConfig{})
	asked := bystander(t, w)
	before := asked.Load()
	for i := range 60 {
		conn, err := net.Dial("tcp", w.Addr())
		if err != nil {
			t.Fatal(err)
		}
		switch i % 4 {
		case 0:
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: kith\r\n\r\n")
		case 1:
			if err := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
				t.Error("TLS was spoken")
			}
		case 2:
			_, _ = conn.Write(bytes.Repeat([]byte{0xff}, 100<<10))
		case 3: // a scanner that hangs up
			_ = conn.Close()
			continue
		}
		if answer, _ := io.ReadAll(conn); len(answer) > 0 {
			t.Errorf("a stranger was told %q", answer)
		}
		_ = conn.Close()
	}
	waitFor(t, "all are turned away", func() bool { return w.Refused() >= 60 })
	if n := w.log.count(); n != 1 {
		t.Errorf("%d log lines, want 1", n)
	}
	waitFor(t, "the bystander goes on", func() bool { return asked.Load() > before+50 })
}

// The damages of RELIABILITY's bad frames, each on a connection that has shaken
// hands: the connection ends, nothing is allocated for claims, others go on.
func TestFault62_BadFramesEndTheirConnection(t *testing.T) {
	w := start(t, "127.0.0.1:0", rpc.TCPConfig{})
	bystander(t, w)
	for name, bad := range map[string][]byte{
		"random":        []byte("\x00\x00\x00\x20 these are thirty-two random bytes"),
		"4 GiB":         {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"empty":         {0, 0, 0, 0, 0, 0, 0, 0},
		"wrong crc":     {0, 0, 0, 13, 1, 2, 3, 4, 1, 0, 0, 0, 0, 0, 0, 0, 1},
		"another magic": []byte("KITHRPC\n again and again and again"),
	} {
		conn := shakenHands(t, w)
		if _, err := conn.Write(bad); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if rest, err := io.ReadAll(conn); len(rest) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %d bytes, %v", name, len(rest), err)
		}
		_ = conn.Close()
	}
	waitFor(t, "the connections end", func() bool { return w.Conns() == 1 })
}

// shakenHands is a connection of which we can write every byte: the handshake
// of a real client is played back to the server.
func shakenHands(t *testing.T, w *world) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := rpc.NewClient(rpc.TCPConfig{})
	defer c.Close()
	double.Send(c, rpc.Peer{Addr: l.Addr().String()}, &number{}, time.Now().Add(time.Minute), rpc.CompleteFunc(func([]byte, error) {}))
	from, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	block := make([]byte, 4096)
	n, err := from.Read(block)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", w.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(block[:n]); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(block); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestFault24_ClaimsDoNotGrowMemory(t *testing.T) {
	w := start(t, "127.0.0.1:0", rpc.TCPConfig{})
	c := newClient(t, rpc.TCPConfig{})
	if err := ask(c, w.peer, 1); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	peak := before.HeapSys
	for range 6 {
		for name, body := range map[string]raw{
			"array of 50 million":           {0xdd, 0x02, 0xfa, 0xf0, 0x80},
			"field of 50 million":           {0x92, 0xa1, 'x', 0xdd, 0x02, 0xfa, 0xf0, 0x80},
			"text of 2 GiB":                 {0x92, 0xdb, 0x7f, 0xff, 0xff, 0xff},
			"bytes of 2 GiB":                {0x92, 0xa0, 0x91, 0xc6, 0x7f, 0xff, 0xff, 0xff},
			"map of 67 million":             {0xdf, 4, 0, 0, 0},
			"2 MB of arrays":                bytes.Repeat([]byte{0x91}, 2<<20),
			"2 MB of arrays in a new field": append([]byte{0x93, 0xa0, 0x90}, bytes.Repeat([]byte{0x91}, 2<<20)...),
		} {
			outcome := make(chan error, 1)
			c.Send(w.peer, string(notes), body, time.Now().Add(10*time.Second), rpc.CompleteFunc(func(_ []byte, err error) { outcome <- err }))
			if err := <-outcome; !errors.Is(err, wire.ErrMalformed) || !rpc.NotSent(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		conn := shakenHands(t, w)
		_, _ = conn.Write([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1})
		_, _ = io.ReadAll(conn)
		_ = conn.Close()
		conn = shakenHands(t, w) // a permitted claim that never comes true
		_, _ = conn.Write([]byte{0x01, 0x40, 0, 0, 0, 0, 0, 0, 1})
		defer conn.Close()
		runtime.ReadMemStats(&after)
		peak = max(peak, after.HeapSys)
	}
	if grown := peak - before.HeapSys; grown > 64<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	if err := ask(c, w.peer, 2); err != nil {
		t.Error(err)
	}
}

// In a process that may have 256 descriptors, a flood of connections leaves
// enough for the process's own files, and those who are connected go on.
func TestFault25_DescriptorLimit(t *testing.T) {
	const variable = "KITH_TEST_DESCRIPTORS"
	if os.Getenv(variable) != "" {
		serveFew(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestFault25_DescriptorLimit$")
	cmd.Env = append(os.Environ(), variable+"=256")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// serveFew is the process with few descriptors. The flood comes from itself, so
// that half of its descriptors are the flood's: it meets both the server's own
// bound and the system's.
func serveFew(t *testing.T) {
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 256, Max: 256}); err != nil {
		t.Fatal(err)
	}
	w := start(t, "127.0.0.1:0", rpc.TCPConfig{})
	asked := bystander(t, w)
	var flood []net.Conn
	for range 500 {
		conn, err := net.Dial("tcp", w.Addr())
		if err != nil {
			break // no descriptor is left for us
		}
		flood = append(flood, conn)
	}
	if len(flood) < 100 {
		t.Fatalf("a flood of %d connections only", len(flood))
	}
	before := asked.Load()
	waitFor(t, "the bystander goes on", func() bool { return asked.Load() > before+20 })
	_ = flood[0].Close()
	_ = flood[1].Close()
	waitFor(t, "the server has refused or released what we need", func() bool {
		f, err := os.CreateTemp(t.TempDir(), "own")
		if err == nil {
			_ = f.Close()
		}
		return err == nil
	})
	for _, conn := range flood {
		_ = conn.Close()
	}
	late := newClient(t, rpc.TCPConfig{})
	n := uint64(5)
	waitFor(t, "newcomers are served again", func() bool { n++; return ask(late, w.peer, n) == nil })
}

func TestFault26_PanicFailsItsRequestOnly(t *testing.T) {
	w := start(t, "127.0.0.1:0", rpc.TCPConfig{})
	bad := rpc.Route[number, number]("test.panic")
	bad.HandleInline(w.mux, rpc.ClassClient, func(_ *rpc.Call, req *number) {
		var none []int
		_ = none[req.N]
	})
	asked := bystander(t, w)
	c := newClient(t, rpc.TCPConfig{})
	for n := range uint64(50) {
		_, err := bad.Call(t.Context(), c, w.peer, &number{N: n})
		if !errors.Is(err, rpc.ErrInternal) || rpc.NotSent(err) {
			t.Errorf("the panic of a handler gives %v", err)
		}
		if err := ask(c, w.peer, n); err != nil {
			t.Error(err)
		}
	}
	if got := w.mux.Counts().Panics; got != 50 || asked.Load() == 0 {
		t.Errorf("%d panics counted", got)
	}
}

func TestFault57_ConnectionsAreBounded(t *testing.T) {
	w := start(t, "127.0.0.1:0", rpc.TCPConfig{ConnsPerIPMax: 20})
	bystander(t, w)
	clients := make([]*rpc.Client, 40)
	served := 0
	for i := range clients {
		clients[i] = newClient(t, rpc.TCPConfig{})
		switch err := ask(clients[i], w.peer, uint64(i)); {
		case err == nil:
			served++
		case !rpc.NotSent(err) || !errors.Is(err, rpc.ErrUnreachable):
			t.Errorf("turned away: %v", err)
		}
	}
	if served != 19 || w.Conns() != 20 {
		t.Errorf("%d of 40 served beside the bystander, %d connections", served, w.Conns())
	}
	clients[0].Close()
	n := uint64(100)
	waitFor(t, "room again", func() bool { n++; return ask(clients[39], w.peer, n) == nil })
}

func TestClientReconnectsAfterARestart(t *testing.T) {
	w := start(t, lasting(t), rpc.TCPConfig{})
	c := newClient(t, rpc.TCPConfig{})
	for n := range uint64(3) {
		if err := ask(c, w.peer, 2*n); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if err := ask(c, w.peer, 2*n+1); err == nil {
			t.Error("a closed server answers")
		}
		w = start(t, w.peer.Addr, rpc.TCPConfig{})
		waitFor(t, "the new server answers", func() bool { return ask(c, w.peer, 100+n) == nil })
	}
}

func TestWrongClusterAndNodeAreRefused(t *testing.T) {
	x, y := ring.ClusterID{1}, ring.ClusterID{2}
	w := start(t, "127.0.0.1:0", rpc.TCPConfig{Cluster: func() ring.ClusterID { return x }})
	other := newClient(t, rpc.TCPConfig{Cluster: func() ring.ClusterID { return y }})
	if err := ask(other, w.peer, 1); !errors.Is(err, rpc.ErrWrongCluster) || !rpc.NotSent(err) || !strings.Contains(err.Error(), x.String()) {
		t.Errorf("another cluster's node: %v", err)
	}
	var learned atomic.Pointer[ring.ClusterID]
	c := newClient(t, rpc.TCPConfig{Connected: func(_ rpc.Peer, _ ring.NodeID, id ring.ClusterID) { learned.Store(&id) }})
	if err := ask(c, w.peer, 1); err != nil || learned.Load() == nil || *learned.Load() != x {
		t.Errorf("an unpinned client: %v", err)
	}
	if err := ask(c, rpc.Peer{ID: ring.NodeID{9}, Addr: w.Addr()}, 1); !errors.Is(err, rpc.ErrWrongNode) || !rpc.NotSent(err) {
		t.Errorf("another node was expected: %v", err)
	}
	if err := ask(c, rpc.Peer{Addr: w.Addr()}, 1); err != nil {
		t.Errorf("any node was fine: %v", err)
	}
}
