package quorum

import (
	"testing"

	"github.com/kithdb/kith/ring"
	"pgregory.net/rapid"
)

// answer is one member's first word.
type answer int

const (
	silent answer = iota
	acked
	failed
)

// model counts by looking at every slot anew.
type model struct {
	need  int
	slots [][]answer // one member, or two
}

func (m *model) word(slot int, second bool, a answer) {
	member := 0
	if second {
		member = 1
	}
	if member < len(m.slots[slot]) && m.slots[slot][member] == silent {
		m.slots[slot][member] = a
	}
}

func (m *model) got() (n int) {
	for _, members := range m.slots {
		all := true
		for _, a := range members {
			all = all && a == acked
		}
		if all {
			n++
		}
	}
	return n
}

// result tries what would be if everybody who is silent acknowledged.
func (m *model) result() Result {
	if m.got() >= m.need {
		return Met
	}
	best := model{need: m.need}
	for _, members := range m.slots {
		var hoped []answer
		for _, a := range members {
			if a == silent {
				a = acked
			}
			hoped = append(hoped, a)
		}
		best.slots = append(best.slots, hoped)
	}
	if best.got() >= m.need {
		return Pending
	}
	return Unmet
}

func TestTallyCountsAsTheObviousCountDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slots := rapid.IntRange(1, ring.ReplicasMax).Draw(t, "slots")
		need := rapid.IntRange(1, slots).Draw(t, "need")
		tally, m := New(slots, need), model{need: need}
		for slot := range slots {
			if rapid.Bool().Draw(t, "pair") {
				tally.Pair(slot)
				m.slots = append(m.slots, make([]answer, 2))
			} else {
				m.slots = append(m.slots, make([]answer, 1))
			}
		}
		final := Pending
		for range rapid.IntRange(0, 40).Draw(t, "events") {
			slot := rapid.IntRange(0, slots-1).Draw(t, "slot")
			second := len(m.slots[slot]) == 2 && rapid.Bool().Draw(t, "second")
			if rapid.Bool().Draw(t, "ack") {
				tally.Ack(slot, second)
				m.word(slot, second, acked)
			} else {
				tally.Fail(slot, second)
				m.word(slot, second, failed)
			}
			if got, want := tally.Got(), m.got(); got != want {
				t.Fatalf("got %d slots, want %d", got, want)
			}
			if got, want := tally.Result(), m.result(); got != want {
				t.Fatalf("result %v, want %v", got, want)
			}
			if final != Pending && tally.Result() != final {
				t.Fatalf("result %v became %v", final, tally.Result())
			}
			final = tally.Result()
			member := 0
			if second {
				member = 1
			}
			if got, want := tally.Acked(slot, second), m.slots[slot][member] == acked; got != want {
				t.Fatalf("acked %v, want %v", got, want)
			}
		}
		if tally.Need() != need || tally.Slots() != slots {
			t.Fatalf("need %d of %d became %d of %d", need, slots, tally.Need(), tally.Slots())
		}
	})
}

func TestWordsOfSecondMembersThatDoNotExistChangeNothing(t *testing.T) {
	tally := New(3, 2)
	tally.Fail(0, true)
	tally.Ack(1, true)
	if tally.Got() != 0 || tally.Result() != Pending {
		t.Fatalf("got %d, %v", tally.Got(), tally.Result())
	}
	tally.Ack(0, false)
	tally.Ack(1, false)
	if tally.Got() != 2 || tally.Result() != Met {
		t.Fatalf("got %d, %v", tally.Got(), tally.Result())
	}
}

// Two sets that each meet their need over the same slots share a home, if the
// needs add up to more than the slots. That is why a read sees what a write
// acknowledged. It holds while slots move, too: writes need both members of a
// pair, and the read may ask either.
func TestMetTalliesIntersect(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slots := rapid.IntRange(1, ring.ReplicasMax).Draw(t, "slots")
		w := rapid.IntRange(1, slots).Draw(t, "w")
		r := rapid.IntRange(slots-w+1, slots).Draw(t, "r")
		pairs := rapid.SliceOfN(rapid.Bool(), slots, slots).Draw(t, "pairs")
		write, read := New(slots, w), New(slots, r)
		for slot, pair := range pairs {
			if pair {
				write.Pair(slot)
			}
		}
		asked := make([]bool, slots) // by slot: whether the read asks the second
		for _, slot := range rapid.Permutation(seq(2*slots)).Draw(t, "order of writes") {
			if write.Result() != Met {
				write.Ack(slot/2, slot%2 == 1)
			}
		}
		for _, slot := range rapid.Permutation(seq(slots)).Draw(t, "order of reads") {
			asked[slot] = pairs[slot] && rapid.Bool().Draw(t, "second")
			if read.Result() != Met {
				read.Ack(slot, false)
			}
		}
		if write.Result() != Met || read.Result() != Met {
			t.Fatalf("all acknowledged, yet writes are %v and reads %v", write.Result(), read.Result())
		}
		for slot := range slots {
			if read.Acked(slot, false) && write.Acked(slot, asked[slot]) {
				return
			}
		}
		t.Fatalf("w=%d r=%d of %d met without a common home", w, r, slots)
	})
}

func seq(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

func TestNumbersThatMakeNoSensePanic(t *testing.T) {
	for name, misuse := range map[string]func(){
		"no slots":         func() { New(0, 0) },
		"need nothing":     func() { New(3, 0) },
		"need too much":    func() { New(3, 4) },
		"too many slots":   func() { New(ring.ReplicasMax+1, 1) },
		"slot out of them": func() { t := New(3, 2); t.Ack(3, false) },
		"negative slot":    func() { t := New(3, 2); t.Fail(-1, false) },
		"pair too late":    func() { t := New(3, 2); t.Ack(0, false); t.Pair(1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			misuse()
		}()
	}
}

func TestTallyAllocatesNothing(t *testing.T) {
	met := 0
	if n := testing.AllocsPerRun(100, func() {
		tally := New(3, 2)
		tally.Pair(1)
		tally.Ack(0, false)
		tally.Ack(1, false)
		tally.Ack(1, true)
		if tally.Result() == Met {
			met++
		}
	}); n != 0 || met == 0 {
		t.Errorf("%v allocations, met %d times", n, met)
	}
}

func BenchmarkTally(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		tally := New(3, 2)
		tally.Ack(0, false)
		tally.Ack(2, false)
		if tally.Result() != Met {
			b.Fatal("not met")
		}
	}
}
