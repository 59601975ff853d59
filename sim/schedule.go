package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/sim/network"
)

// Story is a run of clients against a cluster while faults befall it, all drawn
// from the cluster's seed.
type Story struct {
	// Faults to draw from; nil is AllFaults.
	Faults []Fault
	// Length of the run. 0 is 20 s.
	Length time.Duration
	// Clients, each with one operation at a time. 0 is 4.
	Clients int
	// Keys that clients fight over with contexts. 0 is 3. As many again are
	// written blindly, and every client has keys that it writes once.
	Keys int
}

// Fault befalls the cluster and says in a few words what it did. What it
// returns ends it; nil if nothing has to be ended.
type Fault struct {
	Name  string
	Begin func(c *Cluster, rng *rand.Rand) (note string, end func() error)
}

// AllFaults are those that lose nothing that was promised.
func AllFaults() []Fault {
	return []Fault{halves, isolate, oneWay, lossy, late, pause, kill, powerCut, slowDisk, syncError, diskFull, clockJump, wrongView}
}

var (
	halves = Fault{"halves", func(c *Cluster, rng *rand.Rand) (string, func() error) {
		order := rng.Perm(len(c.Machines))
		cut := 1 + rng.IntN(len(order)/2)
		c.Partition(order[:cut], order[cut:])
		return fmt.Sprint(c.Names(order[:cut]...), " from ", c.Names(order[cut:]...)), c.healNetwork
	}}
	isolate = Fault{"isolate", func(c *Cluster, rng *rand.Rand) (string, func() error) {
		m := rng.IntN(len(c.Machines))
		c.Isolate(m)
		return c.Machines[m].Name, c.healNetwork
	}}
	oneWay = Fault{"one way", func(c *Cluster, rng *rand.Rand) (string, func() error) {
		order := rng.Perm(len(c.Machines))
		c.Cut(order[0], order[1])
		return fmt.Sprint(c.Names(order[:2]...)), c.healNetwork
	}}
	lossy = Fault{"lossy links", func(c *Cluster, rng *rand.Rand) (string, func() error) {
		before := c.opts.Network.Link
		c.Network.SetDefault(network.Link{Latency: 2 * time.Millisecond, Jitter: 20 * time.Millisecond,
			Loss: rng.Float64() / 4, Reset: rng.Float64() / 50, Duplicate: rng.Float64() / 4})
		return "", func() error { c.Network.SetDefault(before); return nil }
	}}
	late = Fault{"late messages", func(c *Cluster, rng *rand.Rand) (string, func() error) {
		before := c.opts.Network.Link
		c.Network.SetDefault(network.Link{Latency: time.Millisecond, Jitter: time.Millisecond,
			Late: rng.Float64() / 5, LateBy: 2 * time.Minute})
		return "", func() error { c.Network.SetDefault(before); return nil }
	}}
	pause = onMachine("pause", func(m *Machine, _ *rand.Rand) func() error {
		m.Pause()
		return func() error { m.Resume(); return nil }
	})
	kill = onMachine("kill", func(m *Machine, _ *rand.Rand) func() error {
		m.Kill()
		return m.restart
	})
	powerCut = onMachine("power cut", func(m *Machine, rng *rand.Rand) func() error {
		m.Disk.SetTear(disk.Tear(rng.IntN(3)))
		m.PowerCut()
		return m.restart
	})
	slowDisk = onMachine("slow disk", func(m *Machine, rng *rand.Rand) func() error {
		delay := time.Duration(rng.Int64N(int64(2 * time.Second)))
		m.Disk.SetSyncDelay(func() time.Duration { return delay })
		return func() error { m.spin(); return nil }
	})
	syncError = onMachine("fsync error", func(m *Machine, rng *rand.Rand) func() error {
		m.Disk.FailSync(disk.Of(storage.TypeJournal), 1, rng.IntN(2) == 0, disk.ErrIO)
		return nil
	})
	diskFull = onMachine("disk full", func(m *Machine, _ *rand.Rand) func() error {
		m.Disk.SetCapacity(m.Disk.Bytes() + 100)
		return func() error { m.Disk.SetCapacity(0); return nil }
	})
	clockJump = onMachine("clock jump", func(m *Machine, rng *rand.Rand) func() error {
		m.Clock.Set(time.Duration(rng.Int64N(int64(2*time.Hour))) - time.Hour)
		return func() error { m.Clock.Set(0); return nil }
	})
	wrongView = Fault{"wrong view", func(c *Cluster, rng *rand.Rand) (string, func() error) {
		order := rng.Perm(len(c.Machines))
		a, b := c.Machines[order[0]], c.Machines[order[1]]
		alive := rng.IntN(2) == 0
		c.World.Set(a.ID(), b.ID(), alive)
		return fmt.Sprintf("%s believes that %s is alive: %v", a.Name, b.Name, alive),
			func() error { c.World.Follow(); return nil }
	}}
)

// restart starts the process; if its disk is broken meanwhile, somebody mends it
// first.
func (m *Machine) restart() error {
	if err := m.Start(); err == nil {
		return nil
	}
	m.mend()
	return m.Start()
}

