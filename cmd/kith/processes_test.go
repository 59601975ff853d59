package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
)

// processes is a cluster of real kith servers on loopback. TestMain has put the
// program on the PATH.
type processes struct {
	t       *testing.T
	dir     string
	servers []*process
}

// process is one server: what it is started with, and what runs.
type process struct {
	p      *processes
	name   string
	listen string
	args   []string
	log    *os.File

	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd has ended
}

// startProcesses starts n servers in the order that is given. The first of the
// numbers 0 to n-1 founds, and is the seed of all others.
func startProcesses(t *testing.T, order []int, extra ...string) *processes {
	t.Helper()
	n := len(order)
	port, err := freePorts(2 * n)
	if err != nil {
		t.Fatal(err)
	}
	p := &processes{t: t, dir: t.TempDir(), servers: make([]*process, n)}
	seed := address(port + n)
	for i := range n {
		name := "n" + strconv.Itoa(i+1)
		args := append([]string{"server", "--data", filepath.Join(p.dir, name), "--name", name,
			"--listen", address(port + i), "--gossip", address(port + n + i)}, extra...)
		if i == 0 {
			args = append(args, "--expect", strconv.Itoa(n))
		} else {
			args = append(args, "--join", seed)
		}
		log, err := os.Create(filepath.Join(p.dir, name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		p.servers[i] = &process{p: p, name: name, listen: address(port + i), args: args, log: log}
	}
	t.Cleanup(p.end)
	for _, i := range order {
		p.servers[i].start()
	}
	return p
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func (s *process) start() {
	s.p.t.Helper()
	s.cmd = exec.Command("kith", s.args...)
	s.cmd.Stderr = s.log
	s.cmd.Stdout = s.log
	if err := s.cmd.Start(); err != nil {
		s.p.t.Fatal(err)
	}
	exited := make(chan struct{})
	s.exited = exited
	go func(cmd *exec.Cmd) {
		cmd.Wait()
		close(exited)
	}(s.cmd)
}

// signal sends a signal that does not end the process.
func (s *process) signal(sig syscall.Signal) {
	s.p.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.p.t.Fatalf("%s: %v", s.name, err)
	}
}

// kill ends it without a chance to say anything.
func (s *process) kill() {
	s.cmd.Process.Kill()
	<-s.exited
}

// stop asks it to end, and wants a clean end.
func (s *process) stop() {
	s.p.t.Helper()
	s.signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(30 * time.Second):
		s.p.t.Errorf("%s does not stop", s.name)
		s.kill()
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.p.t.Errorf("%s stopped with exit status %d", s.name, code)
	}
}

// end kills what is left, and shows the logs of a test that has failed.
func (p *processes) end() {
	for _, s := range p.servers {
		if s.cmd != nil {
			s.kill()
		}
		s.log.Close()
		if b, err := os.ReadFile(s.log.Name()); err == nil && p.t.Failed() {
			p.t.Logf("log of %s:\n%s", s.name, b[max(0, len(b)-4000):])
		}
	}
}

func (p *processes) addresses() string {
	var b bytes.Buffer
	for i, s := range p.servers {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(s.listen)
	}
	return b.String()
}

// kith runs a verb against the cluster and gives its exit status.
func (p *processes) kith(args ...string) (status int, out, errs string) {
	p.t.Helper()
	cmd := exec.Command("kith", append(args, "--addr", p.addresses())...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Dir = p.dir
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// must is kith with exit status 0.
func (p *processes) must(args ...string) string {
	p.t.Helper()
	status, out, errs := p.kith(args...)
	if status != 0 {
		p.t.Fatalf("kith %q: exit status %d\n%s%s", args, status, out, errs)
	}
	return out
}

// status asks one server, nil if it does not answer.
func (s *process) status() *client.Status {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, []string{s.listen}, client.Direct())
	if err != nil {
		return nil
	}
	defer c.Close()
	st, err := c.Status(ctx)
	if err != nil {
		return nil
	}
	return st
}

// wait waits until every server that runs sees so many members that can be
// reached; if that is all of them, the cluster must be ready too.
func (p *processes) wait(reachable int) {
	p.t.Helper()
	p.until(time.Minute, fmt.Sprintf("%d members can be reached", reachable), func() bool {
		for _, s := range p.servers {
			if s.running() && !s.sees(reachable) {
				return false
			}
		}
		return true
	})
}

func (s *process) sees(reachable int) bool {
	st := s.status()
	if st == nil || reachable == len(s.p.servers) && !st.Ready {
		return false
	}
	n := 0
	for _, m := range st.Members {
		if m.Reachable {
			n++
		}
	}
	return n == reachable
}

func (s *process) running() bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// until looks again and again whether something has come true.
func (p *processes) until(most time.Duration, what string, ok func() bool) {
	p.t.Helper()
	end := time.After(most)
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-end:
			p.t.Fatalf("after %v it is not so that %s", most, what)
		}
	}
}

