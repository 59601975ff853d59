package antientropy

import (
	"os"
	"strconv"
	"testing"
)

// histories is how many random histories a model plays: few by default, a quarter under
// the race detector, which sees nothing in them, as many as KITH_HISTORIES says if that
// is set.
func histories(t *testing.T, few int) int {
	t.Helper()
	s := os.Getenv("KITH_HISTORIES")
	if s == "" && raced {
		return few / 4
	} else if s == "" {
		return few
	}
	n, err := strconv.Atoi(s)
	if err != nil || n <= 0 {
		t.Fatalf("KITH_HISTORIES=%q: want a positive number", s)
	}
	return n
}

func TestForgettingLosesNothingAndBringsNothingBack(t *testing.T) {
	n, forgotten, doubts := histories(t, 2000), 0, 0
	for seed := range uint64(n) {
		m := newForgetModel(seed, weak{})
		if e := m.run(); e.bad() {
			t.Fatalf("history %d: %+v", seed, e)
		}
		forgotten += m.forgotten
		doubts += m.doubts
	}
	if forgotten < n {
		t.Errorf("%d records were forgotten in %d histories: the model tests nothing", forgotten, n)
	}
	t.Logf("%d histories, %d records forgotten at one home, %d doubts", n, forgotten, doubts)
}

// enough is how many histories find each missing rule, ten times over.
const enough = 30000

func TestForgettingFailsWithoutAnyOneOfItsRules(t *testing.T) {
	for _, rule := range []struct {
		name string
		weak
	}{
		{"what a dead record has seen is stable on every home", weak{noStable: true}},
		{"every home confirms an equal record", weak{noConfirm: true}},
		{"a record that comes is filled with the clock", weak{noFill: true}},
		{"verdicts speak of what a home does not hold", weak{noVerdicts: true, often: map[string]int{"lose": 6, "back up": 8, "settle": 12, "put": 12, "crash": 0}}},
		{"a home that lost something forgets its clock", weak{lossyClock: true}},
		{"the base of a verdict is older than the records", weak{lateBase: true}},
		{"the end of a record takes the clock to the disk", weak{staleClock: true, often: map[string]int{"crash": 8}}},
		{"a home exchanges clocks before it counts", weak{unready: true, often: map[string]int{"crash": 6, "lose": 5, "open": 20, "settle": 10}}},
	} {
		t.Run(rule.name, func(t *testing.T) {
			for seed := range uint64(enough) {
				m := newForgetModel(seed, rule.weak)
				if e := m.run(); e.bad() {
					t.Logf("history %d: %+v", seed, e)
					return
				}
			}
			t.Errorf("%d histories do not miss the rule", enough)
		})
	}
}
