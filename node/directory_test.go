package node_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kithdb/kith/node"
)

// Whoever removes the lock file of a directory that is in use gets no second node,
// and once the first has ended the directory is free.
func TestFault39_ARemovedLockFileLetsNobodyIn(t *testing.T) {
	c := found(t, 1, 1)
	if err := c.put(c.nodes[0], "k", "v"); err != nil {
		t.Fatal(err)
	}
	cfg := config(c.dir, 0)
	for _, file := range []string{"LOCK", ""} {
		if file != "" {
			if err := os.Remove(filepath.Join(cfg.Data, "db", file)); err != nil {
				t.Fatal(err)
			}
		}
		second, err := node.Start(cfg) // which waits a while for the first to end
		if err == nil {
			_ = second.Close()
			t.Fatal("two nodes run on one directory")
		}
		if !strings.Contains(err.Error(), "another process is using it") {
			t.Errorf("it does not say why: %v", err)
		}
	}
	if got, err := c.get(c.nodes[0], "k"); err != nil || got != "v" {
		t.Errorf("the first node reads %q, %v", got, err)
	}
	if err := c.nodes[0].Close(); err != nil {
		t.Fatal(err)
	}
	c.nodes = nil
	c.start(cfg)
	c.waitReady()
	if got, err := c.get(c.nodes[0], "k"); err != nil || got != "v" {
		t.Errorf("started again, the node reads %q, %v", got, err)
	}
}

// A server that was told to end takes no requests any more before it has closed its
// files: one that is started meanwhile waits for that.
func TestAStartWaitsForTheOneThatEnds(t *testing.T) {
	c := found(t, 1, 1)
	if err := c.put(c.nodes[0], "k", "v"); err != nil {
		t.Fatal(err)
	}
	type started struct {
		n   *node.Node
		err error
	}
	second := make(chan started, 1)
	go func() {
		n, err := node.Start(config(c.dir, 0))
		second <- started{n, err}
	}()
	if err := c.nodes[0].Close(); err != nil {
		t.Fatal(err)
	}
	c.nodes = nil
	s := <-second
	if s.err != nil {
		t.Fatal(s.err)
	}
	c.nodes = append(c.nodes, s.n)
	c.waitReady()
	if got, err := c.get(s.n, "k"); err != nil || got != "v" {
		t.Errorf("started again, the node reads %q, %v", got, err)
	}
}
