package store_test

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// history is what was tried on a store, and what it acknowledged.
type history struct {
	r     *rand.Rand
	puts  []*attempt
	valMx int
	parts int
}

type attempt struct {
	partition ring.Partition
	key       string
	value     string
	*outcome
}

// load starts n puts, and waits for one of them now and then.
func (h *history) load(s *store.Store, n int) {
	for i := range n {
		a := &attempt{partition: ring.Partition(h.r.IntN(h.parts)), key: fmt.Sprintf("k%02d", h.r.IntN(40)),
			value: fmt.Sprintf("%d.%d.", len(h.puts), i) + strings.Repeat("x", h.r.IntN(h.valMx))}
		a.outcome = start(s, blind(a.partition, a.key, a.value))
		h.puts = append(h.puts, a)
		if h.r.IntN(8) == 0 {
			_ = h.puts[h.r.IntN(len(h.puts))].wait()
		}
	}
}

// settle waits for all.
func (h *history) settle() {
	for _, a := range h.puts {
		_ = a.wait()
	}
}

// missing names the first acknowledged put that the store has lost without
// saying so: its key reads fine, its partition counts, and the dot is not seen.
// silent lists such keys; loud counts those that were refused or not vouched for.
func (h *history) missing(s *store.Store) (silent []string, loud int) {
	for _, a := range h.puts {
		if a.err != nil {
			continue
		}
		rec, err := tryGet(s, a.partition, a.key)
		switch {
		case err != nil:
			loud++
		case !rec.Seen.Covers(a.dot) || !h.holds(rec):
			if s.CountsForRead(a.partition) {
				silent = append(silent, fmt.Sprintf("%s %v in %d", a.key, a.dot, a.partition))
			} else {
				loud++
			}
		}
	}
	return silent, loud
}

// holds says that every sibling is a value that was put with that dot.
func (h *history) holds(rec version.Record) bool {
	if len(rec.Siblings) == 0 {
		return false
	}
	for _, sib := range rec.Siblings {
		found := false
		for _, a := range h.puts {
			found = found || a.minted && a.dot == sib.Dot && a.value == string(sib.Value) && a.key == string(rec.Key)
		}
		if !found {
			return false
		}
	}
	return true
}
