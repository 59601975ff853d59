package scenario

import (
	"fmt"
	"strings"
)

// records holds what lies on the nodes' disks against what is wanted.
func (r *runner) records(line int, a Records) {
	found, err := r.recordsOf(a.Key)
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

// recordsOf says which running nodes have a record of a key.
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
	}
	return out, nil
}
