package docs

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/kithdb/kith/"

// layers reads the layer table of ARCHITECTURE.md: package to those it may
// import.
func layers(t *testing.T) map[string][]string {
	f, err := os.Open("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table := map[string][]string{}
	in := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		cells := strings.Split(lines.Text(), "|")
		switch {
		case strings.Contains(lines.Text(), "| may import |"):
			in = true
			continue
		case in && len(cells) < 4:
			return table
		case !in || strings.Contains(cells[1], "---"):
			continue
		}
		name := strings.Trim(cells[1], " `")
		table[name] = strings.Fields(strings.NewReplacer("`", "", ",", " ", "nothing", "").Replace(cells[3]))
	}
	t.Fatal("ARCHITECTURE.md has no layer table")
	return nil
}

// imports lists each package of the module with those it imports, tests left
// out.
func imports(t *testing.T) map[string][]string {
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}}: {{join .Imports " "}}`, "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	real := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		name, list, _ := strings.Cut(strings.TrimSpace(line), ": ")
		name = strings.TrimPrefix(strings.TrimSuffix(name, ":"), module)
		real[name] = nil
		for _, i := range strings.Fields(list) {
			if p, ours := strings.CutPrefix(i, module); ours {
				real[name] = append(real[name], p)
			}
		}
	}
	return real
}

func TestImportsFollowTheLayerTable(t *testing.T) {
	table, real := layers(t), imports(t)
	for name, list := range real {
		if name == "docs" {
			continue
		}
		allowed, ok := table[name]
		if !ok {
			t.Errorf("package %s is not in the layer table of docs/ARCHITECTURE.md", name)
			continue
		}
		for _, i := range list {
			if !slices.Contains(allowed, i) {
				t.Errorf("%s imports %s, which the layer table does not allow", name, i)
			}
		}
		for _, a := range allowed {
			if !slices.Contains(list, a) {
				t.Errorf("the layer table allows %s to import %s, which it does not", name, a)
			}
		}
	}
	for name := range table {
		if _, ok := real[name]; !ok {
			t.Errorf("the layer table has package %s, which does not exist", name)
		}
	}
}

// TestLibrariesStayHidden holds the seams: each library is known to one package.
func TestLibrariesStayHidden(t *testing.T) {
	owners := map[string][]string{
		"github.com/hashicorp/serf":         {"gossip"},
		"github.com/hashicorp/memberlist":   {"gossip", "sim"},
		"github.com/vmihailenco/msgpack":    {"rpc"},
		"github.com/syndtr/goleveldb":       {"store", "sim", "node"},
		"github.com/spf13/cobra":            {"cmd"},
		"github.com/HdrHistogram/hdrhistog": {"cmd"},
	}
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}}: {{join .Imports " "}}`, "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		name, list, _ := strings.Cut(strings.TrimSpace(line), ":")
		top, _, _ := strings.Cut(strings.TrimPrefix(name, module), "/")
		for _, i := range strings.Fields(list) {
			for lib, allowed := range owners {
				if strings.HasPrefix(i, lib) && !slices.Contains(allowed, top) {
					t.Errorf("%s imports %s, which belongs to %v", name, i, allowed)
				}
			}
		}
	}
}

// TestInvariantsNameTestsThatExist keeps docs/INVARIANTS.md true.
func TestInvariantsNameTestsThatExist(t *testing.T) {
	text, err := os.ReadFile("INVARIANTS.md")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("git", "grep", "-hoE", `^func (Test|Fuzz)[A-Za-z0-9_]+`, "--", "*_test.go")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git grep: %v", err)
	}
	real := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		real[strings.TrimPrefix(strings.TrimSpace(line), "func ")] = true
	}
	named := 0
	for word := range strings.FieldsFuncSeq(string(text), func(r rune) bool {
		return !(r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z')
	}) {
		if strings.HasPrefix(word, "Test") && word != "Test" || strings.HasPrefix(word, "Fuzz") && word != "Fuzz" {
			named++
			if !real[word] {
				t.Errorf("INVARIANTS.md names %s, which is no test", word)
			}
		}
	}
	if named == 0 {
		t.Error("INVARIANTS.md names no test")
	}
}
