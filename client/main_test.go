package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/node"
)

// TestMain ends the cluster of the examples, and then nothing may be running.
func TestMain(m *testing.M) {
	status := m.Run()
	shared.stop()
	// goleveldb drains its pool for a second after Close.
	drain := goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain")
	// A probe of memberlist that is under way ends up to its interval after Shutdown.
	probe := goleak.IgnoreTopFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode")
	if err := goleak.Find(drain, probe); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// shared is a cluster of three real nodes for examples, started when it is
// first asked for.
var shared localCluster

type localCluster struct {
	once  sync.Once
	dir   string
	nodes []*node.Node
	err   error
}

// addresses starts the cluster and waits until it serves.
func (l *localCluster) addresses() []string {
	l.once.Do(func() { l.err = l.start(3) })
	if l.err != nil {
		panic(l.err)
	}
	var addrs []string
	for _, n := range l.nodes {
		addrs = append(addrs, n.Addr())
	}
	return addrs
}

func (l *localCluster) start(count int) (err error) {
	if l.dir, err = os.MkdirTemp("", "kith-client-"); err != nil {
		return err
	}
	for i := range count {
		cfg := node.Config{
			Data:   filepath.Join(l.dir, strconv.Itoa(i)),
			Listen: "127.0.0.1:0",
			Gossip: "127.0.0.1:0",
			Name:   "node" + strconv.Itoa(i+1),
			Logger: slog.New(slog.DiscardHandler),
		}
		if i == 0 {
			cfg.Expect = count
		} else {
			cfg.Join = []string{l.nodes[0].GossipAddr()}
		}
		n, err := node.Start(cfg)
		if err != nil {
			return err
		}
		l.nodes = append(l.nodes, n)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, []string{l.nodes[0].Addr()})
	if err != nil {
		return err
	}
	defer c.Close()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		st, err := c.Status(ctx)
		if err == nil && st.Ready {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("cluster is not ready: %v, %+v", err, st)
		}
	}
}

func (l *localCluster) stop() {
	for _, n := range l.nodes {
		n.Close()
	}
	if l.dir != "" {
		os.RemoveAll(l.dir)
	}
}
