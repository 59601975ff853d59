package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/ring"
)

// devFlags are those of dev.
type devFlags struct {
	nodes int
	data  string
	port  int
	log   serverFlags
}

// devNodesMax keeps a slip of the finger from taking the machine down.
const devNodesMax = 50

func (a *app) devCommand() *cobra.Command {
	d := &devFlags{}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster in this process, to try things on",
		Long: `Run a whole cluster in this process, to try things on, until interrupted. Node
1 listens on --port, the others on the ports behind it.

Without --data everything is kept in a temporary directory, which is removed at
the end.`,
		Example: `  kith dev
  kith dev --nodes 5 --data ./dev --port 8000`,
		Args: a.want(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.nodes < 1 || d.nodes > devNodesMax {
				return usagef("--nodes %d: want 1 to %d", d.nodes, devNodesMax)
			}
			if d.port < 1 || d.port+d.nodes-1 > 65535 {
				return usagef("--port %d: want ports 1 to 65535 for %d nodes", d.port, d.nodes)
			}
			return a.dev(cmd.Context(), d)
		},
	}
	f := cmd.Flags()
	f.IntVar(&d.nodes, "nodes", 3, "number of nodes")
	f.StringVar(&d.data, "data", "", "directory to keep the data in")
	f.IntVar(&d.port, "port", 7600, "port of node 1 for clients; the others follow")
	d.log.addLog(f, "warn")
	return cmd
}

func (a *app) dev(ctx context.Context, d *devFlags) (err error) {
	data := d.data
	if data == "" {
		if data, err = os.MkdirTemp("", "kith-dev-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	}
	nodes, failed := a.startDev(d, data)
	ended := make(chan *node.Node, len(nodes))
	ready := make(chan error, 1)
	waiting, stop := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer func() {
		stop()
		for _, n := range nodes {
			err = errors.Join(err, n.Close())
		}
		tasks.Wait()
	}()
	if failed != nil {
		return &exitError{status: exitUnexpected, err: failed}
	}
	for _, n := range nodes {
		tasks.Go(func() {
			select {
			case <-n.Done():
				ended <- n
			case <-waiting.Done():
			}
		})
	}
	tasks.Go(func() { ready <- waitServing(waiting, nodes) })
	for {
		select {
		case err := <-ready:
			if err != nil && ctx.Err() == nil {
				return err
			}
			if err == nil {
				a.welcome(d, nodes)
			}
			ready = nil
		case n := <-ended:
			if !hasLeft(n) {
				return &exitError{status: exitUnexpected, err: n.Err()}
			}
			a.hint("the node at %s has left the cluster; the others go on", n.Addr())
			tasks.Go(func() {
				linger(waiting)
				n.Close()
			})
		case <-ctx.Done():
			a.hint("stopping")
			return nil
		}
	}
}

// startDev starts the nodes. The first one founds the cluster, and the others
// join it; those that were members before take no notice.
func (a *app) startDev(d *devFlags, data string) ([]*node.Node, error) {
	logger, err := d.log.logger(a)
	if err != nil {
		return nil, err
	}
	var nodes []*node.Node
	for i := range d.nodes {
		cfg := node.Config{
			Data:     filepath.Join(data, "node"+strconv.Itoa(i+1)),
			Listen:   net.JoinHostPort("127.0.0.1", strconv.Itoa(d.port+i)),
			Gossip:   "127.0.0.1:0",
			Replicas: min(ring.ReplicasDefault, d.nodes),
			Cluster:  "dev",
			Name:     "node" + strconv.Itoa(i+1),
			Version:  build().Version,
			Logger:   logger.With("node", i+1),
		}
		if i == 0 {
			cfg.Expect = d.nodes
		} else {
			cfg.Join = []string{nodes[0].GossipAddr()}
		}
		n, err := node.Start(cfg)
		if err != nil {
			return nodes, fmt.Errorf("node %d: %w", i+1, err)
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

func addressesOf(nodes []*node.Node) []string {
	addrs := make([]string, len(nodes))
	for i, n := range nodes {
		addrs[i] = n.Addr()
	}
	return addrs
}

// waitServing waits until the cluster is ready.
func waitServing(ctx context.Context, nodes []*node.Node) error {
	c, err := client.Dial(ctx, addressesOf(nodes))
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		st, err := c.Status(ctx)
		if err == nil && st.Ready {
			return nil
		}
		t := time.NewTimer(50 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// welcome says what to type next.
func (a *app) welcome(d *devFlags, nodes []*node.Node) {
	addrs := addressesOf(nodes)
	kept := "a temporary directory, removed at the end"
	if d.data != "" {
		kept = d.data
	}
	at := ""
	if addrs[0] != node.ListenDefault {
		at = " --addr " + addrs[0]
	}
	fmt.Fprintf(a.out, `A cluster of %d nodes is ready at %s
Data is kept in %s. Interrupt (Ctrl-C) to end it.

Try, in another terminal:
  %[5]s put greeting hello%[4]s
  %[5]s get greeting%[4]s
  %[5]s ring greeting%[4]s
  %[5]s status%[4]s
`, len(nodes), strings.Join(addrs, ","), kept, at, typed(os.Args[0]))
}

// typed is how people call this program: by the path that they used, or by its
// name where it was found on their PATH.
func typed(arg0 string) string {
	if filepath.Dir(arg0) == "." && !strings.HasPrefix(arg0, "./") {
		return "kith"
	}
	return arg0
}
