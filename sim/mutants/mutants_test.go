package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const tree = "../.."

// Whoever changes a line that a patch stands on is told at once.
func TestEveryPatchApplies(t *testing.T) {
	all, err := bugs()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("there are %d patches", len(all))
	}
	for _, b := range all {
		if _, err := b.plant(absolute(t), t.TempDir()); err != nil {
			t.Error(err)
		}
	}
}

func TestPatchThatDoesNotApplyIsNamed(t *testing.T) {
	all, err := bugs()
	if err != nil {
		t.Fatal(err)
	}
	b := all[0]
	b.Patch = []byte(strings.ReplaceAll(string(b.Patch), "\n-", "\n-no such line "))
	if _, err := b.plant(absolute(t), t.TempDir()); err == nil || !strings.Contains(err.Error(), b.Name) {
		t.Errorf("a patch of %s that is none gave %v", b.Name, err)
	}
}

// KITH_MUTANTS names bugs to plant and hunt, with commas between; a number among them
// is for as many as are found soonest. Each takes some seconds.
func TestSearchFindsPlantedBugs(t *testing.T) {
	list := os.Getenv("KITH_MUTANTS")
	if list == "" {
		t.Log("KITH_MUTANTS is not set: no bug is planted")
		return
	}
	all, err := bugs()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if n, err := strconv.Atoi(name); err == nil {
			for _, b := range all[:min(n, len(all))] {
				names = append(names, b.Name)
			}
			continue
		}
		names = append(names, name)
	}
	if all, err = named(all, names); err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		f, err := b.hunt(absolute(t), 2000, 0)
		if err != nil {
			t.Fatal(err)
		}
		if f.Promise == "" {
			t.Errorf("%s was not found in %d seeds", b.Name, f.Seeds)
			continue
		}
		t.Logf("%s broke %q with seed %d after %v", b.Name, f.Promise, f.Seed, f.Wall)
	}
}

func absolute(t *testing.T) string {
	t.Helper()
	abs, err := filepath.Abs(tree)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}
