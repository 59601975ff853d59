package node_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// own reads a node's own copy of a key.
func (c *real) own(n *node.Node, key string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	resp, err := api.Get.Call(ctx, c.net, rpc.Peer{Addr: n.Addr()}, &api.GetRequest{Key: []byte(key), R: api.One})
	switch {
	case err != nil:
		return "", err
	case len(resp.Receipt.Answered) != 1 || resp.Receipt.Answered[0] != n.ID():
		return "", fmt.Errorf("answered by %v", resp.Receipt.Answered)
	case !resp.Found:
		return "", fmt.Errorf("not found")
	}
	return string(resp.Values[resp.Winner].Data), nil
}

// A node of whose tables nothing is left, metadata included, knows who it is, and
// is filled again.
func TestFault33_ANodeWithRottenTablesIsFilledAgain(t *testing.T) {
	t.Parallel()
	c := found(t, 3, 3)
	for i := range 100 {
		if err := c.put(c.nodes[i%3], fmt.Sprintf("key-%d", i), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	cfg := config(c.dir, 2)
	cfg.Join = []string{c.nodes[0].GossipAddr()}
	id := c.nodes[2].ID()
	restart := func() *node.Node {
		t.Helper()
		if err := c.nodes[2].Close(); err != nil {
			t.Fatal(err)
		}
		c.nodes = c.nodes[:2]
		return nil
	}
	restart()
	c.start(cfg) // what lay in its journal goes to tables
	restart()
	tables, err := filepath.Glob(filepath.Join(cfg.Data, "db", "*.ldb"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, path := range tables {
		rot(t, path)
	}
	n := c.start(cfg)
	if n.ID() != id {
		t.Fatalf("it comes back as %s, it was %s", n.ID(), id)
	}
	for i := range 100 {
		until(t, "its own copies are whole", func() bool {
			got, err := c.own(n, fmt.Sprintf("key-%d", i))
			return err == nil && got == fmt.Sprint(i)
		})
	}
	until(t, "it is ready", func() bool { return c.member(n, id).State == "ready" })
}

// rot changes a byte in every block of a table.
func rot(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 100; at < len(b)-48; at += 500 {
		b[at] ^= 0x55
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A directory whose database is gone is nobody's: whoever it belonged to may have
// voted, and would not know.
func TestADirectoryWithoutItsDatabaseSaysWhatToType(t *testing.T) {
	c := found(t, 1, 1)
	id := c.nodes[0].ID()
	if err := c.nodes[0].Close(); err != nil {
		t.Fatal(err)
	}
	c.nodes = nil
	cfg := config(c.dir, 0)
	cfg.Expect, cfg.Replicas = 1, 1
	if err := os.RemoveAll(filepath.Join(cfg.Data, "db")); err != nil {
		t.Fatal(err)
	}
	if n, err := node.Start(cfg); err == nil || !strings.Contains(err.Error(), "--replace "+id.String()) {
		if n != nil {
			n.Close()
		}
		t.Errorf("it starts: %v", err)
	}
}
