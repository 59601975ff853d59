package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim/network"
)

// Most of those who vote on the ring are gone for good, and survivors force it.

const (
	// thereMax is how long keepersLost waits until all machines are there.
	thereMax = 5 * time.Second
	// noticeMax is about how long it takes until those who are gone are missed.
	noticeMax = 4 * time.Second
	// recoverMax is how long a healed cluster may take until it has forced its ring and
	// given up who is gone.
	recoverMax = 3 * time.Minute
)

// ForceFaults are for stories in which no disk is lost otherwise: what is given up then is
// known, and everything else has to be there.
func ForceFaults() []Fault { return []Fault{keepersLost} }

// keepersLost has a majority of the keepers die at one moment, with their disks, once in a
// story. An operator has the others force the ring. In the end empty machines stand where
// the dead ones were, and these are removed.
var keepersLost = Fault{"keepers lost", func(c *Cluster, rng *rand.Rand) (string, func() error) {
	dead, live := c.doomed(rng)
	if len(dead) == 0 {
		return "not all are there, or it has happened before", nil
	}
	r := c.rings.At(c.rings.Last())
	for _, m := range dead {
		m.unplug(true)
	}
	left, err := c.remains(live, r)
	if err != nil {
		return "", func() error { return err }
	}
	c.left = left
	var names []string
	for _, m := range dead {
		names = append(names, m.Name)
		c.dead = append(c.dead, m.ID())
		m.Kill()
		m.retire()
		m.id = ring.NodeID{}
	}
	via, host := live[rng.IntN(len(live))].Peer(), c.host()
	c.operators.Go(func() {
		for range 3 {
			rest(context.Background(), noticeMax)
			if c.force(host, via, c.notDead(via.ID)) == nil {
				return
			}
		}
	})
	return strings.Join(names, " "), func() error {
		for _, m := range dead {
			if m.retired {
				if err := m.Arrive(false); err != nil {
					return err
				}
			}
		}
		return nil
	}
}}

// doomed draws a majority of the keepers, but not every active member, once all machines
// run, and their disks can be read. Nobody is doomed twice.
func (c *Cluster) doomed(rng *rand.Rand) (dead, live []*Machine) {
	up := func(m *Machine) bool {
		if m.retired || !m.Running() || m.store.Load() == nil {
			return m.retired
		}
		s := m.node.Store()
		h := s.Health()
		return !h.LossyAll && len(h.Lossy) == 0 && len(s.Dropping()) == 0
	}
	for until := time.Now().Add(thereMax); c.left == nil && time.Now().Before(until); rest(context.Background(), underwayLook) {
		r := c.rings.At(c.rings.Last())
		if slices.ContainsFunc(c.Machines, func(m *Machine) bool { return !up(m) }) {
			continue
		}
		keepers := slices.Clone(r.Keepers)
		rng.Shuffle(len(keepers), func(i, j int) { keepers[i], keepers[j] = keepers[j], keepers[i] })
		keepers = keepers[:majority(len(keepers))]
		dead, live = nil, nil
		active := 0
		for _, m := range c.Machines {
			member := r.Member(m.ID())
			switch {
			case m.retired:
			case slices.Contains(keepers, m.ID()):
				dead = append(dead, m)
			default:
				live = append(live, m)
				if member != nil && member.State == ring.Active {
					active++
				}
			}
		}
		if active > 0 && len(dead) == len(keepers) {
			return dead, live
		}
	}
	return nil, nil
}

// notDead are all members that are not gone, as one of them knows them.
func (c *Cluster) notDead(via ring.NodeID) (out []ring.NodeID) {
	r := c.rings.newest(via)
	for i := range r.Members {
		if m := &r.Members[i]; m.State != ring.Lost && !slices.Contains(c.dead, m.ID) {
			out = append(out, m.ID)
		}
	}
	return out
}

// force asks a survivor to force the ring with all survivors.
func (c *Cluster) force(host *network.Host, via rpc.Peer, survivors []ring.NodeID) error {
	req := &api.ForceRequest{Cluster: c.rings.newest(via.ID).Cluster.String(), Who: "operator"}
	for _, id := range survivors {
		req.Survivors = append(req.Survivors, id.String())
	}
	ctx, cancel := context.WithTimeout(context.Background(), operatorMax)
	defer cancel()
	resp, err := api.Force.Call(ctx, host, via, req)
	answer := fmt.Sprint(err)
	if err == nil {
		answer = fmt.Sprintf("done at epoch %d", resp.Epoch)
	}
	c.tell(Told{At: time.Now(), Fault: answered, Note: "to force the ring: " + answer})
	return err
}

// recover is what operators do in the end where keepers were lost: the ring is forced, if
// it was not yet, and all who are gone are removed, with what only they had.
func (c *Cluster) recover() error {
	if c.left == nil {
		return nil
	}
	var err error
	for until := time.Now().Add(recoverMax); time.Now().Before(until); rest(context.Background(), time.Second) {
		if err = c.Supervise(); err != nil {
			return err
		}
		if err = c.giveUp(); err == nil {
			return nil
		}
	}
	return broken(ChangesEnd, "%v after the last fault the keepers that are gone are not given up: %v", recoverMax, err)
}

func (c *Cluster) giveUp() error {
	at := slices.IndexFunc(c.Machines, func(m *Machine) bool { return m.Running() && c.left.by[m.ID()] })
	if at < 0 {
		return errors.New("no survivor runs")
	}
	via := c.Machines[at].Peer()
	if r := c.rings.newest(via.ID); r.LastForced() == nil && c.needsForce(r) {
		if err := c.force(c.probe(), via, c.notDead(via.ID)); err != nil {
			return err
		}
	}
	r := c.rings.newest(via.ID)
	for i := range r.Members { // who has the name of a dead one stands by
		if m := &r.Members[i]; m.State == ring.Standby {
			if err := c.call(c.probe(), via, api.ChangeRequest{Verb: api.VerbJoin, Member: m.ID.String()}); err != nil {
				return err
			}
		}
	}
	for _, id := range c.dead {
		if m := r.Member(id); m != nil && m.State != ring.Lost {
			if err := c.call(c.probe(), via, api.ChangeRequest{Verb: api.VerbRemove, Member: id.String(), DataLost: true}); err != nil {
				return err
			}
		}
	}
	for _, id := range c.dead {
		if n := c.rings.newest(via.ID).HomeCount(id); n > 0 {
			r := c.rings.newest(via.ID)
			for p := range ring.Partition(r.Partitions) {
				if r.HomeIndex(p, id) >= 0 {
					return fmt.Errorf("%s is gone, and has %d slots: %s", c.nameOf(id), n, rowsOf(r, p))
				}
			}
		}
	}
	return nil
}

// needsForce says that too few of a record's keepers are left to decide the next one.
func (c *Cluster) needsForce(r *ring.Record) bool {
	gone := 0
	for _, id := range r.Keepers {
		if slices.Contains(c.dead, id) {
			gone++
		}
	}
	return 2*(len(r.Keepers)-gone) <= len(r.Keepers)
}
