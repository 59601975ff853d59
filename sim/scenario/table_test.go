package scenario_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/scenario"
	"github.com/kithdb/kith/sim/trace"
)

var quoted = regexp.MustCompile("`([^`]+)`(\\*?)")

// rows are those of the table of faults in docs/SIMULATION.md, in cells.
func rows(t *testing.T) (out [][]string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/SIMULATION.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "### Which fault is played where")
	table, _, _ = strings.Cut(table, "\n## ")
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) == 7 && strings.ContainsAny(cells[1], "0123456789") {
			out = append(out, cells[1:6])
		}
	}
	if len(out) < 30 {
		t.Fatalf("docs/SIMULATION.md has a table of %d faults", len(out))
	}
	return out
}

// source is the text of all Go files of a folder and those below it.
func source(t *testing.T, folder string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(folder, func(path string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// What the table of faults names is there, and a scenario with a star hurts clients.
func TestFaultsOfTheTableAreThereAndBite(t *testing.T) {
	code, kinds := source(t, ".."), slices.Concat(sim.AllFaults(), sim.LossFaults(), sim.OutageFaults(), sim.RingFaults())
	var hurt []string
	for _, row := range rows(t) {
		named := 0
		for column, cell := range row[2:] {
			for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
				named++
				name, star := m[1], m[2] != ""
				switch column {
				case 0:
					if !slices.ContainsFunc(kinds, func(f sim.Fault) bool { return f.Name == name }) {
						t.Errorf("fault%s: the search has no kind %q", row[0], name)
					}
				case 1:
					if scenario.Find(name) == nil {
						t.Errorf("fault%s: there is no scenario %q", row[0], name)
					} else if star && !slices.Contains(hurt, name) {
						hurt = append(hurt, name)
					}
				case 2:
					if !strings.Contains(code, "func "+name+"_") {
						t.Errorf("fault%s: the simulator has no test %s_...", row[0], name)
					}
				}
			}
		}
		if named == 0 && !strings.Contains(row[2], "every run") {
			t.Errorf("fault%s is played nowhere", row[0])
		}
	}
	for _, name := range hurt {
		run := played(t, scenario.Find(name), 1)
		if !slices.ContainsFunc(run.Ops, func(o trace.Op) bool {
			return o.Outcome != trace.Done || o.Stale || o.Took > time.Second
		}) {
			t.Errorf("%s: every operation was done, and at once: the fault did not bite", name)
		}
	}
}
