package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// drawnHistory is of one key: some clients read, write what they have read and
// what they have not, and are told this and that.
func drawnHistory(rng *rand.Rand) *History {
	h := NewHistory()
	at := h.began
	var reads, puts []*Op
	some := func(of []*Op) *Op { return of[rng.IntN(len(of))] }
	for n := range 2 + rng.IntN(60) {
		at = at.Add(time.Duration(rng.IntN(200)) * time.Millisecond)
		o := &Op{Client: "c", Key: "k", Began: at, Strict: rng.IntN(4) > 0, Outcome: Outcome(1 + rng.IntN(3))}
		if o.Ended = at.Add(time.Duration(rng.IntN(900)) * time.Millisecond); len(puts) > 0 && rng.IntN(2) == 0 {
			o.Read, o.Outcome = true, Done
			for range rng.IntN(3) {
				o.Saw = append(o.Saw, some(puts).Value)
			}
			slices.Sort(o.Saw)
			o.Saw = slices.Compact(o.Saw)
			reads = append(reads, o)
		} else {
			o.Value = fmt.Sprintf("v%d", n)
			if len(reads) > 0 && rng.IntN(3) > 0 {
				if o.After = some(reads); rng.IntN(4) == 0 {
					o.After = &Op{Saw: o.After.Saw, may: []string{some(puts).Value}}
				}
				o.Delete = rng.IntN(6) == 0
			}
			if rng.IntN(8) == 0 {
				o.TTL = time.Duration(rng.IntN(3000)) * time.Millisecond
			}
			if rng.IntN(3) > 0 {
				o.Deadline = at.Add(time.Second)
			}
			puts = append(puts, o)
		}
		h.ops = append(h.ops, o)
	}
	if rng.IntN(2) == 0 {
		h.ClocksRight()
	}
	return h
}

// plainPast is past without a shortcut.
func (k *oracle) plainPast(i int, may bool) bits {
	seen, open := k.none(), []int{i}
	for len(open) > 0 {
		put := k.list[open[0]]
		open = open[1:]
		var next []int
		if put.After != nil {
			values := put.After.Saw
			if may {
				values = slices.Concat(values, put.After.may)
			}
			for _, w := range values {
				next = append(next, k.index[w])
			}
		} else if may {
			for j := range k.met(put) {
				next = append(next, j)
			}
		}
		for _, j := range next {
			if seen.add(j) {
				open = append(open, j)
			}
		}
	}
	return seen
}

// What the oracle collects with shortcuts is what it finds by looking at every
// write; and no read passes that would not, held against every write by itself.
func TestShortcutsOfTheOracleChangeNothing(t *testing.T) {
	passed, failed := 0, 0
	for seed := range uint64(3000) {
		h := drawnHistory(rand.New(rand.NewPCG(seed, 1)))
		k := newOracle(h.Ops(), h)
		for i := range k.list {
			if !slices.Equal(k.must[i], k.plainPast(i, false)) || !slices.Equal(k.may[i], k.plainPast(i, true)) {
				t.Fatalf("history %d: the past of %v is not that of looking at each write\n%s", seed, k.list[i], h.Story("k"))
			}
		}
		n := newKnowledge(k)
		for _, o := range k.ops {
			switch {
			case o.Read:
				err := k.showsAll(o, n.since)
				if err != nil && n.allIn(o) {
					t.Fatalf("history %d: %v passes, although %v", seed, o, err)
				}
				if n.allIn(o) {
					passed++
				} else if err != nil {
					failed++
				}
			case o.Strict && o.Outcome == Done:
				n.learn(o)
			}
		}
	}
	if passed == 0 || failed == 0 {
		t.Errorf("%d reads passed at once, %d were found out: that proves nothing", passed, failed)
	}
}
