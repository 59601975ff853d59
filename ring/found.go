package ring

import (
	"errors"
	"fmt"
	"slices"
)

// Reasons why a member is not taken in.
var (
	// ErrBanned: the ID was removed from the cluster. The node must come back
	// with an empty directory and a new ID.
	ErrBanned = errors.New("member was removed from the cluster")
	// ErrKnown: the record has a member of that ID already.
	ErrKnown = errors.New("already a member")
)

// Found makes the first record of a cluster, at epoch 1: the founder alone, on
// standby, itself the keeper, and no table yet. Partitions is a power of two up
// to SlotCount, replicas 1 to ReplicasMax; members may still be fewer than
// replicas.
func Found(cluster ClusterID, name string, founder Member, partitions, replicas int) (*Record, error) {
	founder = founder.prepared(Standby)
	r := &Record{
		Epoch: 1, Cluster: cluster, Name: name, Partitions: partitions, Replicas: replicas,
		Keepers: []NodeID{founder.ID}, Members: []Member{founder},
	}
	if err := r.validateShape(); err != nil {
		return nil, fmt.Errorf("found cluster %q: %w", name, err)
	}
	r.Since = slices.Repeat([]uint64{1}, partitions)
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("found cluster %q: %w", name, err)
	}
	r.seal()
	return r, nil
}

// WithTable makes the record in which the cluster is founded: the members, all
// active, with the table that the plan gives them and the keepers chosen among
// them. They must be at least as many as the replicas and include everyone that
// r has. It is an error if r has a table already. Who else finds r without a
// table and names the same members makes the same record.
func (r *Record) WithTable(members []Member) (*Record, error) {
	if r.Founded() {
		return nil, fmt.Errorf("found at epoch %d: the cluster has a table already", r.Epoch+1)
	}
	next := r.successor()
	next.Members = make([]Member, len(members))
	for i, m := range members {
		next.Members[i] = m.prepared(Active)
	}
	sortMembers(next.Members)
	for i := range r.Members {
		if id := r.Members[i].ID; next.index(id) < 0 {
			return nil, fmt.Errorf("found at epoch %d: member %s is missing", next.Epoch, id.Short())
		}
	}
	plan, err := r.Plan(next.Members, r.Replicas)
	if err != nil {
		return nil, fmt.Errorf("found at epoch %d: %w", next.Epoch, err)
	}
	next.table = plan.table
	next.Keepers = chooseKeepers(next.Members, r.Keepers)
	for p := range next.Since {
		next.Since[p] = next.Epoch
	}
	return next.checked(r)
}

// WithStandby makes the record with one member more, who is home of nothing. No
// fence changes. The errors wrap ErrBanned or ErrKnown where they apply.
func (r *Record) WithStandby(m Member) (*Record, error) {
	if r.IsBanned(m.ID) {
		return nil, fmt.Errorf("add member %s: %w", m.ID.Short(), ErrBanned)
	}
	if r.Member(m.ID) != nil {
		return nil, fmt.Errorf("add member %s: %w", m.ID.Short(), ErrKnown)
	}
	next := r.successor()
	at, _ := slices.BinarySearchFunc(next.Members, m.ID, func(m Member, id NodeID) int { return m.ID.Compare(id) })
	next.Members = slices.Insert(next.Members, at, m.prepared(Standby))
	for i, home := range next.table {
		if int(home) >= at {
			next.table[i]++
		}
	}
	return next.checked(r)
}

// checked seals a record that was derived from prev.
func (r *Record) checked(prev *Record) (*Record, error) {
	r.settle(prev)
	r.seal()
	if err := r.Follows(prev); err != nil {
		return nil, err
	}
	return r, nil
}

func sortMembers(members []Member) {
	slices.SortFunc(members, func(a, b Member) int { return a.ID.Compare(b.ID) })
}
