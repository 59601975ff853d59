package report

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/kithdb/kith/sim/trace"
)

func usual() shape { return shape{seed: 42, nodes: 5, ops: 4800, length: time.Minute} }

func write(t testing.TB, run *trace.Run) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, run); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// With KITH_REPORTS naming a folder, the made-up runs are left there to look at.
func TestMadeUpRunsAreDrawn(t *testing.T) {
	broken := usual()
	broken.broken = true
	large := shape{seed: 7, nodes: 100, ops: 100_000, length: 10 * time.Minute}
	for name, s := range map[string]shape{"held": usual(), "broken": broken, "large": large} {
		page := write(t, made(s))
		if most := 3 << 20; len(page) > most {
			t.Errorf("%s: %d bytes, want at most %d", name, len(page), most)
		}
		t.Logf("%s: %d kB", name, len(page)>>10)
		if dir := os.Getenv("KITH_REPORTS"); dir != "" {
			if err := os.WriteFile(dir+"/"+name+".html", []byte(page), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
