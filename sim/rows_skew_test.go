package sim_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
)

// answers keeps the largest answer of each route of repair, and how many there were.
type answers struct {
	mu      sync.Mutex
	largest map[string]int
	count   map[string]int
}

func (a *answers) hear(e network.Event) {
	if e.What != "answered" || !strings.HasPrefix(e.Note, "ae.") {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.largest[e.Note] = max(a.largest[e.Note], e.Size)
	a.count[e.Note]++
}

// listening makes options whose network tells of answers.
func listening(o sim.Options) (sim.Options, *answers) {
	a := &answers{largest: map[string]int{}, count: map[string]int{}}
	o.Network.Trace = a.hear
	return o, a
}

// bounded wants no answer of repair to have been larger than a page and one record,
// and several pages where there was much to send.
func (a *answers) bounded(t *testing.T, route string, pages, record int) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for r, size := range a.largest {
		if size > 1<<20+record+64<<10 {
			t.Errorf("an answer of %s had %d bytes", r, size)
		}
	}
	if a.count[route] < pages {
		t.Errorf("%d answers of %s, want %d or more: that proves nothing about one of them", a.count[route], route, pages)
	}
}

// reading is one look at what a node says of its progress.
type reading struct {
	at      time.Time
	pulled  int64
	missing int64
	eta     float64
}

// watch reads a node's progress until it says that it is whole.
func watch(t *testing.T, c *sim.Cluster, m *sim.Machine, limit time.Duration) []reading {
	t.Helper()
	var out []reading
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		check(t, c.CheckBounds())
		s := own(c, m)
		if s == nil {
			continue
		}
		r := s.Repair
		out = append(out, reading{time.Now(), r.PulledKeys, r.Missing, r.ETA})
		if s.State == "ready" && r.Behind == 0 && r.Lossy == 0 {
			if r.Missing != 0 || r.ETA != 0 {
				t.Errorf("it is whole, and %d writes are missing, for %v s", r.Missing, r.ETA)
			}
			return out
		}
	}
	t.Fatalf("%s is not whole after %v: %+v", m.Name, limit, own(c, m).Repair)
	return nil
}

// A partition has a hundred times the keys of the others, and one of its homes was
// away for all of them. Answers stay within their bound, what is said to be missing
// and to be fetched is what it is, and the time that is left is about true.
func TestFault54_PartitionWithAHundredTimesTheKeys(t *testing.T) {
	o, heard := listening(sim.Options{Seed: 54})
	in(t, o, func(t *testing.T, c *sim.Cluster) {
		h := sim.NewHistory()
		cl := must(c.Client(h, nil))
		defer cl.Close()
		key := func(n int) string { return fmt.Sprintf("{hot}%d", n) }
		homes := must(c.HomesOf(key(0)))
		m := c.Machines[homes[0]]
		m.Stop()
		time.Sleep(time.Second) // its clients notice
		const hot, size = 2000, 3 << 10
		for n := range hot {
			heavy(t, cl, h, key(n), size, client.Quorum)
		}
		load(t, cl, "cold", 15*hot/100)
		narrow(c, homes[0], 200<<10) // 6 MB take 15 s or more
		check(t, m.Start())
		seen := watch(t, c, m, 5*time.Minute)
		last := seen[len(seen)-1]
		if last.pulled < hot || last.pulled > hot*5/4+300 {
			t.Errorf("%d records are said to be fetched, of %d", last.pulled, hot)
		}
		heard.bounded(t, "ae.pull", 6, size)
		largest, told := int64(0), 0
		for i, r := range seen {
			largest = max(largest, r.missing)
			if i > 0 && r.pulled < seen[i-1].pulled {
				t.Errorf("fetched goes back from %d to %d", seen[i-1].pulled, r.pulled)
			}
			// The speed is that of some seconds; pages come one at a time.
			left := last.at.Sub(r.at).Seconds()
			if r.at.Sub(seen[0].at) > 10*time.Second && r.eta > 0 && left > 5 {
				told++
				if r.eta > 3*left || r.eta < left/3 {
					t.Errorf("%v s are said to be left, and it were %v; %d missing", r.eta, left, r.missing)
				}
			}
		}
		if largest < hot || largest > hot+15*hot/100+50 || told == 0 {
			t.Errorf("%d writes were said to be missing at most, of %d; %d times it was said for how long", largest, hot, told)
		}
		equalAndWhole(t, c, h)
	})
}

// One node of twelve is a home of every key, and has ten times what each other has.
// It loses its disk. All others fill its place at the same time, within the bounds
// of each node, and it says truly how far that is.
func TestFault54_NodeWithTenTimesTheDataIsFilledAgain(t *testing.T) {
	o, heard := listening(sim.Options{Seed: 540, Nodes: 12, Replicas: 2, Partitions: 128})
	in(t, o, func(t *testing.T, c *sim.Cluster) {
		h := sim.NewHistory()
		const full, keys, size = 0, 800, 8 << 10
		m := c.Machines[full]
		cl := must(c.Client(h, nil))
		defer cl.Close()
		r := must(c.Ring())
		for n, written := 0, 0; written < keys; n++ {
			key := fmt.Sprintf("k%d", n)
			if r.HomeIndex(r.PartitionOf([]byte(key)), m.ID()) < 0 {
				continue
			}
			written++
			heavy(t, cl, h, key, size, client.All)
		}
		for _, other := range c.Machines[1:] {
			if n := other.Node().Store().Stats().Keys; n*5 > keys {
				t.Fatalf("%s has %d keys of %d: nothing is uneven", other.Name, n, keys)
			}
		}
		m.LoseDisk()
		narrow(c, full, 500<<10)
		check(t, m.Start())
		waitUntil(t, 2*time.Minute, "it does not get its place", func() bool {
			s := own(c, m)
			return s != nil && s.Homes > 0
		})
		seen := watch(t, c, m, 5*time.Minute)
		if last := seen[len(seen)-1]; last.pulled < keys || last.pulled > keys*5/4 {
			t.Errorf("%d records are said to be fetched, of %d", last.pulled, keys)
		}
		heard.bounded(t, "ae.pull", 12, size)
		equalAndWhole(t, c, h)
	})
}
