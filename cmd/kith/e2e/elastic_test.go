package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
)

func isNotFound(err error) bool { return errors.Is(err, client.ErrNotFound) }

// elasticSize is how many keys the tests of growing and shrinking move: KITH_E2E_KEYS,
// of which 200000 is what is promised. Partitions grow with them.
func elasticSize(t *testing.T, fewest int) (keys int, flags []string) {
	keys = fewest
	if text := os.Getenv("KITH_E2E_KEYS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < fewest {
			t.Fatalf("KITH_E2E_KEYS=%s: want a number, %d or more", text, fewest)
		}
		keys = n
	}
	partitions := 64
	if keys >= 100_000 {
		partitions = ring.PartitionsDefault
	}
	return keys, []string{"--partitions", fmt.Sprint(partitions)}
}

// add plans one more server, which joins through two others.
func (c *cluster) add(extra ...string) int {
	c.t.Helper()
	ports := freePorts(c.t, 2)
	s := &server{name: fmt.Sprintf("n%d", len(c.servers)+1), addr: ports[0], gossip: ports[1]}
	s.data = filepath.Join(c.dir, s.name)
	s.args = []string{"server", "--name", s.name, "--data", s.data, "--listen", s.addr, "--gossip", s.gossip}
	var seeds []string
	for _, other := range c.here() {
		seeds = append(seeds, other.gossip)
	}
	s.args = append(s.args, "--join", strings.Join(seeds[:min(2, len(seeds))], ","))
	s.args = append(s.args, extra...)
	c.servers = append(c.servers, s)
	return len(c.servers) - 1
}

// ringDoc is what the tests read of `kith ring --format json`.
type ringDoc struct {
	Epoch   uint64 `json:"epoch"`
	Members []struct {
		ID    string `json:"id"`
		Name  string `json:"name"`
		State string `json:"state"`
		Homes int    `json:"homes"`
	} `json:"members"`
	Partitions [][]string `json:"partitions"`
	Bounds     struct {
		Distinct    bool    `json:"distinct"`
		Balanced    bool    `json:"balanced"`
		Farthest    string  `json:"farthest"`
		Off         float64 `json:"farthest_slots"`
		ZonesUneven int     `json:"zones_uneven"`
		Slots       int     `json:"slots"`
		JoinSlots   int     `json:"join_slots"`
		JoinBound   int     `json:"join_bound"`
	} `json:"bounds"`
}

func (c *cluster) ring() ringDoc {
	c.t.Helper()
	var doc ringDoc
	out := c.must("ring", "--format", "json")
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		c.t.Fatalf("kith ring: %v\n%s", err, out)
	}
	return doc
}

// stateOf is a member's state in the ring; empty if it is none.
func (d *ringDoc) stateOf(name string) string {
	for _, m := range d.Members {
		if m.Name == name {
			return m.State
		}
	}
	return ""
}

func (d *ringDoc) homesOf(names ...string) (slots int) {
	for _, m := range d.Members {
		if slices.Contains(names, m.Name) {
			slots += m.Homes
		}
	}
	return slots
}

// settles waits until these members have the shares that they should, and nobody else
// has anything, and checks that this is so within the bounds of every plan.
func (c *cluster) settles(limit time.Duration, names ...string) ringDoc {
	c.t.Helper()
	var d ringDoc
	what := fmt.Sprintf("%v have it all", names)
	// Looking takes processors from those who are looked at.
	seldom(c.t, what, limit, func() bool {
		d = c.ring()
		if d.Bounds.Slots != 0 || d.Bounds.JoinSlots == 0 || c.movesNow().total() > 0 {
			return false
		}
		active := 0
		for _, m := range d.Members {
			if m.State == "active" {
				active++
			} else if m.Homes > 0 {
				return false
			}
		}
		return active == len(names) && !slices.ContainsFunc(names, func(n string) bool { return d.stateOf(n) != "active" })
	})
	b := &d.Bounds
	if !b.Balanced || !b.Distinct || b.ZonesUneven > 0 || b.JoinSlots > b.JoinBound {
		c.t.Errorf("%s, and the bounds do not hold: %+v", what, *b)
	}
	c.t.Logf("%s: farthest from its quota is %s by %.2f slots; one more would get %d slots, the bound is %d", what, b.Farthest, b.Off, b.JoinSlots, b.JoinBound)
	return d
}

// seldom waits for a condition and looks twice a second only.
func seldom(t *testing.T, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	until(t, what, limit, func() bool {
		<-tick.C
		return ok()
	})
}

