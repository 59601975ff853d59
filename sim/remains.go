package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// Remains are what some machines had on their disks at a time, when all others were gone
// for good: what is to be there in the end of all that had been acknowledged by then, and
// nothing else is given up. It does not change.
type Remains struct {
	at      time.Time
	by      map[ring.NodeID]bool // whose disks are there
	cluster ring.ClusterID
	keys    map[string][]remnant
	clocks  map[ring.Partition][]store.Clock
	ring    *ring.Record
}

// remnant is a copy of one key: what it has seen, and the values that it shows.
type remnant struct {
	seen   version.Context
	values []string
}

// remains reads the disks of machines, all of which run: copies of homes, what they have
// let go and not handed over yet, and what they keep for others.
func (c *Cluster) remains(of []*Machine, r *ring.Record) (*Remains, error) {
	out := &Remains{at: time.Now(), by: map[ring.NodeID]bool{}, cluster: r.Cluster, keys: map[string][]remnant{},
		clocks: map[ring.Partition][]store.Clock{}, ring: r}
	for _, m := range of {
		out.by[m.ID()] = true
		if err := out.add(m.node.Store(), r.Partitions); err != nil {
			return nil, fmt.Errorf("what %s has: %w", m.Name, err)
		}
	}
	return out, nil
}

func (r *Remains) add(s *store.Store, partitions int) error {
	for p := range ring.Partition(partitions) {
		var wrong error
		err := s.Scan(p, nil, 0, func(_, encoded []byte) bool {
			var record version.Record
			if record, wrong = version.Parse(encoded); wrong == nil {
				r.copy(&record)
			}
			return wrong == nil
		})
		if err == nil {
			err = wrong
		}
		if err != nil {
			return err
		}
		r.clocks[p] = append(r.clocks[p], s.ClockOf(p))
	}
	homes, err := s.StandInHomes()
	for _, home := range homes {
		var p ring.Partition
		var after []byte
		for err == nil {
			var kept []store.StandIn
			if kept, err = s.StandIns(home, p, after, 0); len(kept) == 0 {
				break
			}
			for i := range kept {
				r.copy(&kept[i].Record)
			}
			last := &kept[len(kept)-1]
			p, after = last.Partition, last.Record.Key
		}
	}
	return err
}

func (r *Remains) copy(record *version.Record) {
	key, one := string(record.Key), remnant{seen: slices.Clone(record.Seen)}
	for i := range record.Siblings {
		if s := &record.Siblings[i]; !s.Tombstone {
			one.values = append(one.values, nameOf(s.Value))
		}
	}
	r.keys[key] = append(r.keys[key], one)
}

// GaveUp says that all machines but those that something is left on were gone for good
// from then on: writes that only they had may be gone, too.
func (h *History) GaveUp(r *Remains) { h.remains = r }

// gone finds the writes that nobody had any more who was left. What a survivor has
// acknowledged since is not among them.
func (r *Remains) gone(k *oracle) bits {
	gone := k.none()
	for i, o := range k.list {
		if o.Began.After(r.at) || r.has(k, i) {
			continue
		}
		kept := o.Outcome == Done && o.Ended.After(r.at) && o.Receipt != nil &&
			slices.ContainsFunc(o.Receipt.Answered, func(id ring.NodeID) bool { return r.by[id] })
		if !kept {
			gone.add(i)
		}
	}
	return gone
}

// has says that a copy that is left has a write: it shows it, or a write that had
// certainly seen it, or has seen what the writer was told that it has written.
func (r *Remains) has(k *oracle, i int) bool {
	o := k.list[i]
	wrote, known := r.wrote(o)
	for _, one := range r.keys[o.Key] {
		if known && one.seen.Includes(wrote) {
			return true
		}
		for _, v := range one.values {
			if j, ok := k.index[v]; ok && (j == i || k.must[j].has(i)) {
				return true
			}
		}
	}
	for _, clock := range r.clocks[r.ring.PartitionOf([]byte(o.Key))] {
		if known && clock.Covers(wrote) { // and has forgotten it since
			return true
		}
	}
	return false
}

// wrote is a context that covers a write, from what its client was told; false if that
// was not told, or covers no more than the write had seen.
func (r *Remains) wrote(o *Op) (version.Context, bool) {
	if len(o.context) == 0 {
		return nil, false
	}
	after, err := version.ParseToken(o.context, r.cluster, []byte(o.Key))
	if err != nil {
		return nil, false
	}
	var before version.Context
	if len(o.under) > 0 {
		if before, err = version.ParseToken(o.under, r.cluster, []byte(o.Key)); err != nil {
			return nil, false
		}
	}
	return after, !before.Includes(after)
}
