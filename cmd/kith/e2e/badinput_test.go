package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/rpc"
)

// rss is a server's resident memory in bytes.
func (c *cluster) rss(i int) int64 {
	c.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", c.servers[i].cmd.Process.Pid))
	if err != nil {
		c.t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// hostile is a request body that is no message.
type hostile []byte

// AppendWire implements wire.Appender.
func (h *hostile) AppendWire(b []byte) []byte { return append(b, *h...) }

// send gives a body to a route; the answer must be an error.
func (c *cluster) send(n *rpc.Client, route string, body hostile) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := rpc.Route[hostile, hostile](route).Call(ctx, n, rpc.Peer{Addr: c.servers[0].addr}, &body)
	return err
}

// raw writes bytes to a port and waits until the other side has closed.
func raw(t *testing.T, addr string, data []byte) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	conn.Write(data) // may fail: it is closed at once
	buf := make([]byte, 4096)
	for {
		if _, err := conn.Read(buf); err != nil {
			if os.IsTimeout(err) {
				t.Errorf("%s still listens 20 s after %d bytes of %.8q", addr, len(data), data)
			}
			return
		}
	}
}

// TestFault62_HostileBytes: garbage on both ports and hostile messages are
// refused, cost little memory, and disturb nobody.
func TestFault62_HostileBytes(t *testing.T) {
	c := newCluster(t, 3)
	c.startAll()
	cl := c.dial(0)
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			k := fmt.Appendf(nil, "bystander-%d", i%1000)
			if _, err := cl.Put(context.Background(), k, k); err != nil {
				stopped <- fmt.Errorf("put %s: %w", k, err)
				return
			}
			if _, err := cl.Get(context.Background(), k); err != nil {
				stopped <- fmt.Errorf("get %s: %w", k, err)
				return
			}
		}
	}()
	// The bystander fills caches and buffers first, which is no growth of ours.
	until(t, "the bystander has written", time.Minute, func() bool {
		_, err := cl.Get(context.Background(), []byte("bystander-999"))
		return err == nil
	})
	before := c.rss(0)

	noise := make([]byte, 1<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	claim := append([]byte{0xff, 0xff, 0xff, 0xff}, bytes.Repeat([]byte{'x'}, 64)...)
	http := []byte("POST / HTTP/1.1\r\nHost: kith\r\n\r\n")
	for _, addr := range []string{c.servers[0].addr, c.servers[0].gossip} {
		for _, data := range [][]byte{noise, claim, http, {0}, []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")} {
			raw(t, addr, data)
		}
	}
	if u, err := net.Dial("udp", c.servers[0].gossip); err != nil {
		t.Error(err)
	} else {
		for i := range 200 {
			u.Write(noise[i*1000 : i*1000+1000])
		}
		u.Close()
	}

	n := rpc.NewClient(rpc.TCPConfig{})
	defer n.Close()
	nested := bytes.Repeat([]byte{0x91}, 2<<20)
	many := append([]byte{0xdd, 0x02, 0xfa, 0xf0, 0x80}, make([]byte, 100)...)
	maps := []byte{0xdf, 0x04, 0x00, 0x00, 0x00}
	long := []byte{0xc6, 0x7f, 0xff, 0xff, 0xff}
	for _, route := range []string{"kv.get", "kv.put", "kv.getall", "kv.putall", "kv.scan", "kv.merge", "kv.read", "kv.keys", "cluster.status", "cluster.ring", "no.such.route"} {
		for _, body := range [][]byte{nested, many, maps, long, noise[:5000], nil, append([]byte{0x93, 0xc6}, noise[:9]...)} {
			if route == "cluster.status" && len(body) == 0 {
				continue // an empty message of later fields only
			}
			if err := c.send(n, route, body); err == nil {
				t.Errorf("%s takes %d bytes of %.5x", route, len(body), body)
			}
		}
	}
	if grown := c.rss(0) - before; grown > 64<<20 {
		t.Errorf("resident memory grew by %d MiB", grown>>20)
	} else {
		t.Logf("resident memory grew by %d KiB", grown>>10)
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Errorf("a concurrent client: %v", err)
	}
	c.waitReady()
}

