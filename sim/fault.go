package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/sim/network"
)

// Fault befalls the cluster and says in a few words what it did. What it
// returns ends it; nil if nothing has to be ended.
type Fault struct {
	Name  string
	Begin func(c *Cluster, rng *rand.Rand) (note string, end func() error)
}

// AllFaults are those that lose nothing that was promised.
func AllFaults() []Fault {
	return []Fault{halves, isolate, oneWay, lossy, late, pause, kill, powerCut, latePowerCut, slowDisk, syncError, diskFull, clockJump, wrongView}
}

// LossFaults are those that break the disk of one machine, the same one in all of
// a cluster's life. Its copies count for nothing until they are filled again.
func LossFaults() []Fault {
	return []Fault{bitRot, tableRot, lostDisk, rotBehindCut, lossBehindCut}
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
		return m.revive
	})
	powerCut = onMachine("power cut", func(m *Machine, rng *rand.Rand) func() error {
		m.Disk.SetTear(disk.Tear(rng.IntN(3)))
		m.PowerCut()
		return m.revive
	})
	// latePowerCut takes writes that others hear of minutes later, or only of those
	// behind them: the machine's disk is slow, and so are some of its packets.
	latePowerCut = onMachine("late power cut", func(m *Machine, rng *rand.Rand) func() error {
		c := m.cluster
		m.Disk.SetSyncDelay(func() time.Duration { return 10 * time.Second })
		shape := c.opts.Network.Link
		shape.Late, shape.LateBy = 0.5, 3*time.Minute
		for _, other := range c.Machines {
			c.Network.SetLink(m.Name, other.Name, shape)
		}
		rest(context.Background(), time.Second+time.Duration(rng.Int64N(int64(2*time.Second))))
		m.PowerCut()
		for _, other := range c.Machines {
			c.Network.UnsetLink(m.Name, other.Name)
		}
		m.Spin()
		return m.revive
	})
	slowDisk = onMachine("slow disk", func(m *Machine, rng *rand.Rand) func() error {
		delay := time.Duration(rng.Int64N(int64(2 * time.Second)))
		m.Disk.SetSyncDelay(func() time.Duration { return delay })
		return func() error { m.Spin(); return nil }
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
