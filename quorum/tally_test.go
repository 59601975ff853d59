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

// model counts by looking at every slot anew. A slot has one member, or two that
// count as one: there is one such slot at most.
type model struct {
	need  int
	words [SeatsMax]answer
	slots [][]int // seats
}

func (m *model) word(seat int, a answer) {
	if m.words[seat] == silent {
		m.words[seat] = a
	}
}

// got counts the slots of which all members have acknowledged, or may yet.
func (m *model) got(hoping bool) (n int) {
	for _, seats := range m.slots {
		all := true
		for _, seat := range seats {
			all = all && (m.words[seat] == acked || hoping && m.words[seat] == silent)
		}
		if all {
			n++
		}
	}
	return n
}

func (m *model) result() Result {
	switch {
	case m.got(false) >= m.need:
		return Met
	case m.got(true) >= m.need:
		return Pending
	}
	return Unmet
}

// The two needs of a move together are one need of slots, in which the two ends of
// the move count as one and only if both have acknowledged.
func TestTallyCountsAsTheObviousCountDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slots := rapid.IntRange(1, ring.ReplicasMax).Draw(t, "slots")
		need := rapid.IntRange(1, slots).Draw(t, "need")
		tally, m := New(slots, need), model{need: need}
		for slot := range slots {
			m.slots = append(m.slots, []int{slot})
		}
		seats := slots
		if pair := rapid.IntRange(-1, slots-1).Draw(t, "pair"); pair >= 0 {
			tally.add((1<<slots-1)&^(1<<pair)|1<<slots, need)
			m.slots[pair] = append(m.slots[pair], slots)
			seats++
		}
		final := Pending
		for range rapid.IntRange(0, 40).Draw(t, "events") {
			seat := rapid.IntRange(0, seats-1).Draw(t, "seat")
			if rapid.Bool().Draw(t, "ack") {
				tally.Ack(seat)
				m.word(seat, acked)
			} else {
				tally.Fail(seat)
				m.word(seat, failed)
			}
			if got, want := tally.Result(), m.result(); got != want {
				t.Fatalf("result %v, want %v", got, want)
			}
			if final != Pending && tally.Result() != final {
				t.Fatalf("result %v became %v", final, tally.Result())
			}
			final = tally.Result()
			if got, want := tally.Acked(seat), m.words[seat] == acked; got != want {
				t.Fatalf("acked %v, want %v", got, want)
			}
			if (tally.Got() >= tally.Need()) != (final == Met) || tally.Need() != need || tally.Slots() != slots {
				t.Fatalf("%d of %d, need %d of %d, is %v", tally.Got(), tally.Slots(), need, slots, final)
			}
		}
	})
}

func TestNumbersThatMakeNoSensePanic(t *testing.T) {
	for name, misuse := range map[string]func(){
		"no slots":       func() { New(0, 0) },
		"need nothing":   func() { New(3, 0) },
		"need too much":  func() { New(3, 4) },
		"too many slots": func() { New(ring.ReplicasMax+1, 1) },
		"no such seat":   func() { t := New(3, 2); t.Ack(SeatsMax) },
		"negative seat":  func() { t := New(3, 2); t.Fail(-1) },
		"too many seats": func() { t := New(3, 2); t.add(0b11, 3) },
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

func TestATallyWithoutSeatsIsNeverMet(t *testing.T) {
	var tally Tally
	tally.Ack(0)
	if tally.Result() != Unmet || tally.Got() != 0 || tally.Need() != 0 {
		t.Errorf("%v, %d of %d", tally.Result(), tally.Got(), tally.Need())
	}
}

func TestTallyAllocatesNothing(t *testing.T) {
	met := 0
	if n := testing.AllocsPerRun(100, func() {
		tally := New(3, 2)
		tally.add(0b1011, 2)
		tally.Ack(0)
		tally.Ack(1)
		tally.Ack(3)
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
		tally.Ack(0)
		tally.Ack(2)
		if tally.Result() != Met {
			b.Fatal("not met")
		}
	}
}
