package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/quorum"
)

// status is what the tests read of `kith status --format json`.
type status struct {
	Members []struct {
		Name      string `json:"name"`
		ID        string `json:"id"`
		State     string `json:"state"`
		Reachable bool   `json:"reachable"`
	} `json:"members"`
}

func (c *cluster) status(via int) status {
	c.t.Helper()
	r := run(c.t, c.bin, nil, "status", "--addr", c.servers[via].addr, "--format", "json")
	var s status
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		c.t.Fatalf("status of %s: %v\n%s%s", c.servers[via].name, err, r.stdout, r.stderr)
	}
	return s
}

func (c *cluster) dial(via ...int) *client.Client {
	c.t.Helper()
	var addrs []string
	for _, i := range via {
		addrs = append(addrs, c.servers[i].addr)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cl, err := client.Dial(ctx, addrs)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { cl.Close() })
	return cl
}

// dialAll is a client that knows every server that there is now.
func (c *cluster) dialAll() *client.Client {
	c.t.Helper()
	all := make([]int, len(c.servers))
	for i := range all {
		all[i] = i
	}
	return c.dial(all...)
}

// startAll starts every server in a random order and waits until all are ready.
func (c *cluster) startAll() {
	c.t.Helper()
	for _, i := range rand.Perm(len(c.servers)) {
		c.start(i)
	}
	c.waitReady()
}

// waitDown waits until a server's status shows others as unreachable.
func (c *cluster) waitDown(via int, names ...string) {
	c.t.Helper()
	until(c.t, fmt.Sprintf("%s shows %v as unreachable", c.servers[via].name, names), time.Minute, func() bool {
		down := 0
		for _, m := range c.status(via).Members {
			for _, name := range names {
				if m.Name == name && !m.Reachable {
					down++
				}
			}
		}
		return down == len(names)
	})
}

// TestTwoOfFiveDown: quorum operations go on for every key that has a quorum;
// the others are refused at once, and R=one still reads them.
func TestTwoOfFiveDown(t *testing.T) {
	c := newCluster(t, 5)
	c.startAll()
	ctx := context.Background()
	cl := c.dial(0)
	var keys [][]byte
	for i := range 300 {
		keys = append(keys, fmt.Appendf(nil, "key-%d", i))
	}
	for _, k := range keys {
		if _, err := cl.Put(ctx, k, k, client.All); err != nil {
			t.Fatal(err)
		}
	}
	c.kill(3)
	c.kill(4)
	for i := range 3 {
		c.waitDown(i, "n4", "n5")
	}
	ok, refused := 0, 0
	var without []byte // a key without a quorum
	var slowest time.Duration
	for _, k := range keys {
		start := time.Now()
		_, err := cl.Put(ctx, k, []byte("new"))
		took := time.Since(start)
		got, errGet := cl.Get(ctx, k)
		switch {
		case err == nil && errGet == nil && string(got.Value) == "new":
			ok++
			continue
		case !client.Refused(err) || client.Unknown(err):
			t.Fatalf("put %s: %v", k, err)
		case errGet == nil:
			t.Fatalf("put %s is refused, and a read at quorum is not", k)
		}
		refused++
		without = k
		slowest = max(slowest, took)
		var unmet *quorum.UnmetError
		if !errors.As(err, &unmet) || !strings.Contains(err.Error(), "n4") || !strings.Contains(err.Error(), "n5") {
			t.Errorf("the refusal of %s does not name the homes: %v", k, err)
		}
		if got, err := cl.Get(ctx, k, client.One); err != nil || string(got.Value) != string(k) {
			t.Errorf("get %s at one: %q, %v", k, got.Value, err)
		}
	}
	t.Logf("%d keys have a quorum; %d were refused, the slowest in %v", ok, refused, slowest)
	if ok == 0 || refused == 0 {
		t.Errorf("%d keys with a quorum and %d without: the test shows only one case", ok, refused)
	}
	r := c.kith("put", string(without), "y", "--w", "all", "--addr", c.servers[0].addr)
	if r.code != 6 {
		t.Errorf("put %s at all: exit status %d: %s", without, r.code, r.stderr)
	}
}

func TestTwoOfFiveDownWithFiveReplicas(t *testing.T) {
	c := newCluster(t, 5, "--replicas", "5")
	c.startAll()
	ctx := context.Background()
	cl := c.dial(0, 1, 2)
	c.kill(3)
	c.kill(4)
	c.waitDown(0, "n4", "n5")
	for i := range 200 {
		k := fmt.Appendf(nil, "key-%d", i)
		if _, err := cl.Put(ctx, k, k); err != nil {
			t.Fatal(err)
		}
		if got, err := cl.Get(ctx, k); err != nil || string(got.Value) != string(k) {
			t.Fatalf("get %s: %q, %v", k, got.Value, err)
		}
	}
}

// storm writes as fast as it can until stop, and keeps what was acknowledged.
type storm struct {
	acked sync.Map // key -> value
	count atomic.Int64
	done  sync.WaitGroup
	stop  chan struct{}
}

func (c *cluster) storm(callers int) *storm {
	s := &storm{stop: make(chan struct{})}
	cl := c.dialAll()
	for w := range callers {
		s.done.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-s.stop:
					return
				default:
				}
				k, v := fmt.Sprintf("storm-%d-%d", w, i%500), fmt.Sprintf("%d", i)
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
				_, err := cl.Put(ctx, []byte(k), []byte(v))
				cancel()
				if err == nil {
					s.acked.Store(k, i)
					s.count.Add(1)
				}
			}
		})
	}
	return s
}

func (s *storm) end() {
	close(s.stop)
	s.done.Wait()
}

// check reads every acknowledged key: it has the acknowledged value or a later
// one of its only writer.
func (c *cluster) check(s *storm) {
	c.t.Helper()
	cl := c.dial(0)
	s.acked.Range(func(k, v any) bool {
		got, err := cl.Get(context.Background(), []byte(k.(string)))
		if err != nil {
			c.t.Errorf("%s: %v", k, err)
			return true
		}
		var n int
		if _, err := fmt.Sscan(string(got.Value), &n); err != nil || n < v.(int) {
			c.t.Errorf("%s: %d was acknowledged, %q is there (%v)", k, v, got.Value, err)
		}
		return true
	})
	c.t.Logf("%d writes were acknowledged", s.count.Load())
}

func TestFault18_KillDuringPutStorm(t *testing.T) {
	c := newCluster(t, 3)
	c.startAll()
	s := c.storm(16)
	for i := range 3 {
		before := s.count.Load()
		until(t, "writes go on", time.Minute, func() bool { return s.count.Load() > before+200 })
		c.kill(i)
		before = s.count.Load()
		until(t, "writes go on with one server down", time.Minute, func() bool { return s.count.Load() > before+200 })
		c.start(i)
		c.waitReady()
	}
	s.end()
	c.check(s)
}

func TestFault21_AllKilledAtOnce(t *testing.T) {
	c := newCluster(t, 5)
	c.startAll()
	s := c.storm(16)
	until(t, "some writes", time.Minute, func() bool { return s.count.Load() > 1000 })
	for i := range c.servers {
		c.servers[i].cmd.Process.Kill()
	}
	for i := range c.servers {
		<-c.servers[i].exited
	}
	s.end()
	for _, i := range rand.Perm(len(c.servers)) {
		// By the directory alone: the book of peers knows the others.
		c.servers[i].args = c.servers[i].args[:9]
		c.start(i)
	}
	c.waitReady()
	c.check(s)
}
