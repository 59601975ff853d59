package scenario_test

import (
	"os"
	"strings"
	"testing"

	"github.com/kithdb/kith/sim/scenario"
)

// blocks are the code blocks of docs/SCENARIOS.md that have a language, and the
// lines in which they begin.
func blocks(t *testing.T, language string) map[int]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/SCENARIOS.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[int]string{}
	begin := 0
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case line == "```"+language:
			begin = i + 1
		case strings.HasPrefix(line, "```"):
			begin = 0
		case begin > 0:
			out[begin] += line + "\n"
		}
	}
	if len(out) == 0 {
		t.Fatalf("docs/SCENARIOS.md has no block of %s", language)
	}
	return out
}

// What the tutorial has people type does what it says.
func TestTutorialHolds(t *testing.T) {
	for line, text := range blocks(t, "scenario") {
		s, err := scenario.Parse("docs/SCENARIOS.md", text)
		if err != nil {
			t.Errorf("block at line %d: %v", line, err)
			continue
		}
		for _, seed := range seeds(2) {
			run, err := scenario.Run(s, scenario.Options{Seed: seed})
			if err != nil {
				t.Fatal(err)
			}
			if !run.OK() {
				t.Errorf("block at line %d, seed %d: %+v", line, seed, run.Checks)
			}
		}
	}
}

// Every line of the reference is one that the parser takes, and every kind of line
// is in the reference.
func TestReferenceIsTrue(t *testing.T) {
	all := ""
	for line, text := range blocks(t, "scenario-lines") {
		all += text
		if s, err := scenario.Parse("docs/SCENARIOS.md", "cluster a b c d e\n"+loaded(text)); err != nil {
			t.Errorf("block at line %d: %v", line, err)
		} else {
			again(t, s)
		}
	}
	for _, word := range []string{
		"zone", "key", "replicas", "partitions", "network", "load", "cut", "isolate", "flap", "heal", "kill", "powercut", "stop", "start",
		"lose", "replace", "repair", "records", "pause", "resume", "rolling", "link", "disk", "clock", "view", "put", "get", "delete", "read-local", "read-all", "wait", "note", "end", "expect",
		"spare", "join", "leave", "remove", "weight", "abort",
	} {
		if !strings.Contains(all, "\n"+word) && !strings.HasPrefix(all, word) && !strings.Contains(all, "s "+word) {
			t.Errorf("the reference has no line with %s", word)
		}
	}
}

// loaded gives a load without an end one.
func loaded(text string) string {
	if strings.Contains(text, "load") && !strings.Contains(text, " end") {
		return text + "at 1m end\n"
	}
	return text
}
