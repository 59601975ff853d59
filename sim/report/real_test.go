package report

import (
	"strings"
	"testing"

	"github.com/kithdb/kith/sim/scenario"
	"github.com/kithdb/kith/sim/trace"
)

// play runs a scenario of the library.
func play(t *testing.T, name string) *trace.Run {
	t.Helper()
	s := scenario.Find(name)
	if s == nil {
		t.Fatalf("the library has no %s", name)
	}
	run, err := scenario.Run(s, scenario.Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// What a real run leaves behind is understood: whose side is whose, who could
// read and write on it, and when it was over.
func TestRealRunsAreUnderstood(t *testing.T) {
	run := play(t, "split-brain")
	text := structure(t, write(t, run))
	if got := toldSides(run); !strings.HasSuffix(got, " A:ab B:cde") || strings.Contains(got, ";") {
		t.Errorf("sides of split-brain: %q, want A:ab B:cde once", got)
	}
	p := newPage(run)
	if len(p.Answer.Columns) != 3 || p.Answer.Columns[1].Chip.Letter != "A" || p.Answer.Columns[2].Chip.Nodes != "c d e" {
		t.Fatalf("columns %+v", p.Answer.Columns)
	}
	for _, r := range p.Answer.Rows {
		small, big := r.Cells[1], r.Cells[2]
		if r.Name == "Read at quorum" && (small.Done > 20 || big.Done < 95) {
			t.Errorf("reads at quorum: %s on two of five, %s on three", small.Percent, big.Percent)
		}
	}
	for _, want := range []string{"1 cut of the network", "Copies that differ", "The story of one key"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	for name, want := range map[string]string{
		"one-way-cut":      " A:a B:b",
		"bridge":           " A:ab B:de",
		"blind-and-causal": "",
	} {
		run := play(t, name)
		structure(t, write(t, run))
		if got := toldSides(run); !strings.HasSuffix(got, want) || strings.Contains(got, ";") {
			t.Errorf("sides of %s: %q, want%s once", name, got, want)
		}
	}
}
