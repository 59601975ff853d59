// Command mutants plants known bugs, one at a time, and looks whether the search
// of random schedules finds them.
//
// Each bug is a patch in patches, with a header that says what is wrong. The
// tree is not touched: the patched files stand in for the real ones by an
// overlay, package hunt is compiled with it, and plays seeds until a promise is
// broken. One row is printed for each bug; the table in docs/SIMULATION.md is
// its output.
//
// Its exit status is 0 if all bugs were found, 9 if one was not, 1 if a patch
// does not apply or the search broke down, 2 for bad usage.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	tree := flag.String("tree", ".", "the module's folder")
	seeds := flag.Int("seeds", 2000, "how many seeds to play at most for each bug")
	shrink := flag.Int("shrink", 60, "how many runs to shrink with at most; 0 does not shrink")
	verbose := flag.Bool("v", false, "print the shrunk schedule and the story of each finding")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./sim/mutants [flags] [BUG ...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	all, err := bugs()
	if err == nil {
		all, err = named(all, flag.Args())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
	fmt.Print(header)
	status := 0
	for _, b := range all {
		f, err := b.hunt(*tree, *seeds, *shrink)
		switch {
		case err != nil:
			fmt.Fprintln(os.Stderr, "mutants:", err)
			os.Exit(1)
		case f.Promise == "":
			status = 9
		}
		fmt.Println(b.row(f))
		if *verbose {
			fmt.Printf("%s: seed %d, wall %v, shrinking %v\n%s\n%s\n\n",
				b.Name, f.Seed, f.Wall, f.Shrinking, f.Shrunk, f.Error)
		}
	}
	os.Exit(status)
}

// named picks bugs by their names; all of them without names.
func named(all []bug, names []string) ([]bug, error) {
	for _, name := range names {
		if !slices.ContainsFunc(all, func(b bug) bool { return b.Name == name }) {
			return nil, fmt.Errorf("there is no bug %q", name)
		}
	}
	return slices.DeleteFunc(all, func(b bug) bool { return len(names) > 0 && !slices.Contains(names, b.Name) }), nil
}

// found is what the hunt prints.
type found struct {
	Promise, Error, Shrunk   string
	Seed, Seeds              uint64
	Virtual, Wall, Shrinking time.Duration
	Before, After            int
}

// hunt plants the bug and searches for it.
func (b *bug) hunt(tree string, seeds, shrink int) (*found, error) {
	tree, err := filepath.Abs(tree)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "kith-mutant-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	overlay, err := b.plant(tree, dir)
	if err != nil {
		return nil, err
	}
	binary := filepath.Join(dir, "hunt.bin")
	if err := build(tree, overlay, binary); err != nil {
		return nil, fmt.Errorf("patch %s: %w", b.Name, err)
	}
	cmd := exec.Command(binary, "-search", b.Search, "-seeds", strconv.Itoa(seeds), "-shrink", strconv.Itoa(shrink))
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("hunt of %s: %w", b.Name, err)
	}
	f := new(found)
	if err := json.Unmarshal(out, f); err != nil {
		return nil, fmt.Errorf("hunt of %s: %w", b.Name, err)
	}
	return f, nil
}

const header = "| bug | promise that broke | seeds | virtual time | faults, shrunk | wall time |\n|---|---|--:|--:|--:|--:|\n"

// row tells of one hunt in a row of the table.
func (b *bug) row(f *found) string {
	promise, shrunk := f.Promise, fmt.Sprintf("%d, %d", f.Before, f.After)
	if promise == "" {
		promise, shrunk = "none: not found", ""
	}
	text := strings.TrimSuffix(b.Text, ".")
	if b.Search != "swarm" {
		text += " (search `" + b.Search + "`)"
	}
	return fmt.Sprintf("| `%s`: %s | %s | %d | %v | %s | %v |", b.Name, text, promise,
		f.Seeds, f.Virtual.Round(time.Second), shrunk, f.Wall.Round(100*time.Millisecond))
}
