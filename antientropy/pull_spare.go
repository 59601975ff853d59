package antientropy

import (
	"fmt"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// spare parts items into those that the verdict goes with, and those where it would
// end a value that can be read here, and the other home's record does not show what
// has replaced it. That home may have lost it without noticing: it is for an audit
// to ask the others.
func (r *Repair) spare(p ring.Partition, items []item, v verdict) (judged, spared []item, err error) {
	if !v.given {
		return items, nil, nil
	}
	now := r.aliveBy()
	for _, it := range items {
		takes, err := r.weigh(p, &it, v.base, now)
		if err != nil {
			return nil, nil, err
		}
		if takes {
			spared = append(spared, it)
		} else {
			judged = append(judged, it)
		}
	}
	return judged, spared, nil
}

// weigh says that a verdict would end a value here that nothing is seen to replace,
// and notes in the item what it was weighed against.
func (r *Repair) weigh(p ring.Partition, it *item, base version.Context, now uint64) (bool, error) {
	encoded, err := r.cfg.Store.Get(p, it.key)
	if err != nil {
		return false, fmt.Errorf("read key %.64q: %w", it.key, err)
	}
	if encoded == nil {
		return false, nil
	}
	mine, err := version.ParseHeader(encoded)
	if err != nil {
		return false, fmt.Errorf("read key %.64q: %w", it.key, err)
	}
	var theirs version.Record
	if it.encoded != nil {
		if theirs, err = version.ParseHeader(it.encoded); err != nil {
			return false, fmt.Errorf("merge key %.64q: %w", it.key, err)
		}
	}
	it.judged = dotsOf(&mine)
	for _, d := range aliveIn(&mine, now) {
		if base.Covers(d) && !theirs.Seen.Covers(d) {
			return true, nil
		}
	}
	return false, nil
}