func (c *Cluster) healNetwork() error {
	c.Network.Heal()
	return nil
}

// onMachine makes a fault of one machine.
func onMachine(name string, begin func(m *Machine, rng *rand.Rand) func() error) Fault {
	return Fault{name, func(c *Cluster, rng *rand.Rand) (string, func() error) {
		m := c.Machines[rng.IntN(len(c.Machines))]
		if !m.Running() {
			return m.Name + " is down already", nil
		}
		return m.Name, begin(m, rng)
	}}
}

// Play runs the story on a cluster that is ready, heals it, and checks what is
// found. The error tells the faults and the key's story; Log has the nodes' words.
func (c *Cluster) Play(s Story) (*History, error) {
	s.setDefaults()
	h := NewHistory()
	faults, err := c.runStory(s, h)
	if err == nil {
		err = c.settle(h)
	}
	if err != nil {
		return h, fmt.Errorf("seed %d: %w\nfaults:\n%s", c.opts.Seed, err, strings.Join(faults, "\n"))
	}
	return h, nil
}

func (s *Story) setDefaults() {
	if s.Faults == nil {
		s.Faults = AllFaults()
	}
	if s.Length == 0 {
		s.Length = 20 * time.Second
	}
	if s.Clients == 0 {
		s.Clients = 4
	}
	if s.Keys == 0 {
		s.Keys = 3
	}
}

// settle heals the cluster and checks the history.
func (c *Cluster) settle(h *History) error {
	if err := c.Heal(); err != nil {
		return err
	}
	if err := c.WaitReady(2 * time.Minute); err != nil {
		return err
	}
	final, err := c.Final(h, time.Minute)
	if err != nil {
		return err
	}
	return Check(h, final)
}

// runStory runs clients and faults side by side and waits for the clients.
func (c *Cluster) runStory(s Story, h *History) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.Length)
	defer cancel()
	var clients sync.WaitGroup
	for i := range s.Clients {
		name := fmt.Sprintf("client %d", i)
		rng := c.Chance(name)
		cl, err := c.Client(h, nil)
		if err != nil {
			return nil, err
		}
		clients.Go(func() {
			defer cl.Close()
			cl.work(ctx, s, rng)
		})
	}
	faults, err := c.befall(ctx, s, c.Chance("faults"))
	clients.Wait()
	return faults, err
}

// befall lets one fault after the other begin, some of them overlapping, and
// ends them all before it returns.
func (c *Cluster) befall(ctx context.Context, s Story, rng *rand.Rand) (told []string, err error) {
	type pending struct {
		end  func() error
		when time.Time
		name string
	}
	began := time.Now()
	var open []pending
	tell := func(format string, args ...any) {
		told = append(told, fmt.Sprintf("%9.3fs  %s", time.Since(began).Seconds(), fmt.Sprintf(format, args...)))
	}
	for ctx.Err() == nil && err == nil {
		rest(ctx, time.Duration(rng.Int64N(int64(3*time.Second))))
		kept := open[:0]
		for _, p := range open {
			if err == nil && !time.Now().Before(p.when) {
				tell("end of %s", p.name)
				err = p.end()
			} else {
				kept = append(kept, p)
			}
		}
		open = kept
		if err == nil && ctx.Err() == nil && len(s.Faults) > 0 {
			f := s.Faults[rng.IntN(len(s.Faults))]
			note, end := f.Begin(c, rng)
			tell("%s %s", f.Name, note)
			if end != nil {
				open = append(open, pending{end, time.Now().Add(time.Duration(rng.Int64N(int64(8 * time.Second)))), f.Name})
			}
		}
	}
	for _, p := range open {
		if err == nil {
			err = p.end()
		}
	}
	return told, err
}

// rest sleeps, but not beyond the end.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// work does one operation after the other until the end.
func (c *Client) work(ctx context.Context, s Story, rng *rand.Rand) {
	for n := 0; ctx.Err() == nil; n++ {
		rest(ctx, time.Duration(rng.Int64N(int64(400*time.Millisecond))))
		limit := 100*time.Millisecond + time.Duration(rng.Int64N(int64(3*time.Second)))
		level := client.Quorum
		if rng.IntN(8) == 0 {
			level = []client.Level{client.One, client.All}[rng.IntN(2)]
		}
		key := rng.IntN(s.Keys)
		switch rng.IntN(5) {
		case 0:
			c.Put(fmt.Sprintf("%s-%d", c.Name, n), nil, level, limit)
		case 1:
			c.Put(fmt.Sprintf("blind%d", key), nil, level, limit)
		case 2:
			c.Get(fmt.Sprintf("blind%d", key), level, limit)
		default:
			k := fmt.Sprintf("key%d", key)
			if read := c.Get(k, level, limit); read.Context != nil {
				rest(ctx, time.Duration(rng.Int64N(int64(500*time.Millisecond))))
				if rng.IntN(8) == 0 {
					c.Delete(k, read, level, limit)
				} else {
					c.Put(k, read, level, limit)
				}
			}
		}
	}
}
