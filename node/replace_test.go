package node_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// member is what a node says of a member, itself or another, once it answers: a busy
// machine takes its time.
func (c *real) member(n *node.Node, id ring.NodeID) api.MemberStatus {
	c.t.Helper()
	m := api.MemberStatus{State: "absent"}
	until(c.t, "status is answered", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		resp, err := api.Status.Call(ctx, c.net, rpc.Peer{Addr: n.Addr()}, &api.StatusRequest{})
		if err != nil {
			return false
		}
		for i := range resp.Members {
			if resp.Members[i].ID == id.String() {
				m = resp.Members[i]
			}
		}
		return true
	})
	return m
}

// patiently is until for what takes several starts, ring records and greetings.
func patiently(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within two minutes: %s", what)
		}
		<-tick.C
	}
}

func TestALostMemberIsReplacedAndStaysAway(t *testing.T) {
	t.Parallel()
	c := found(t, 4, 3)
	for i := range 100 {
		if err := c.put(c.nodes[i%4], fmt.Sprintf("key-%d", i), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	old, seed := c.nodes[3], c.nodes[0].GossipAddr()
	id, homes := old.ID(), c.member(old, old.ID()).Homes

	alive := config(t.TempDir(), 4)
	alive.Join, alive.Replace = []string{seed}, id.Short()
	early := c.start(alive)
	<-early.Done()
	if err := early.Err(); err == nil || !strings.Contains(err.Error(), "it is alive") {
		t.Fatalf("a member that lives is replaced: %v", err)
	}

	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := config(t.TempDir(), 3) // of the same name
	cfg.Join = []string{seed}
	cfg.Replace = id.Short()
	heir := c.start(cfg)
	until(t, "the newcomer has the place", func() bool { return c.member(heir, heir.ID()).Homes == homes })
	until(t, "the lost one is nobody's member", func() bool {
		for _, n := range []*node.Node{c.nodes[0], c.nodes[1], c.nodes[2], heir} {
			if c.member(n, id).State != "absent" {
				return false
			}
		}
		return true
	})
	for i := range 100 {
		for _, n := range []*node.Node{c.nodes[0], c.nodes[1], heir} {
			until(t, "every key can be read", func() bool {
				got, err := c.get(n, fmt.Sprintf("key-%d", i))
				if err == nil && got != fmt.Sprint(i) {
					t.Fatalf("key-%d through %s: %q", i, n.ID().Short(), got)
				}
				return err == nil
			})
		}
	}

	back := config(c.dir, 3)
	back.Join = []string{seed}
	n, err := node.Start(back)
	if err == nil { // it learns of it from the others
		c.nodes = append(c.nodes, n)
		<-n.Done()
		err = n.Err()
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	if !errors.Is(err, ring.ErrBanned) || !strings.Contains(err.Error(), "empty directory") {
		t.Errorf("the replaced member comes back: %v", err)
	}
	if _, err := node.Start(back); !errors.Is(err, ring.ErrBanned) {
		t.Errorf("and again: %v", err)
	}
}

// A node of a known name that comes with an empty directory is told which command
// puts it in its old place.
func TestAnEmptyDirectoryUnderAKnownNameSaysWhatToType(t *testing.T) {
	t.Parallel()
	c := found(t, 4, 3)
	id := c.nodes[3].ID()
	if err := c.nodes[3].Close(); err != nil {
		t.Fatal(err)
	}
	c.nodes = c.nodes[:3]
	cfg := config(t.TempDir(), 3)
	cfg.Join = []string{c.nodes[0].GossipAddr()}
	n := c.start(cfg)
	until(t, "status says which command", func() bool {
		m := c.member(n, n.ID())
		return m.State == "standby" && strings.Contains(strings.Join(m.Problems, "\n"), "--replace "+id.String())
	})
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Replace = id.String() // by what it was told
	heir := c.start(cfg)
	until(t, "it has the place", func() bool { return c.member(heir, heir.ID()).Homes > 0 })
}

func TestReplaceIsCheckedBeforeAnythingStarts(t *testing.T) {
	c := found(t, 1, 1)
	for _, tc := range []struct {
		replace string
		expect  int
		want    string
	}{
		{"abc", 0, "first 8 digits"},
		{"not-hexadecimal", 0, "first 8 digits"},
		{strings.Repeat("a", 33), 0, "first 8 digits"},
		{strings.Repeat("a", 32), 3, "does not found"},
	} {
		cfg := config(t.TempDir(), 0)
		cfg.Replace, cfg.Expect, cfg.Join = tc.replace, tc.expect, []string{c.nodes[0].GossipAddr()}
		if n, err := node.Start(cfg); err == nil || !errors.Is(err, node.ErrConfig) || !strings.Contains(err.Error(), tc.want) {
			if n != nil {
				n.Close()
			}
			t.Errorf("--replace %s --expect %d: %v", tc.replace, tc.expect, err)
		}
	}
	if err := c.nodes[0].Close(); err != nil {
		t.Fatal(err)
	}
	c.nodes = nil
	cfg := config(c.dir, 0)
	cfg.Replace = strings.Repeat("a", 32)
	if n, err := node.Start(cfg); err == nil || !strings.Contains(err.Error(), "place of its own") {
		if n != nil {
			n.Close()
		}
		t.Errorf("a home takes another's place: %v", err)
	}
}

// While a second home is away, the newcomer says for whom it waits, and everybody
// that the lost one is given up.
func TestAReplacementSaysForWhomItWaits(t *testing.T) {
	t.Parallel()
	c := found(t, 5, 3)
	seed, old, away := c.nodes[0].GossipAddr(), c.nodes[4], c.nodes[3]
	for _, n := range []*node.Node{old, away} {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	c.nodes = c.nodes[:3]
	cfg := config(t.TempDir(), 5)
	cfg.Join, cfg.Replace = []string{seed}, old.ID().String()
	heir := c.start(cfg)
	patiently(t, "the newcomer says for whom it waits", func() bool {
		problems := strings.Join(c.member(heir, heir.ID()).Problems, "\n")
		return strings.Contains(problems, "waits to take the place") && strings.Contains(problems, "must store that") && strings.Contains(problems, "n4")
	})
	patiently(t, "the lost one is shown as lost", func() bool {
		m := c.member(c.nodes[0], old.ID())
		return m.State == "lost" && m.Homes > 0 && strings.Contains(strings.Join(m.Problems, "\n"), "--replace "+old.ID().String())
	})
	// The newcomer dies, and goes on by itself; the other one comes back.
	if err := heir.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Replace = ""
	heir = c.start(cfg)
	back := config(c.dir, 3)
	back.Join = []string{seed}
	c.start(back)
	patiently(t, "the newcomer has the place, and is ready", func() bool {
		m := c.member(heir, heir.ID())
		return m.Homes > 0 && m.State == "ready" && len(m.Problems) == 0
	})
}
