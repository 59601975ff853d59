package gossip

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kithdb/kith/ring"
)

// TestMain looks for goroutines left behind. A probe of memberlist that waits
// for its answer outlives Close by a few seconds, so it waits for that.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		var err error
		for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
			if err = goleak.Find(); err == nil {
				break
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// nodeID gives node n the ID that starts with its number.
func nodeID(n byte) ring.NodeID {
	var id ring.NodeID
	id[0], id[15] = n, n
	return id
}

func clusterID(n byte) ring.ClusterID { return ring.ClusterID{0: 0xc0, 15: n} }

// memBook keeps a book in memory, as a disk would over a restart.
type memBook struct {
	mu      sync.Mutex
	entries []Entry
	saves   int
	fail    error
}

func (b *memBook) Load() ([]Entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.entries), nil
}

func (b *memBook) Save(entries []Entry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.saves++
	if b.fail != nil {
		return b.fail
	}
	b.entries = slices.Clone(entries)
	return nil
}

func (b *memBook) ids() []ring.NodeID {
	entries, _ := b.Load()
	var ids []ring.NodeID
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	return ids
}

// logText collects the lines of a log.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logText) lines(part string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []string
	for line := range strings.Lines(l.buf.String()) {
		if strings.Contains(line, part) {
			found = append(found, line)
		}
	}
	return found
}

func (l *logText) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// config is that of node n on real loopback sockets.
func config(n byte) Config {
	return Config{
		ID: nodeID(n), Name: fmt.Sprintf("n%d", n), Zone: "z",
		Bind: "127.0.0.1:0", RPCAddr: fmt.Sprintf("127.0.0.1:%d", 9000+int(n)),
		Cluster: "kith", Logger: new(logText).logger(),
		ProtocolMin: 1, ProtocolMax: 2, Seed: uint64(n),
	}
}

// memConfig is that of node n on a network in memory.
func memConfig(n *memNet, number byte, seeds ...byte) Config {
	cfg := config(number)
	cfg.Bind = ""
	cfg.Transport = n.host(number)
	for _, s := range seeds {
		cfg.Seeds = append(cfg.Seeds, memAddr(s))
	}
	return cfg
}

// lasting gives a port at which a node can be started again: kernels give it to
// nobody who has no wish, so that it stays free meanwhile.
func lasting(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprint("0.0.0.0:", 11000+rand.IntN(1000))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp", addr)
		if err == nil {
			u.Close()
		}
		l.Close()
		if err == nil {
			_, port, _ := strings.Cut(addr, ":")
			return port
		}
	}
	t.Fatal("no port from 11000 to 11999 is free")
	return ""
}

func start(t *testing.T, cfg Config) *Cluster {
	t.Helper()
	c, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, c) })
	return c
}

func closed(t *testing.T, c *Cluster) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// waitView waits until the view of c is as wanted.
func waitView(t *testing.T, c *Cluster, what string, limit time.Duration, want func(*View) bool) {
	t.Helper()
	timeout := time.After(limit)
	for {
		changed := c.Changed()
		if want(c.View()) {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("node %s: not within %v: %s\nview: %+v\njoin error: %v",
				c.cfg.ID.Short(), limit, what, c.View().Peers, c.JoinError())
		}
	}
}

// waitUntil waits for something that no channel tells.
func waitUntil(t *testing.T, what string, limit time.Duration, holds func() bool) {
	t.Helper()
	timeout := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

func aliveIDs(v *View) []ring.NodeID {
	var ids []ring.NodeID
	for _, p := range v.Peers {
		if p.Alive {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// sees waits until exactly these are alive in the view of c.
func sees(t *testing.T, c *Cluster, limit time.Duration, numbers ...byte) {
	t.Helper()
	var want []ring.NodeID
	for _, n := range numbers {
		want = append(want, nodeID(n))
	}
	slices.SortFunc(want, ring.NodeID.Compare)
	waitView(t, c, fmt.Sprintf("sees exactly %v alive", numbers), limit, func(v *View) bool {
		return slices.Equal(aliveIDs(v), want)
	})
}

// healthy fails the test if the node was told to stop.
func healthy(t *testing.T, c *Cluster) {
	t.Helper()
	select {
	case err := <-c.Failed():
		t.Fatalf("node %s was stopped: %v", c.cfg.ID.Short(), err)
	default:
	}
}
