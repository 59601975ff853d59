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
	r      *rand.Rand
	puts   []*attempt
	graves []*grave
	valMx  int
	parts  int
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
			h.bury(s)
		}
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
	for _, g := range h.graves {
		for _, o := range g.merges {
			_ = o.wait()
		}
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
	for _, g := range h.graves {
		wrong, err := g.wrong(s)
		switch {
		case err != nil, wrong != "" && !s.CountsForRead(g.partition):
			loud++
		case wrong != "":
			silent = append(silent, fmt.Sprintf("%s in %d: %s", g.value.Key, g.partition, wrong))
		}
	}
	return silent, loud
}

// grave is a key of another home that is written, deleted and removed.
type grave struct {
	partition   ring.Partition
	value, gone version.Record
	merges      []*outcome // of gone first
	claimed     bool       // by Incorporate, and that was acknowledged
	removed     bool       // and that was acknowledged
	perhaps     bool       // it was tried, and failed
}

// bury takes a key one step further: first to a tombstone, whose value comes
// later, then away, by a purge or by another home's verdict.
func (h *history) bury(s *store.Store) {
	var open []*grave
	for _, g := range h.graves {
		if !g.removed && !g.perhaps {
			open = append(open, g)
		}
	}
	if len(open) == 0 || h.r.IntN(3) == 0 {
		g := &grave{partition: ring.Partition(h.r.IntN(h.parts))}
		home := &elsewhere{actor: version.Actor(1000 + len(h.graves))}
		g.value = home.put(key(fmt.Sprintf("g%02d", len(h.graves))), strings.Repeat("x", h.r.IntN(h.valMx)))
		g.gone = home.put(g.value, "")
		h.graves = append(h.graves, g)
		g.merges = append(g.merges, startMerge(s, g.partition, g.gone.Append(nil)))
		return
	}
	g := open[h.r.IntN(len(open))]
	if len(g.merges) == 1 || h.r.IntN(3) == 0 {
		g.merges = append(g.merges, startMerge(s, g.partition, g.value.Append(nil)))
		return
	}
	for _, o := range g.merges {
		if o.wait() != nil {
			return
		}
	}
	var err error
	if h.r.IntN(3) == 0 {
		g.claimed = s.Incorporate(g.partition, contextSet(g.gone.Seen), s.Era()) == nil || g.claimed
		return
	}
	if h.r.IntN(2) == 0 {
		g.removed, err = s.Purge(g.partition, g.gone.Key, g.gone.Leaf(), 0)
	} else if c := s.ClockOf(g.partition); c.Covers(g.gone.Seen) {
		// A home forgets only what this one has confirmed, value and all.
		err = sendVerdict(s, g.partition, version.Record{Key: g.gone.Key}, g.gone.Seen).wait()
		g.removed = err == nil
	}
	g.perhaps = err != nil
}

// wrong says what a store must not answer. What was removed must not come back
// with a late packet either, nor must a clock claim what is not there and was
// not removed.
func (g *grave) wrong(s *store.Store) (string, error) {
	claims := s.ClockOf(g.partition)
	r, err := tryGet(s, g.partition, string(g.value.Key))
	if err != nil {
		return "", err
	}
	there := len(r.Siblings) > 0
	acked := g.merges[0].isDone() && g.merges[0].err == nil
	switch {
	case g.claimed && !claims.Covers(g.gone.Seen):
		return "incorporated, and not claimed", nil
	case g.removed && there:
		return "removed, and there", nil
	case there && !r.Equal(&g.gone) && (acked || r.Seen.Includes(g.gone.Seen)):
		return "deleted, and holds a value", nil
	case !there && acked && !g.removed && !g.perhaps:
		return "the tombstone is lost", nil
	case !there && claims.Has(g.gone.Siblings[0].Dot) && !g.removed && !g.perhaps:
		return "claimed, and not there", nil
	}
	if !g.removed || s.Health().Failed != nil {
		return "", nil
	}
	if err := startMerge(s, g.partition, g.value.Append(nil)).wait(); err != nil {
		return "", err
	}
	if r, err = tryGet(s, g.partition, string(g.value.Key)); err == nil && len(r.Siblings) > 0 {
		return "removed, and came back", nil
	}
	return "", err
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
