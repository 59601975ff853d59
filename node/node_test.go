package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// TestMain looks for goroutines left behind. goleveldb's pools end a second after
// their database, and a probe of memberlist that waits for its answer some
// seconds after Close.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		var err error
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
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

func quiet() *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

// real is a cluster of real nodes on loopback.
type real struct {
	t     *testing.T
	dir   string
	nodes []*node.Node
	net   *rpc.Client
}

func config(dir string, i int) node.Config {
	return node.Config{
		Data: filepath.Join(dir, fmt.Sprintf("n%d", i+1)), Name: fmt.Sprintf("n%d", i+1),
		Listen: "127.0.0.1:0", Gossip: "127.0.0.1:0", Logger: quiet(),
	}
}

// found starts n nodes that found a cluster.
func found(t *testing.T, n, replicas int) *real {
	t.Helper()
	c := &real{t: t, dir: t.TempDir(), net: rpc.NewClient(rpc.TCPConfig{})}
	t.Cleanup(c.close)
	for i := range n {
		cfg := config(c.dir, i)
		cfg.Replicas = replicas
		if i == 0 {
			cfg.Expect = n
		} else {
			cfg.Join = []string{c.nodes[0].GossipAddr()}
		}
		c.start(cfg)
	}
	c.waitReady()
	return c
}

func (c *real) start(cfg node.Config) *node.Node {
	c.t.Helper()
	n, err := node.Start(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.nodes = append(c.nodes, n)
	return n
}

func (c *real) close() {
	c.net.Close()
	for _, n := range c.nodes {
		if err := n.Close(); err != nil {
			c.t.Errorf("closing: %v", err)
		}
	}
}

func (c *real) status(n *node.Node) *api.StatusResponse {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	resp, err := api.Status.Call(ctx, c.net, rpc.Peer{Addr: n.Addr()}, &api.StatusRequest{})
	if err != nil {
		c.t.Fatalf("status of %s: %v", n.ID().Short(), err)
	}
	return resp
}

// patience is how long a real node may take for anything: a machine with eight jobs a
// processor takes ten times as long under the race detector.
const patience = 2 * time.Minute

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-tick.C
	}
}

func (c *real) waitReady() {
	c.t.Helper()
	for _, n := range c.nodes {
		until(c.t, "every node is ready", func() bool { return c.status(n).Ready })
	}
}

func (c *real) put(n *node.Node, key, value string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := api.Put.Call(ctx, c.net, rpc.Peer{Addr: n.Addr()}, &api.PutRequest{Key: []byte(key), Value: []byte(value)})
	return err
}

func (c *real) get(n *node.Node, key string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	resp, err := api.Get.Call(ctx, c.net, rpc.Peer{Addr: n.Addr()}, &api.GetRequest{Key: []byte(key)})
	if err != nil {
		return "", err
	}
	if !resp.Found {
		return "", errors.New("not found")
	}
	return string(resp.Values[resp.Winner].Data), nil
}

func TestClusterFoundsServesAndComesBack(t *testing.T) {
	c := found(t, 3, 3)
	for i := range 50 {
		if err := c.put(c.nodes[i%3], fmt.Sprintf("key-%d", i), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		for i := range 50 {
			for _, n := range c.nodes {
				if got, err := c.get(n, fmt.Sprintf("key-%d", i)); err != nil || got != fmt.Sprint(i) {
					t.Fatalf("key-%d through %s: %q, %v", i, n.ID().Short(), got, err)
				}
			}
		}
	}
	check()
	id, epoch := c.nodes[0].ID(), c.status(c.nodes[0]).Epoch
	for _, n := range c.nodes {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	c.nodes = nil
	// All come back by their directories alone, at other addresses: only
	// where they are told of one another does one need to know another.
	for i := range 3 {
		cfg := config(c.dir, i)
		if i > 0 {
			cfg.Join = []string{c.nodes[0].GossipAddr()}
		}
		c.start(cfg)
	}
	c.waitReady()
	if c.nodes[0].ID() != id {
		t.Errorf("the ID changed from %s to %s", id, c.nodes[0].ID())
	}
	if got := c.status(c.nodes[0]); got.Epoch != epoch {
		t.Errorf("epoch %d after the restart, %d before", got.Epoch, epoch)
	}
	check()
}

func TestLateMemberIsStandbyAndCoordinates(t *testing.T) {
	c := found(t, 3, 3)
	if err := c.put(c.nodes[0], "k", "v"); err != nil {
		t.Fatal(err)
	}
	cfg := config(c.dir, 3)
	cfg.Join, cfg.Standby = []string{c.nodes[1].GossipAddr()}, true
	late := c.start(cfg)
	until(t, "the newcomer is a standby", func() bool {
		for _, m := range c.status(late).Members {
			if m.ID == late.ID().String() {
				return m.State == "standby" && m.Homes == 0
			}
		}
		return false
	})
	if got, err := c.get(late, "k"); err != nil || got != "v" {
		t.Errorf("get through the standby: %q, %v", got, err)
	}
	if err := c.put(late, "k2", "v2"); err != nil {
		t.Errorf("put through the standby: %v", err)
	}
	if got, err := c.get(c.nodes[2], "k2"); err != nil || got != "v2" {
		t.Errorf("get of what the standby took: %q, %v", got, err)
	}
}

func TestStartRefusesWhatItCannotServe(t *testing.T) {
	c := found(t, 1, 1)
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "photo.jpg"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := t.TempDir()
	if err := os.WriteFile(filepath.Join(newer, "KITH"), []byte("kith data 99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name   string
		change func(*node.Config)
		want   string
	}{
		{"neither seeds nor founding", func(*node.Config) {}, "--join"},
		{"a directory in use", func(cfg *node.Config) { cfg.Data = filepath.Join(c.dir, "n1") }, "another process is using it"},
		{"somebody else's directory", func(cfg *node.Config) { cfg.Data = foreign }, "photo.jpg"},
		{"a newer format", func(cfg *node.Config) { cfg.Data = newer }, "kith data 99"},
		{"a public address", func(cfg *node.Config) { cfg.Listen = "0.0.0.0:0" }, "--insecure"},
		{"a public gossip address", func(cfg *node.Config) { cfg.Gossip = ":0" }, "--insecure"},
		{"too many replicas", func(cfg *node.Config) { cfg.Replicas = 8 }, "1 to 7"},
		{"fewer members than replicas", func(cfg *node.Config) { cfg.Expect = 2 }, "3 replicas"},
		{"no address", func(cfg *node.Config) { cfg.Listen = "here" }, "HOST:PORT"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			cfg := config(t.TempDir(), 0)
			tc.change(&cfg)
			n, err := node.Start(cfg)
			if err == nil {
				n.Close()
				t.Fatal("it starts")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not say %q", err, tc.want)
			}
		})
	}
}
