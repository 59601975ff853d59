package main

import (
	"bufio"
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

//go:embed patches/*.patch
var patches embed.FS

// bug is one that can be planted.
type bug struct {
	Name   string
	Text   string // what is wrong, in one sentence
	Search string // the hunt's
	// Needs is about how many seeds the search needed when that was last
	// looked at; it only says which bugs are found soonest.
	Needs int
	Patch []byte
}

// bugs reads all patches: those that need the fewest seeds come first.
func bugs() ([]bug, error) {
	files, err := patches.ReadDir("patches")
	if err != nil {
		return nil, err
	}
	var out []bug
	for _, f := range files {
		b := bug{Name: strings.TrimSuffix(f.Name(), ".patch"), Search: "swarm"}
		if b.Patch, err = patches.ReadFile("patches/" + f.Name()); err != nil {
			return nil, err
		}
		if err := b.readHeader(); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		out = append(out, b)
	}
	slices.SortStableFunc(out, func(a, b bug) int { return a.Needs - b.Needs })
	return out, nil
}

// readHeader reads the lines before the first file.
func (b *bug) readHeader() error {
	for lines := bufio.NewScanner(bytes.NewReader(b.Patch)); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), ": ")
		switch {
		case strings.HasPrefix(lines.Text(), "diff "):
			if b.Text == "" || b.Needs == 0 {
				return errors.New(`want lines "Bug: " and "Needs: " before the first file`)
			}
			return nil
		case !ok:
		case name == "Bug":
			b.Text = value
		case name == "Search":
			b.Search = value
		case name == "Needs":
			n, err := strconv.Atoi(value)
			if err != nil {
				return fmt.Errorf("needs %q: want a number of seeds", value)
			}
			b.Needs = n
		}
	}
	return errors.New("the patch changes no file")
}

// files are those that the patch changes.
func (b *bug) files() []string {
	var out []string
	for line := range strings.Lines(string(b.Patch)) {
		if f, ok := strings.CutPrefix(strings.TrimSpace(line), "+++ b/"); ok {
			out = append(out, f)
		}
	}
	return out
}

// plant writes the files with the bug in them below a directory, and returns an
// overlay for the go command that puts them in place of the tree's. The tree is
// not touched.
func (b *bug) plant(tree, dir string) (overlay string, err error) {
	replace := map[string]string{}
	for _, f := range b.files() {
		from, to := filepath.Join(tree, f), filepath.Join(dir, f)
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, text, 0o644)
		}
		if err != nil {
			return "", fmt.Errorf("patch %s: %w", b.Name, err)
		}
		replace[from] = to
	}
	cmd := exec.Command("git", "apply", "-C1", "-")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(b.Patch)
	cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("patch %s does not apply any more: %w\n%s", b.Name, err, out)
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o644)
}

// build compiles the hunt with an overlay.
func build(tree, overlay, to string) error {
	cmd := exec.Command("go", "build", "-buildvcs=false", "-overlay", overlay, "-o", to, "./sim/mutants/hunt")
	cmd.Dir = tree
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}
