package client_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// spread puts the nodes into zones by turns.
func (w *world) spread(zones ...string) {
	var members []ring.Member
	for i, n := range w.nodes {
		members = append(members, ring.Member{ID: n.id, Zone: zones[i%len(zones)], Weight: 1, State: ring.Active})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.record = table(w.t, ring.ClusterID{1}, members)
}

func (w *world) zoneOf(n *far) string { return w.record.Member(n.id).Zone }

// took are the reads that a node was asked for, and how many writes.
func (n *far) took() (reads []string, puts []api.PutRequest) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.reads), slices.Clone(n.puts)
}

// A client in a zone asks the homes there first, then other homes, and tells its zone
// where that matters.
func TestClientsAskTheirOwnZoneFirst(t *testing.T) {
	inBubble(t, 6, func(t *testing.T, w *world) {
		w.spread("eu", "us")
		c := w.dial(client.WithZone("us"))
		defer c.Close()
		for i := range 30 {
			key := []byte(fmt.Sprint("key-", i))
			if _, err := c.Put(t.Context(), key, []byte("v")); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Get(t.Context(), key, client.LocalQuorum); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range w.nodes {
			if reads, puts := n.took(); (w.zoneOf(n) == "us") != (len(reads)+len(puts) > 0) {
				t.Errorf("%s in %s took %d reads and %d writes", n.peer.Addr, w.zoneOf(n), len(reads), len(puts))
			}
		}
		for _, n := range w.nodes {
			if w.zoneOf(n) == "us" {
				n.host.Crash()
			}
		}
		time.Sleep(time.Second)
		if _, err := c.Get(t.Context(), []byte("key-0")); err != nil {
			t.Errorf("with the zone gone: %v", err)
		}
	})
}

// The zone goes with every request at LocalQuorum, and with no other.
func TestTheZoneGoesWithLocalQuorum(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, w *world) {
		w.spread("eu", "us")
		c := w.dial(client.WithZone("eu"))
		defer c.Close()
		for level, zone := range map[client.Level]string{client.LocalQuorum: "eu", client.EachQuorum: "", client.Quorum: "", client.R(2): ""} {
			ctx, key := context.Background(), []byte("k")
			wrote, err := c.Put(ctx, key, []byte("v"), level)
			if err != nil {
				t.Fatal(err)
			}
			if want := (client.ZoneReceipt{Zone: "eu", Need: 2, Got: 3, Homes: 4}); len(wrote.Receipt.Zones) != 1 || wrote.Receipt.Zones[0] != want {
				t.Errorf("receipt %+v", wrote.Receipt)
			}
			if _, err := c.Get(ctx, key, level); err != nil {
				t.Fatal(err)
			}
			c.GetAll(ctx, [][]byte{key}, level)
			c.PutAll(ctx, []client.Put{{Key: key, Value: []byte("v")}}, level)
			for _, err := range c.Scan(ctx, []byte("{k}"), level) {
				if err != nil {
					t.Fatal(err)
				}
			}
			routes := map[string]bool{}
			for _, n := range w.nodes {
				n.mu.Lock()
				for _, r := range n.reads {
					route, rest, _ := strings.Cut(r, " ")
					if rest != fmt.Sprintf("%d %s", level, zone) {
						t.Errorf("level %d: %s", level, r)
					}
					routes[route] = true
				}
				for _, p := range n.puts {
					if p.W != api.Level(level) || p.Zone != zone {
						t.Errorf("level %d: put at %d for %q", level, p.W, p.Zone)
					}
					routes["put"] = true
				}
				n.reads, n.puts = nil, nil
				n.mu.Unlock()
			}
			if len(routes) != 4 {
				t.Errorf("level %d: routes %v", level, routes)
			}
		}
	})
}

// Every home is tried before the call fails, wherever it is.
func TestHomesElsewhereAreAskedWhenTheNearOnesRefuse(t *testing.T) {
	inBubble(t, 6, func(t *testing.T, w *world) {
		w.spread("eu", "us", "asia")
		c := w.dial(client.WithZone("asia"))
		defer c.Close()
		for _, n := range w.nodes {
			if w.zoneOf(n) == "asia" {
				n.mu.Lock()
				n.refuse = func([]byte) error { return api.ErrNotReady }
				n.mu.Unlock()
			}
		}
		if _, err := c.Put(t.Context(), []byte("k"), []byte("v")); err != nil {
			t.Error(err)
		}
		var asked []string
		for _, n := range w.nodes {
			if _, puts := n.took(); len(puts) > 0 {
				asked = append(asked, w.zoneOf(n))
			}
		}
		if len(asked) != 2 || !slices.Contains(asked, "asia") {
			t.Errorf("asked in %v", asked)
		}
	})
}