// movesDoc is what the tests read of `kith ring moves --format json`.
type movesDoc struct {
	Epoch   uint64 `json:"epoch"`
	Queued  int    `json:"queued"`
	Running int    `json:"running"`
	Bytes   int64  `json:"bytes"`
}

func (d movesDoc) total() int { return d.Queued + d.Running }

func (c *cluster) movesNow() movesDoc {
	c.t.Helper()
	var doc movesDoc
	out := c.must("ring", "moves", "--format", "json")
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		c.t.Fatalf("kith ring moves: %v\n%s", err, out)
	}
	return doc
}

// waitGone waits until a server has ended by itself, as one does that has left, and is
// no member any more.
func (c *cluster) waitGone(i int) {
	c.t.Helper()
	s := c.servers[i]
	select {
	case <-s.exited:
	case <-time.After(time.Minute):
		c.t.Fatalf("%s has left, and goes on for a minute", s.name)
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		c.t.Errorf("%s has left, and ends with status %d", s.name, code)
	}
	s.left = true
	until(c.t, s.name+" is no member", time.Minute, func() bool { d := c.ring(); return d.stateOf(s.name) == "" })
}

// TestAClusterGrowsAndShrinksUnderLoad: three servers become seven, of which three join
// at the same moment, and then four, as three leave at once, while clients read and
// write at quorum without a pause. Nothing that was acknowledged is lost, no read is
// wrong, none is refused or unknown; balance and movement stay within their bounds.
func TestAClusterGrowsAndShrinksUnderLoad(t *testing.T) {
	keys, flags := elasticSize(t, 8_000)
	c := newCluster(t, 3, flags...)
	c.startAll()
	k := c.loaded(c.dialAll(), keys, 500)
	limit := 2*time.Minute + time.Duration(keys)*5*time.Millisecond // on a busy machine
	slotBytes := float64(k.bytes()) / float64(len(c.ring().Partitions))
	// compared logs what was moved beside the least that had to be: who joins must get
	// its slots, who leaves must give them.
	before := c.movesNow().Bytes
	compared := func(what string, slots int) {
		t.Helper()
		now := c.movesNow().Bytes
		least := slotBytes * float64(slots)
		t.Logf("%s: %d slots, %d bytes moved, the least is %.0f: %.2f times", what, slots, now-before, least, float64(now-before)/least)
		before = now
	}
	k.start(4)
	k.goesOn(2000)

	k.during("one joins")
	c.start(c.add())
	d := c.settles(limit, "n1", "n2", "n3", "n4")
	compared("3 to 4", d.homesOf("n4"))
	k.during("three join at once")
	for range 3 {
		c.start(c.add())
	}
	d = c.settles(limit, "n1", "n2", "n3", "n4", "n5", "n6", "n7")
	compared("4 to 7", d.homesOf("n5", "n6", "n7"))

	k.during("three leave at once")
	slots := d.homesOf("n1", "n2", "n3")
	c.must("leave", "n1")
	c.must("leave", "n2")
	c.must("leave", "n3")
	c.settles(limit, "n4", "n5", "n6", "n7")
	for i := range 3 {
		c.waitGone(i)
	}
	compared("7 to 4", slots)
	k.end(true)
	k.latencies("one joins", "three join at once", "three leave at once")
	c.waitReady()
	c.equalHomes(k)
	if sum := c.audited(); len(sum.Anomalies) != 0 {
		t.Errorf("an audit finds %d keys that differ: %v", sum.Differences, sum.Anomalies)
	}
	if n := strings.Count(c.must("export"), "\n"); n != keys {
		t.Errorf("%d keys come out, %d went in", n, keys)
	}
}

// equalHomes reads every key at all homes.
func (c *cluster) equalHomes(k *checker) {
	c.t.Helper()
	keys := make([][]byte, len(k.keys))
	for i := range keys {
		keys[i] = numbered(i)
	}
	at := 0
	for batch := range slices.Chunk(keys, 500) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		for _, r := range k.cl.GetAll(ctx, batch, client.All) {
			if n, err := numberOf(r.Result.Value); r.Err != nil || err != nil || n < k.keys[at].acked.Load() {
				c.t.Fatalf("%s at all homes: %.20q, %v; %d was acknowledged", numbered(at), r.Result.Value, r.Err, k.keys[at].acked.Load())
			}
			at++
		}
		cancel()
	}
}
