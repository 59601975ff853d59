package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// user is somebody who works with the cluster all the while, and must not notice
// what others do to it.
type user struct {
	stop context.CancelFunc
	done sync.WaitGroup
	n    int
	err  error
}

func (p *processes) user() *user {
	p.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	u := &user{stop: stop}
	c, err := client.Dial(ctx, strings.Split(p.addresses(), ","))
	if err != nil {
		p.t.Fatal(err)
	}
	u.done.Go(func() {
		defer c.Close()
		for i := 0; ctx.Err() == nil && u.err == nil; i++ {
			key, value := []byte("user-"+strconv.Itoa(i%50)), []byte(strconv.Itoa(i))
			once, cancel := context.WithTimeout(context.Background(), client.TimeoutDefault)
			_, err := c.Put(once, key, value)
			if err == nil {
				var got client.Result
				if got, err = c.Get(once, key); err == nil && !bytes.Equal(got.Value, value) {
					err = fmt.Errorf("%s is %q right after %q was put", key, got.Value, value)
				}
			}
			cancel()
			u.n, u.err = u.n+1, err
		}
	})
	return u
}

// content ends the user and wants to hear of no trouble.
func (u *user) content(t *testing.T) {
	t.Helper()
	u.stop()
	u.done.Wait()
	if u.err != nil || u.n == 0 {
		t.Errorf("a user meanwhile, after %d rounds: %v", u.n, u.err)
	}
}

// resident is the process's memory in bytes.
func (s *process) resident() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.p.t.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				s.p.t.Fatal(err)
			}
			return kb << 10
		}
	}
	s.p.t.Fatal("no VmRSS")
	return 0
}

// raw is a message that is whatever it wants to be.
type raw []byte

// AppendWire implements wire.Appender.
func (r raw) AppendWire(b []byte) []byte { return append(b, r...) }

// attacks are messages for a route that a client may call, in a sound frame.
func attacks() map[string]raw {
	claim := binary.BigEndian.AppendUint32([]byte{0x93, 0xdd}, 50_000_000)
	return map[string]raw{
		"an array that claims 50 million items": claim,
		"2 MB of nested arrays":                 bytes.Repeat([]byte{0x91}, 2<<20),
		"bytes that claim 2 GiB":                binary.BigEndian.AppendUint32([]byte{0x93, 0xc6}, 1<<31-1),
		"nothing":                               {},
		"a number":                              {7},
		"noise":                                 noise(100 << 10),
	}
}

func noise(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func TestFault24_BadInputIsRefusedAndCostsNoMemory(t *testing.T) {
	p := startProcesses(t, []int{0, 1, 2})
	p.wait(3)
	u := p.user()
	target := p.servers[0]
	p.must("bench", "--count", "2000", "--warmup", "0s") // what work costs anyway
	before := target.resident()

	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"put", "", "v"}, "key is empty"},
		{[]string{"put", strings.Repeat("k", 5000), "v"}, "TOO_LARGE"},
		{[]string{"get", "k", "--r", "9"}, "a key has 1 to 7"},
		{[]string{"get", "k", "--r", "7"}, "BAD_REQUEST"},
		{[]string{"put", "k", "v", "--w", "7"}, "BAD_REQUEST"},
	} {
		if status, _, errs := p.kith(tc.args...); status != exitUsage || !strings.Contains(errs, tc.says) {
			t.Errorf("kith %.40q: exit status %d, %s", tc.args, status, errs)
		}
	}
	large := exec.Command("kith", "put", "k", "-", "--addr", target.listen)
	large.Stdin = bytes.NewReader(make([]byte, 1<<20+1))
	if out, err := large.CombinedOutput(); large.ProcessState.ExitCode() != exitUsage || !strings.Contains(string(out), "TOO_LARGE") {
		t.Errorf("a value over the limit: %v, %s", err, out)
	}

	throwGarbage(t, target)
	c := rpc.NewClient(rpc.TCPConfig{})
	defer c.Close()
	for name, message := range attacks() {
		for _, route := range []string{string(api.Put), string(api.GetAll), string(api.PutAll), string(api.Ring), "no.such.route"} {
			answer := make(chan error, 1)
			c.Send(rpc.Peer{Addr: target.listen}, route, message, time.Now().Add(10*time.Second),
				rpc.CompleteFunc(func(_ []byte, err error) { answer <- err }))
			if err := <-answer; !errors.As(err, new(*rpc.RemoteError)) {
				t.Errorf("%s for %s was not refused by an answer: %v", name, route, err)
			}
		}
	}
	if grown := target.resident() - before; grown > 64<<20 {
		t.Errorf("resident memory has grown by %d MiB", grown>>20)
	}
	u.content(t)
	target.stop()
}