func TestFault56_BadKeysAndValues(t *testing.T) {
	c := newCluster(t, 1, "--replicas", "1")
	c.startAll()
	ctx := context.Background()
	cl := c.dial(0)
	big := make([]byte, 1<<20)
	for _, tc := range []struct {
		name string
		key  []byte
		val  []byte
		want error
	}{
		{"empty key", nil, nil, client.ErrBadRequest},
		{"5,000-byte key", make([]byte, 5000), nil, client.ErrTooLarge},
		{"value over the limit", []byte("k"), append(big, 0), client.ErrTooLarge},
	} {
		if _, err := cl.Put(ctx, tc.key, tc.val); !errors.Is(err, tc.want) || !client.Refused(err) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	for _, key := range []string{"\x00", "\xff\xfe", "a\nb", "ü", strings.Repeat("k", 4096), "{", "{}x", " "} {
		if _, err := cl.Put(ctx, []byte(key), []byte(key)); err != nil {
			t.Errorf("key %.20q: %v", key, err)
		}
		if got, err := cl.Get(ctx, []byte(key)); err != nil || string(got.Value) != key {
			t.Errorf("key %.20q reads %.20q, %v", key, got.Value, err)
		}
	}
	if _, err := cl.Put(ctx, []byte("big"), big); err != nil {
		t.Errorf("a value at the limit: %v", err)
	}
	for _, args := range [][]string{
		{"put", "k", "v", "--w", "9"}, {"get", "k", "--r", "9"}, {"get", "k", "--r", "some"}, {"put", "", "v"},
		{"put", "k", "v", "--context", "!"}, {"get", "k", "--format", "yaml"}, {"frobnicate"}, {"get"},
	} {
		if r := c.kith(args...); r.code != 2 || r.stderr == "" || r.stdout != "" {
			t.Errorf("kith %v: exit status %d, stdout %q, stderr %q", args, r.code, r.stdout, r.stderr)
		}
	}
}

func TestFault39_TwoServersOnOneDirectory(t *testing.T) {
	c := newCluster(t, 1, "--replicas", "1")
	c.startAll()
	ports := freePorts(t, 2)
	r := run(t, c.bin, nil, "server", "--data", c.servers[0].data, "--listen", ports[0], "--gossip", ports[1], "--expect", "1", "--replicas", "1")
	if r.code == 0 || !strings.Contains(r.stderr, "another process") {
		t.Errorf("exit status %d: %s", r.code, r.stderr)
	}
	c.must("put", "k", "v")
}

// TestFault50_ServerOfAnotherCluster: two clusters of one name never mix, and
// each says so.
func TestFault50_ServerOfAnotherCluster(t *testing.T) {
	a, b := newCluster(t, 1, "--replicas", "1"), newCluster(t, 1, "--replicas", "1")
	a.startAll()
	b.startAll()
	a.must("put", "k", "a")
	b.must("put", "k", "b")
	// b's server comes back with a's as its seed.
	b.kill(0)
	b.servers[0].args = append(b.servers[0].args[:9], "--join", a.servers[0].gossip)
	b.start(0)
	until(t, "the refusal is logged", 30*time.Second, func() bool {
		text, _ := os.ReadFile(filepath.Join(b.dir, "n1.log"))
		return bytes.Contains(text, []byte("another cluster")) || bytes.Contains(text, []byte("different cluster"))
	})
	b.waitReady()
	if got := strings.TrimSpace(a.must("get", "k")); got != "a" {
		t.Errorf("the first cluster reads %q", got)
	}
	if got := strings.TrimSpace(b.must("get", "k")); got != "b" {
		t.Errorf("the second cluster reads %q", got)
	}
	if s := a.status(0); len(s.Members) != 1 {
		t.Errorf("the first cluster has %d members", len(s.Members))
	}
}

// TestFault35_FounderWithWipedDisk: it would found a second cluster, and stops
// once the first one's members reach it.
func TestFault35_FounderWithWipedDisk(t *testing.T) {
	c := newCluster(t, 3)
	c.startAll()
	c.must("put", "k", "v")
	c.kill(0)
	if err := os.RemoveAll(c.servers[0].data); err != nil {
		t.Fatal(err)
	}
	c.start(0)
	select {
	case <-c.servers[0].exited:
	case <-time.After(90 * time.Second):
		t.Fatal("the wiped founder goes on")
	}
	if code := c.servers[0].cmd.ProcessState.ExitCode(); code == 0 {
		t.Error("it ended with exit status 0")
	}
	text, _ := os.ReadFile(filepath.Join(c.dir, "n1.log"))
	if !bytes.Contains(text, []byte("lost")) {
		t.Errorf("it does not say why: %s", text)
	}
	if got := strings.TrimSpace(c.must("get", "k", "--addr", c.servers[1].addr)); got != "v" {
		t.Errorf("the others read %q", got)
	}
	c.must("put", "k2", "v", "--addr", c.servers[1].addr)
}
