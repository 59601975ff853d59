package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
)

// TestImportSurvivesAKilledAndAPausedServer tells whether outcomes are true:
// whatever import has acknowledged can be read through every server, and what
// it has refused is nowhere. Run again, import and export give back the input.
//
// KITH_LONG=1 takes longer faults and the machine's Debian package index.
func TestImportSurvivesAKilledAndAPausedServer(t *testing.T) {
	faults := faults{records: 6_000, timeout: "1s", restartAfter: time.Second, pause: 3 * time.Second}
	if os.Getenv("KITH_LONG") != "" {
		faults.records, faults.timeout = 0, "5s"
		faults.restartAfter, faults.pause = 3*time.Second, 10*time.Second
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	p := startProcesses(t, rng.Perm(5))
	p.wait(5)
	input := filepath.Join(p.dir, "input.jsonl")
	records := faults.input(t, input)

	outcomes := p.importWithFaults(input, faults, rng)
	p.wait(5)
	counts := map[string]int{}
	for _, o := range outcomes {
		counts[o]++
	}
	t.Logf("%d records: %v", len(records), counts)
	if counts["done"] == 0 {
		t.Fatal("nothing was acknowledged")
	}
	p.checkOutcomes(records, outcomes)

	p.until(2*time.Minute, "an import ends with everything done", func() bool {
		status, out, errs := p.kith("import", input, "--timeout", "5s")
		if status != exitOK && status != exitUnknown && status != exitRefused {
			t.Fatalf("import: exit status %d\n%s%s", status, out, errs)
		}
		return status == exitOK
	})
	compareExport(t, p.must("export"), records)
	for _, s := range p.servers {
		s.stop()
	}
}

// faults are what happens during an import.
type faults struct {
	records             int // 0 for the package index of this machine
	timeout             string
	restartAfter, pause time.Duration
}

// input writes the input and gives it as a map.
func (f faults) input(t *testing.T, path string) map[string]string {
	t.Helper()
	records := map[string]string{}
	if f.records == 0 {
		records = packages(t)
	}
	for i := range f.records {
		key := fmt.Sprintf("package-%d/1.%d-%d/amd64", i, i%7, i%3)
		records[key] = fmt.Sprintf("Package: package-%d\nDescription: %s\n", i, strings.Repeat("ünïcode ", 10+i%100))
	}
	var b []byte
	for key, value := range records {
		line, err := encodeRecord(nil, []byte(key), []byte(value))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, line...)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return records
}

// packages reads Debian's package index. Keys are package/version/architecture.
func packages(t *testing.T) map[string]string {
	t.Helper()
	index, err := exec.Command("apt-cache", "dumpavail").Output()
	if err != nil {
		t.Fatalf("KITH_LONG needs Debian's package index: %v", err)
	}
	records := map[string]string{}
	for _, paragraph := range strings.Split(string(index), "\n\n") {
		field := map[string]string{}
		for _, line := range strings.Split(paragraph, "\n") {
			if name, value, ok := strings.Cut(line, ": "); ok && field[name] == "" {
				field[name] = value
			}
		}
		if field["Package"] != "" {
			records[field["Package"]+"/"+field["Version"]+"/"+field["Architecture"]] = paragraph
		}
	}
	return records
}

// importWithFaults kills one server and pauses another while it imports, and
// gives the outcome of every key.
func (p *processes) importWithFaults(input string, f faults, rng *rand.Rand) map[string]string {
	p.t.Helper()
	log := filepath.Join(p.dir, "outcomes.jsonl")
	cmd := exec.Command("kith", "import", input, "--log", log, "--timeout", f.timeout, "--addr", p.addresses())
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	p.until(time.Minute, "the import has begun", func() bool {
		st, err := os.Stat(log)
		return err == nil && st.Size() > 0
	})
	victims := rng.Perm(len(p.servers))
	killed, paused := p.servers[victims[0]], p.servers[victims[1]]
	killed.kill()
	after(time.Duration(rng.Int64N(int64(time.Second))))
	paused.signal(syscall.SIGSTOP)
	resume := time.After(f.pause)
	after(f.restartAfter)
	killed.start()
	<-resume
	paused.signal(syscall.SIGCONT)
	p.t.Logf("killed %s, paused %s", killed.name, paused.name)
	err := <-ended
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && slices.Contains([]int{exitUnknown, exitRefused}, exit.ExitCode())) {
		p.t.Fatalf("import: %v\n%s", err, errs.String())
	}
	return readOutcomes(p.t, log)
}

func readOutcomes(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]string{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var o struct {
			Key     string
			Outcome string
		}
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		out[o.Key] = o.Outcome
	}
	if lines.Err() != nil {
		t.Fatal(lines.Err())
	}
	return out
}

// checkOutcomes reads every key through every server.
func (p *processes) checkOutcomes(records, outcomes map[string]string) {
	p.t.Helper()
	var acknowledged, refused [][]byte
	for key := range records {
		switch outcomes[key] {
		case "done":
			acknowledged = append(acknowledged, []byte(key))
		case "refused":
			refused = append(refused, []byte(key))
		case "unknown":
		default:
			p.t.Errorf("%s has the outcome %q", key, outcomes[key])
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for _, s := range p.servers {
		c, err := client.Dial(ctx, []string{s.listen}, client.Direct())
		if err != nil {
			p.t.Fatalf("%s: %v", s.name, err)
		}
		for i, r := range c.GetAll(ctx, acknowledged) {
			if key := string(acknowledged[i]); r.Err != nil || string(r.Value) != records[key] {
				p.t.Errorf("%s was acknowledged; through %s it is %.40q, %v", key, s.name, r.Value, r.Err)
			}
		}
		for i, r := range c.GetAll(ctx, refused, client.One) {
			if !errors.Is(r.Err, client.ErrNotFound) {
				p.t.Errorf("%s was refused; through %s it is %.40q, %v", refused[i], s.name, r.Value, r.Err)
			}
		}
		c.Close()
	}
}

func compareExport(t *testing.T, export string, records map[string]string) {
	t.Helper()
	seen := 0
	for i, line := range strings.Split(strings.TrimSuffix(export, "\n"), "\n") {
		key, value, err := decodeRecord([]byte(line))
		if err != nil {
			t.Fatalf("line %d of the export: %v", i+1, err)
		}
		if want, ok := records[string(key)]; !ok || want != string(value) {
			t.Errorf("exported %s as %.40q, imported was %.40q", key, value, want)
		}
		seen++
	}
	if seen != len(records) {
		t.Errorf("%d records exported, %d imported", seen, len(records))
	}
}