// throwGarbage sends noise, and a frame that claims 4 GiB, to both ports.
func throwGarbage(t *testing.T, s *process) {
	t.Helper()
	gossip := s.args[len(s.args)-3] // before --expect N
	claim := append(binary.BigEndian.AppendUint32(nil, 1<<32-1), binary.LittleEndian.AppendUint32(nil, 1<<32-1)...)
	for _, addr := range []string{s.listen, gossip} {
		for _, b := range [][]byte{noise(1 << 20), claim, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), {}, {0}} {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(2 * time.Second))
			conn.Write(b) // it may be cut off
			conn.Close()
		}
	}
	conn, err := net.Dial("udp", gossip)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 20 {
		conn.Write(noise(1200))
	}
}

func TestSecondServerOnADirectoryIsRefused(t *testing.T) {
	p := startProcesses(t, []int{0, 1, 2})
	p.wait(3)
	u := p.user()
	args := append([]string{}, p.servers[1].args...)
	for i := range args {
		if args[i] == "--listen" || args[i] == "--gossip" {
			args[i+1] = "127.0.0.1:0"
		}
	}
	out, _ := exec.Command("kith", args...).CombinedOutput()
	if !strings.Contains(string(out), "another process is using it") {
		t.Errorf("it says %s", out)
	}
	u.content(t)
}

func TestServerOfAnotherClusterIsNotTakenIn(t *testing.T) {
	p := startProcesses(t, []int{0, 1, 2})
	p.wait(3)
	u := p.user()
	// Another cluster of the same name, whose member then tries to join.
	other := startProcesses(t, []int{0}, "--replicas", "1")
	other.wait(1)
	other.servers[0].stop()
	seed := p.servers[0].args[len(p.servers[0].args)-3]
	s := other.servers[0]
	s.args = append(s.args[:len(s.args)-2:len(s.args)-2], "--join", seed)
	s.start()
	other.until(time.Minute, "the stranger says why it is not taken in", func() bool {
		b, err := os.ReadFile(s.log.Name())
		return err == nil && strings.Contains(string(b), "refused a member of another cluster")
	})
	for _, s := range p.servers {
		st := s.status()
		if st == nil || len(st.Members) != 3 || !st.Ready {
			t.Errorf("%s sees %+v", s.name, st)
		}
	}
	u.content(t)
}

func TestFounderWithAWipedDiskStopsAndSaysSo(t *testing.T) {
	p := startProcesses(t, []int{0, 1, 2})
	p.wait(3)
	p.must("put", "k", "v", "--w", "all")
	founder := p.servers[0]
	founder.kill()
	p.wait(2)
	if err := os.RemoveAll(filepath.Join(p.dir, founder.name)); err != nil {
		t.Fatal(err)
	}
	founder.start()
	select {
	case <-founder.exited:
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
	}
	if code := founder.cmd.ProcessState.ExitCode(); code != exitUnexpected {
		t.Errorf("exit status %d", code)
	}
	b, err := os.ReadFile(founder.log.Name())
	if err != nil || !strings.Contains(string(b), "probably the old founder with a lost disk") {
		t.Errorf("it says %s, %v", b, err)
	}
	for _, s := range p.servers[1:] {
		if st := s.status(); st == nil || len(st.Members) != 3 {
			t.Errorf("%s sees %+v", s.name, st)
		}
	}
	if got := p.must("get", "k"); got != "v" {
		t.Errorf("got %q", got)
	}
}
