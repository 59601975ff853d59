package scenario

import (
	"fmt"
	"strings"

	"github.com/kithdb/kith/ring"
)

// records holds what lies on the nodes' disks against what is wanted.
func (r *runner) records(line int, a Records) {
	found, err := r.recordsOf(r.keyNamed(a.Key))
	detail := "none"
	if len(found) > 0 {
		detail = strings.Join(found, ", ")
	}
	if err != nil {
		detail = err.Error()
	}
	r.event("step", nil, "records "+a.Key+" -> "+detail)
	r.check(a.words(), line, err == nil && (len(found) > 0) == (a.Want == "some"), "%s", detail)
}

// recordsOf says which running nodes have a record of a key, or keep one for
// another node.
func (r *runner) recordsOf(key string) ([]string, error) {
	var out []string
	p := r.record.PartitionOf([]byte(key))
	for i, m := range r.cluster.Machines {
		if !m.Running() {
			continue
		}
		s := m.Node().Store()
		record, err := s.Get(p, []byte(key))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Nodes[i], err)
		}
		if record != nil {
			out = append(out, "a record on "+r.Nodes[i])
		}
		homes, err := s.StandInHomes()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Nodes[i], err)
		}
		for _, home := range homes {
			kept, err := r.kept(i, home, key)
			if err != nil {
				return nil, err
			}
			if kept {
				out = append(out, fmt.Sprintf("one on %s for %s", r.Nodes[i], r.names.in(home.String())))
			}
		}
	}
	return out, nil
}

// kept says that a node keeps a record of a key for a home.
func (r *runner) kept(node int, home ring.NodeID, key string) (bool, error) {
	p := r.record.PartitionOf([]byte(key))
	var after []byte
	for {
		some, err := r.cluster.Machines[node].Node().Store().StandIns(home, p, after, 0)
		if err != nil {
			return false, fmt.Errorf("%s: %w", r.Nodes[node], err)
		}
		for i := range some {
			if some[i].Partition != p {
				return false, nil
			}
			if after = some[i].Record.Key; string(after) == key {
				return true, nil
			}
		}
		if len(some) == 0 {
			return false, nil
		}
	}
}
