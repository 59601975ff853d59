package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// In a random story the vote on the ring may be lost for good: a machine has become the
// only one that votes, or one of few, and then its disk is lost or rots. Nothing but a
// forced ring helps, and operators force it when all is healed. They must know first what
// kith ring force-epoch asks of them: that those keepers are gone, and nobody else.

const (
	// standsMax is how long a ring stands still before an operator takes its vote for
	// lost. Keepers finish in less what somebody else has left open.
	standsMax = time.Minute
	// forced is told of when an operator forces the ring.
	forced = "force"
)

// standstill is since when the ring has stood at an epoch, without those who vote on it.
type standstill struct {
	epoch uint64
	since time.Time
}

// lostVote is what an operator knows of a vote that is lost for good.
type lostVote struct {
	record    *ring.Record
	survivors []ring.NodeID // the members that run, and vote
	silent    []*Machine    // run, and never vote again: to be stopped first
	gone      []string      // what became of the keepers that are no survivors, for people
}

// voteLost is nil unless a majority of the keepers of the newest record that anybody who
// runs has held is gone for good: its disk is lost, or it was the disk that a fault has
// broken, and its node has said that it may have forgotten a vote. Every other keeper is a
// survivor: where one is only down, nobody knows.
func (c *Cluster) voteLost() *lostVote {
	if c.left != nil {
		return nil // see recover
	}
	v := &lostVote{}
	for _, m := range c.Machines {
		if !m.Running() {
			continue
		}
		if r := c.rings.newest(m.ID()); r != nil && (v.record == nil || r.Epoch > v.record.Epoch) {
			v.record = r
		}
	}
	if v.record == nil {
		return nil
	}
	for i := range v.record.Members {
		is := &v.record.Members[i]
		m := c.machineOf(is.ID)
		keeper := v.record.IsKeeper(is.ID)
		switch {
		case c.diskLost(is.ID):
			if keeper {
				v.gone = append(v.gone, fmt.Sprintf("%s: its disk is lost", is.ID.Short()))
			}
		case m == nil || !m.Running():
			if keeper {
				return nil
			}
		case m == c.broken && m.silent():
			v.silent = append(v.silent, m)
			if keeper {
				v.gone = append(v.gone, fmt.Sprintf("%s: it has lost what it had voted", is.ID.Short()))
			}
		case is.State != ring.Lost:
			v.survivors = append(v.survivors, is.ID)
		}
	}
	if 2*len(v.gone) < len(v.record.Keepers) || len(v.survivors) == 0 {
		return nil
	}
	return v
}

// diskLost says that a member's disk is nowhere any more.
func (c *Cluster) diskLost(id ring.NodeID) bool {
	return slices.ContainsFunc(c.Machines, func(m *Machine) bool { return slices.Contains(m.gone, id) })
}

// silent says that the machine's node has told that it never votes on the ring again with
// the disk that it has.
func (m *Machine) silent() bool { return m.mute.Load() == int64(m.disks) }

// rescue is what operators do about a vote that is lost for good, once the ring has stood
// still for long enough: they force it. Until then they do nothing.
func (c *Cluster) rescue() error {
	v := c.voteLost()
	if v == nil {
		c.stands = standstill{}
		return nil
	}
	if c.stands.since.IsZero() || c.stands.epoch != v.record.Epoch {
		c.stands = standstill{v.record.Epoch, time.Now()}
	}
	if time.Since(c.stands.since) < standsMax {
		return nil
	}
	// Whoever had another record would be cut off from the others.
	if c.oneRing() != nil {
		return nil
	}
	return c.forceWithout(v)
}

// regain waits until somebody can vote on the ring again. It returns at once where that
// was never lost.
func (c *Cluster) regain() error {
	for until := time.Now().Add(recoverMax); c.voteLost() != nil; rest(context.Background(), time.Second) {
		if time.Now().After(until) {
			return broken(ChangesEnd, "%v after the last fault too few of those who vote on the ring are left, and it is not forced", recoverMax)
		}
		if err := c.Supervise(); err != nil {
			return err
		}
		if err := c.rescue(); err != nil {
			return err
		}
	}
	return nil
}

// forceWithout stops those who never vote again, has the survivors force the ring, and
// starts the others again: they keep their copies, and are no keepers.
func (c *Cluster) forceWithout(v *lostVote) error {
	for _, m := range v.silent {
		m.Stop()
	}
	rng := c.Chance(fmt.Sprintf("force %d", v.record.Epoch))
	via := c.machineOf(v.survivors[rng.IntN(len(v.survivors))])
	c.tell(Told{At: time.Now(), Fault: forced, Note: fmt.Sprintf("the ring behind epoch %d through %s: %s", v.record.Epoch, via.Name, strings.Join(v.gone, ", "))})
	var err error
	for range 3 { // whom the others have not missed yet is not gone for them
		rest(context.Background(), noticeMax)
		if err = c.force(c.probe(), via.Peer(), v.survivors); err == nil {
			break
		}
	}
	fmt.Fprintf(c.log, "operator: force the ring behind epoch %d through %s without %s: %v\n", v.record.Epoch, via.Name, strings.Join(v.gone, ", "), err)
	c.stands = standstill{}
	for _, m := range v.silent {
		if err := m.revive(); err != nil {
			return err
		}
	}
	return nil
}

// relieve is what operators do about a member that is to leave and stays, because the vote
// would be left to one whose disk may have forgotten what it had voted. Both say so: an
// empty machine takes the place of that one.
func (c *Cluster) relieve() error {
	r, m := c.rings.At(c.rings.Last()), c.broken
	waits := len(r.Moves) == 0 && slices.ContainsFunc(r.Members, func(is ring.Member) bool { return is.State == ring.Leaving })
	if !waits || m == nil || !m.Running() || !m.silent() || r.Member(m.ID()) == nil {
		c.waits = standstill{}
		return nil
	}
	if c.waits.since.IsZero() || c.waits.epoch != r.Epoch {
		c.waits = standstill{r.Epoch, time.Now()}
	}
	if time.Since(c.waits.since) < standsMax {
		return nil
	}
	c.waits = standstill{}
	heir := c.standby(r)
	if heir == nil {
		_, err := c.newcomer(true) // it stands by in a moment
		return err
	}
	via := c.running(c.Chance(fmt.Sprintf("relief %d", r.Epoch)))
	c.call(c.probe(), via, api.ChangeRequest{Verb: api.VerbReplace, Member: m.ID().String(), With: heir.ID.String()})
	return nil
}
