package processes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
)

const (
	dialMax = 15 * time.Second // a server that starts on a busy machine
	logMax  = 8 << 10          // of each node that Log shows
)

// Cluster is real server processes as a World, each on a host of its own. It
// needs the sandbox.
type Cluster struct {
	dir     string
	binary  string
	hosts   *hosts
	servers []*server
}

var _ World = (*Cluster)(nil)

// server is one node, whether its process runs or not.
type server struct {
	name   string
	addr   string
	args   []string
	cmd    *exec.Cmd     // nil while it is down
	exited chan struct{} // closed when cmd has ended
}

// NewCluster starts processes of the kith binary, which found a cluster
// together. They keep their data and logs in dir. net, 0 to 255, tells clusters
// apart that run at once. The caller closes it.
func NewCluster(binary, dir string, net int) (*Cluster, error) {
	if !Inside() {
		return nil, errors.New("a cluster of processes needs the sandbox")
	}
	// A pool may hold a channel of a bubble that has ended, and using that out
	// here is fatal: two collections empty every pool.
	runtime.GC()
	runtime.GC()
	h, err := newHosts(net, nodes)
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, binary: binary, hosts: h}
	for i := range nodes {
		s := &server{name: fmt.Sprintf("n%d", i+1), addr: h.ip(i) + ":7600"}
		s.args = []string{
			"server", "--name", s.name, "--data", filepath.Join(dir, s.name), "--insecure",
			"--listen", s.addr, "--gossip", h.ip(i) + ":7601",
			"--replicas", fmt.Sprint(replicas), "--partitions", fmt.Sprint(partitions),
		}
		if i == 0 {
			s.args = append(s.args, "--expect", fmt.Sprint(nodes))
		} else {
			s.args = append(s.args, "--join", h.ip(0)+":7601")
		}
		c.servers = append(c.servers, s)
	}
	for i := range c.servers {
		if err := c.Start(i); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

// Kind implements World.
func (c *Cluster) Kind() string { return "processes" }

// Names implements World.
func (c *Cluster) Names() []string {
	var all []string
	for _, s := range c.servers {
		all = append(all, s.name)
	}
	return all
}

// Dial implements World.
func (c *Cluster) Dial(h *sim.History, opts []client.Option, nodes ...int) (*sim.Client, error) {
	var addrs []string
	for _, i := range nodes {
		addrs = append(addrs, c.servers[i].addr)
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialMax)
	defer cancel()
	for {
		cl, err := client.Dial(ctx, addrs, opts...)
		if err == nil {
			return sim.Record(cl, "client", h), nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		rest(ctx, 50*time.Millisecond) // it does not listen yet
	}
}

// Cut implements World.
func (c *Cluster) Cut(from, to []int) error { return c.hosts.cut(from, to) }

// Partition implements World.
func (c *Cluster) Partition(a, b []int) error {
	return errors.Join(c.hosts.cut(a, b), c.hosts.cut(b, a))
}

// Heal implements World.
func (c *Cluster) Heal() error { return c.hosts.heal() }

// Start implements World.
func (c *Cluster) Start(node int) error {
	s := c.servers[node]
	if s.cmd != nil {
		return nil
	}
	log, err := os.OpenFile(c.logOf(s), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	cmd := c.hosts.command(node, c.binary, s.args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	exited := make(chan struct{})
	s.cmd, s.exited = cmd, exited
	go func() {
		defer close(exited)
		_ = cmd.Wait() // it was killed, or its log says why it ended
	}()
	return nil
}

// Kill implements World.
func (c *Cluster) Kill(node int) error {
	s := c.servers[node]
	if s.cmd == nil {
		return nil
	}
	err := s.cmd.Process.Kill()
	<-s.exited
	s.cmd = nil
	if err != nil {
		return fmt.Errorf("kill %s, which had ended: %w", s.name, err)
	}
	return nil
}

// Pause implements World.
func (c *Cluster) Pause(node int) error { return c.signal(node, syscall.SIGSTOP) }

// Resume implements World.
func (c *Cluster) Resume(node int) error { return c.signal(node, syscall.SIGCONT) }

func (c *Cluster) signal(node int, sig syscall.Signal) error {
	s := c.servers[node]
	if s.cmd == nil {
		return fmt.Errorf("%v to %s, which is down", sig, s.name)
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("%v to %s: %w", sig, s.name, err)
	}
	return nil
}

func (c *Cluster) logOf(s *server) string { return filepath.Join(c.dir, s.name+".log") }

// Log implements World: the end of what each node has said.
func (c *Cluster) Log() string {
	var b strings.Builder
	for _, s := range c.servers {
		text, err := os.ReadFile(c.logOf(s))
		if err != nil {
			text = []byte(err.Error())
		}
		fmt.Fprintf(&b, "--- %s\n%s\n", s.name, text[max(0, len(text)-logMax):])
	}
	return b.String()
}

// Close implements World.
func (c *Cluster) Close() error {
	var errs []error
	for i := range c.servers {
		errs = append(errs, c.Kill(i))
	}
	return errors.Join(append(errs, c.hosts.close())...)
}
