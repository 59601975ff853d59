package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary builds kith once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kith-e2e")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "kith")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "github.com/kithdb/kith/cmd/kith")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building kith: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// server is one process.
type server struct {
	name, data, addr, gossip string
	args                     []string
	cmd                      *exec.Cmd
	log                      *os.File
	exited                   chan struct{}
	left                     bool // it was a member, and has gone for good
}

// cluster is some servers that found a cluster through the first one.
type cluster struct {
	t       *testing.T
	bin     string
	dir     string
	servers []*server
}

// newCluster plans n servers; start starts them.
func newCluster(t *testing.T, n int, extra ...string) *cluster {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, bin: bin, dir: t.TempDir()}
	ports := freePorts(t, 2*n)
	for i := range n {
		s := &server{
			name:   fmt.Sprintf("n%d", i+1),
			addr:   ports[2*i],
			gossip: ports[2*i+1],
		}
		s.data = filepath.Join(c.dir, s.name)
		s.args = []string{"server", "--name", s.name, "--data", s.data, "--listen", s.addr, "--gossip", s.gossip}
		if i == 0 {
			s.args = append(s.args, "--expect", fmt.Sprint(n))
		} else {
			s.args = append(s.args, "--join", c.servers[0].gossip)
		}
		s.args = append(s.args, extra...)
		c.servers = append(c.servers, s)
	}
	t.Cleanup(c.killAll)
	return c
}

// freePorts finds addresses on loopback that are the test's as long as it runs.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	ports, err := FindPorts(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ports.Close() })
	var addrs []string
	for i := range n {
		addrs = append(addrs, ports.Addr(i))
	}
	return addrs
}

// TestPortsAreGivenOnce: rows do not meet until they are given back.
func TestPortsAreGivenOnce(t *testing.T) {
	given := map[string]bool{}
	for range 20 {
		for _, addr := range freePorts(t, 6) {
			if given[addr] {
				t.Fatalf("%s is given twice", addr)
			}
			given[addr] = true
		}
	}
	if _, err := FindPorts(row); err == nil {
		t.Errorf("more ports are given than a row has")
	}
}

func (c *cluster) start(i int) {
	c.t.Helper()
	s := c.servers[i]
	log, err := os.OpenFile(filepath.Join(c.dir, s.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	s.log = log
	s.cmd = exec.Command(c.bin, s.args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	exited, cmd := make(chan struct{}), s.cmd
	s.exited = exited
	go func() {
		cmd.Wait()
		log.Close()
		close(exited)
	}()
}

func (c *cluster) signal(i int, sig syscall.Signal) {
	c.t.Helper()
	if err := c.servers[i].cmd.Process.Signal(sig); err != nil {
		c.t.Fatalf("%s to %s: %v", sig, c.servers[i].name, err)
	}
}

func (c *cluster) kill(i int) {
	c.t.Helper()
	c.signal(i, syscall.SIGKILL)
	<-c.servers[i].exited
}

func (c *cluster) killAll() {
	for _, s := range c.servers {
		if s.cmd == nil {
			continue
		}
		s.cmd.Process.Signal(syscall.SIGCONT)
		s.cmd.Process.Kill()
		<-s.exited
	}
	if c.t.Failed() {
		for _, s := range c.servers {
			text, _ := os.ReadFile(filepath.Join(c.dir, s.name+".log"))
			if len(text) > 8000 {
				text = text[len(text)-8000:]
			}
			c.t.Logf("--- log of %s\n%s", s.name, text)
		}
	}
}

// here are the servers that have not left.
func (c *cluster) here() []*server {
	return slices.DeleteFunc(slices.Clone(c.servers), func(s *server) bool { return s.left })
}

// addrs are all client addresses, joined for --addr.
func (c *cluster) addrs() string {
	var list []string
	for _, s := range c.here() {
		list = append(list, s.addr)
	}
	return strings.Join(list, ",")
}

// result is what a command printed and how it ended.
type result struct {
	stdout, stderr string
	code           int
}

// kith runs a client command to its end.
func (c *cluster) kith(args ...string) result {
	c.t.Helper()
	return run(c.t, c.bin, append([]string{"KITH_ADDR=" + c.addrs()}, os.Environ()...), args...)
}

func run(t *testing.T, bin string, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("kith %v: %v", args, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must runs a command that has to succeed.
func (c *cluster) must(args ...string) string {
	c.t.Helper()
	r := c.kith(args...)
	if r.code != 0 {
		c.t.Fatalf("kith %v: exit status %d\n%s%s", args, r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// waitReady returns once every server says that it is ready, and reaches all others:
// a circuit to one that was away closes a moment later.
func (c *cluster) waitReady() {
	c.t.Helper()
	for _, s := range c.here() {
		r := run(c.t, c.bin, os.Environ(), "status", "--addr", s.addr, "--wait", "ready", "--timeout", "60s")
		if r.code != 0 {
			c.t.Fatalf("%s does not become ready: exit status %d\n%s%s", s.name, r.code, r.stdout, r.stderr)
		}
	}
	for via, s := range c.servers {
		if s.left {
			continue
		}
		until(c.t, s.name+" reaches all others", time.Minute, func() bool {
			reached := map[string]bool{}
			for _, m := range c.status(via).Members {
				if m.Reachable {
					reached[m.Name] = true
				}
			}
			return len(reached) == len(c.here())
		})
	}
}

// until waits for a condition.
func until(t *testing.T, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		<-tick.C
	}
}
