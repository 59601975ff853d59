package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
)

// TestTheOnlyCopyIsAway: with one home for each key, and that one's machine dead, every
// answer says what is so: reads and writes are refused, nobody is given its place or
// gives it up, and all is there again with the machine.
func TestTheOnlyCopyIsAway(t *testing.T) {
	c := newCluster(t, 1, "--replicas", "1", "--partitions", "16")
	c.startAll()
	k := c.loaded(c.dialAll(), 500, 100)
	for range 2 {
		c.start(c.add("--standby"))
	}
	c.waitReady()
	if d := c.ring(); d.homesOf("n1") != 16 || d.stateOf("n2") != "standby" || d.stateOf("n3") != "standby" {
		t.Fatalf("n1 holds not everything, or the others are not on standby: %+v", d.Members)
	}
	c.kill(0)
	c.servers[0].left = true // nobody asks it
	c.waitDown(1, "n1")
	ask := func(want int, say string, args ...string) {
		t.Helper()
		r := c.kith(args...)
		if r.code != want || !strings.Contains(r.stdout+r.stderr, say) {
			t.Errorf("kith %v: exit status %d, want %d and %q\n%s%s", args, r.code, want, say, r.stdout, r.stderr)
		}
	}
	key := string(numbered(7))
	ask(6, "n1", "get", key)
	ask(6, "nothing was written", "put", key, "v")
	ask(6, "nothing was written", "put", key, "v", "--sloppy")
	ask(6, "", "export")
	ask(0, "unreachable", "status")
	ask(0, "2 of 3 members reachable", "status")
	ask(124, "not ready after", "status", "--wait", "ready", "--timeout", "2s")
	ask(0, "n1", "why", key)
	ask(0, "no", "ring", key)
	// A leave needs the one that leaves, and a removal would lose all there is.
	for _, args := range [][]string{{"remove", "n1"}, {"leave", "n1"}, {"replace", "n1", "--with", "n2"}} {
		r := c.kith(append(args, "--timeout", "5s")...)
		t.Logf("kith %v: exit status %d\n%s%s", args, r.code, r.stdout, r.stderr)
		if args[0] == "remove" && r.code == 0 {
			t.Errorf("a removal that loses everything is done")
		}
	}
	if d := c.ring(); d.homesOf("n1") != 16 {
		t.Errorf("the others took what they do not have: %+v", d.Members)
	}

	c.servers[0].left = false
	c.start(0)
	c.waitReady()
	c.hasAll(k)

	// Another one gets its share, and with it the only copy of that.
	c.must("join", "n2", "--wait", "--timeout", "60s")
	c.kill(1)
	c.servers[1].left = true
	c.waitDown(0, "n2")
	c.waitDown(2, "n2")
	ask(6, "the only copy of 8 of 16 partitions", "remove", "n2")
	ask(6, "the only copy of 8 of 16 partitions", "ring", "plan", "remove", "n2")
	ask(6, "", "replace", "n2", "--with", "n3")
	if d := c.ring(); d.homesOf("n2") != 8 || d.stateOf("n2") != "active" {
		t.Errorf("it was given up: %+v", d.Members)
	}
	c.servers[1].left = false
	c.start(1)
	c.waitReady()
	c.hasAll(k)
}

// hasAll reads every key at all homes, as it was loaded.
func (c *cluster) hasAll(k *checker) {
	c.t.Helper()
	cl := c.dial(2)
	for i := range k.keys {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		got, err := cl.Get(ctx, numbered(i), client.All)
		cancel()
		if n, bad := numberOf(got.Value); err != nil || bad != nil || n != 1 {
			c.t.Fatalf("%s: %.20q, %v", numbered(i), got.Value, err)
		}
	}
}