// after is a point of time to wait for: it is about the faults of a scenario,
// not about what is expected.
func after(d time.Duration) { <-time.After(d) }

func TestServersStopCleanlyAndComeBackByThemselves(t *testing.T) {
	p := startProcesses(t, []int{2, 0, 1})
	p.wait(3)
	p.must("put", "k", "v", "--w", "all")
	for _, s := range p.servers {
		s.stop()
	}
	for _, s := range p.servers {
		s.args = s.args[:len(s.args)-2] // no seed, nobody to expect
		s.start()
	}
	p.wait(3)
	if got := p.must("get", "k", "--r", "all"); got != "v" {
		t.Fatalf("got %q", got)
	}
	var st struct {
		Schema  string `json:"schema"`
		Members []struct {
			Homes int `json:"homes"`
		} `json:"members"`
	}
	if err := json.Unmarshal([]byte(p.must("status", "--format", "json")), &st); err != nil {
		t.Fatal(err)
	}
	if st.Schema != "status/v1" || len(st.Members) != 3 || st.Members[0].Homes != 1024 {
		t.Fatalf("status: %+v", st)
	}
}

func TestTwoOfFiveDownIsToldAtOnce(t *testing.T) {
	p := startProcesses(t, []int{0, 1, 2, 3, 4})
	p.wait(5)
	p.must("put", "warm", "up")
	p.servers[3].kill()
	p.servers[4].kill()
	p.wait(3)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, []string{p.servers[0].listen, p.servers[1].listen, p.servers[2].listen})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	view, err := c.Ring(ctx)
	if err != nil {
		t.Fatal(err)
	}
	alive := map[string]bool{}
	for _, m := range view.Members {
		alive[m.ID.String()] = m.Alive
	}
	done, refused, slowest := 0, 0, time.Duration(0)
	for i := range 60 {
		key := []byte("key-" + strconv.Itoa(i))
		up := 0
		for _, id := range view.Record.Homes(view.Record.PartitionOf(key)) {
			if alive[id.String()] {
				up++
			}
		}
		begun := time.Now()
		_, err := c.Put(ctx, key, []byte("v"))
		took := time.Since(begun)
		switch {
		case up >= 2 && err == nil:
			done++
			if got, err := c.Get(ctx, key); err != nil || string(got.Value) != "v" {
				t.Errorf("%s: %q, %v", key, got.Value, err)
			}
		case up < 2 && client.Refused(err):
			refused++
			slowest = max(slowest, took)
			if got, err := c.Get(ctx, key, client.One); !client.Refused(err) {
				t.Errorf("%s was refused, and one home has %q, %v", key, got.Value, err)
			}
		default:
			t.Errorf("%s with %d homes up: %v", key, up, err)
		}
	}
	if done == 0 || refused == 0 {
		t.Errorf("%d done, %d refused: want some of both", done, refused)
	}
	// It is a few milliseconds; the bound only tells it from waiting for the
	// deadline, on a machine that is busy.
	if slowest > client.TimeoutDefault/2 {
		t.Errorf("the slowest refusal took %v", slowest)
	}
	t.Logf("%d done, %d refused, the slowest after %v", done, refused, slowest)
	status, _, errs := p.kith("export")
	if status != exitRefused {
		t.Errorf("an export with holes has exit status %d, %s", status, errs)
	}
}
