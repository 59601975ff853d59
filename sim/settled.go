package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// settledMax is how long a cluster that is healed may take until all that operators
// have begun has come to its end.
const settledMax = 5 * time.Minute

// CheckSettled waits until nothing is left to be done about the ring: no slot is
// being moved, the table is the one that is planned for the members, nobody is
// leaving or lost, all members hold one record, and nobody keeps anything of a
// partition but those who are its homes. Nothing befalls the cluster meanwhile.
func (c *Cluster) CheckSettled(limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; {
		err := c.Supervise()
		if err == nil {
			err = c.rescue()
		}
		if err == nil {
			err = c.relieve()
		}
		if err == nil {
			c.removeGhosts()
			err = c.settled()
		}
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return broken(ChangesEnd, "%v after the last fault: %v", limit, err)
		}
		rest(context.Background(), 211*time.Millisecond)
	}
}

// removeGhosts is what operators do about members whose directories are nowhere any
// more, and whose place nobody is about to take.
func (c *Cluster) removeGhosts() {
	r := c.rings.At(c.rings.Last())
	for _, m := range r.Members {
		id := m.ID
		awaited := slices.ContainsFunc(c.Machines, func(o *Machine) bool { return !o.retired && o.lost == id })
		going := m.State == ring.Lost && (r.HomeCount(id) == 0 || slices.ContainsFunc(r.Moves, func(move ring.Move) bool { return move.From == id }))
		if here := c.machineOf(id); (here == nil || here.retired && m.State == ring.Lost) && !awaited && !going {
			via := c.running(c.Chance("ghost " + id.String()))
			err := c.call(c.probe(), via, api.ChangeRequest{Verb: api.VerbRemove, Member: id.String()})
			if heir := c.standby(r); errors.Is(err, api.ErrRefused) && heir != nil {
				// Too few are left without it: whom its place was meant for may still stand by,
				// where nobody was told what became of that.
				err = c.call(c.probe(), via, api.ChangeRequest{Verb: api.VerbReplace, Member: id.String(), With: heir.ID.String()})
				if errors.Is(err, api.ErrRefused) && r.HomeCount(id) == 0 {
					// It had no place that could be taken: there is one more then.
					c.call(c.probe(), via, api.ChangeRequest{Verb: api.VerbJoin, Member: heir.ID.String()})
				}
			}
		}
	}
}

// standby is a member who stands by, and whose process is there; nil if there is none.
func (c *Cluster) standby(r *ring.Record) *ring.Member {
	for i := range r.Members {
		if m := c.machineOf(r.Members[i].ID); r.Members[i].State == ring.Standby && m != nil && m.Running() {
			return &r.Members[i]
		}
	}
	return nil
}

// settled says what is not as CheckSettled wants it.
func (c *Cluster) settled() error {
	r := c.rings.At(c.rings.Last())
	if len(r.Moves) > 0 {
		return fmt.Errorf("%d slots are moved at epoch %d, the first one: %v", len(r.Moves), r.Epoch, &r.Moves[0])
	}
	for _, m := range r.Members {
		if m.State != ring.Active && m.State != ring.Standby {
			return fmt.Errorf("member %s of %s is %v at epoch %d", m.ID.Short(), c.nameOf(m.ID), m.State, r.Epoch)
		}
		if c.machineOf(m.ID) == nil {
			return fmt.Errorf("member %s of %s runs nowhere", m.ID.Short(), c.nameOf(m.ID))
		}
	}
	planned, err := r.WithQueue()
	if err != nil {
		return fmt.Errorf("epoch %d: %w", r.Epoch, err)
	}
	if planned != r {
		return fmt.Errorf("%d slots are still to be moved at epoch %d", len(planned.Moves), r.Epoch)
	}
	if n := r.Uneven(); n > 0 {
		return fmt.Errorf("%d partitions have not the %d homes that they are to have at epoch %d", n, r.Replicas, r.Epoch)
	}
	for _, m := range c.Machines {
		if m.retired {
			continue
		}
		if err := c.tidy(m, r); err != nil {
			return err
		}
	}
	return nil
}

// tidy says what a machine has that it should not have under a record.
func (c *Cluster) tidy(m *Machine, r *ring.Record) error {
	if !m.Running() {
		return fmt.Errorf("%s does not run", m.Name)
	}
	if r.Member(m.ID()) == nil {
		return fmt.Errorf("%s runs as %s, which is no member", m.Name, m.ID().Short())
	}
	for p := range ring.Partition(r.Partitions) {
		if r.HomeIndex(p, m.ID()) >= 0 {
			continue
		}
		found, err := copies(m, p)
		if err != nil {
			return fmt.Errorf("%s: scan of partition %d: %w", m.Name, p, err)
		}
		if keys := sortedKeys(found); len(keys) > 0 {
			return fmt.Errorf("%s is no home of partition %d, and has %d keys of it, the first %q", m.Name, p, len(keys), keys[0])
		}
		if note := m.node.Store().Pulled(p); !note.By.IsZero() {
			return fmt.Errorf("%s is no home of partition %d, and has noted that it pulled it at epoch %d", m.Name, p, note.Since)
		}
		if actor, err := m.node.Store().Minting(p); err != nil || actor != 0 {
			return fmt.Errorf("%s is no home of partition %d, and still has the actor %016x to write with (%v)", m.Name, p, uint64(actor), err)
		}
	}
	return nil
}
