package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// line is a record of an import file.
type line struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// outcome is a line of an import's log.
type outcome struct {
	Key     string `json:"key"`
	Outcome string `json:"outcome"`
	Error   string `json:"error"`
}

// dataSet gives the path of the records to import and the records. The file
// that KITH_E2E_DATA names is used if it is set: .ci/run makes it from Debian's
// package index.
func dataSet(t *testing.T, dir string) (string, map[string]string) {
	t.Helper()
	path := os.Getenv("KITH_E2E_DATA")
	if path == "" {
		path = filepath.Join(dir, "records.jsonl")
		writeRecords(t, path, 6000)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records := map[string]string{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		records[l.Key] = l.Value
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return path, records
}

// writeRecords makes records of the shape of a package index.
func writeRecords(t *testing.T, path string, n int) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(n)))
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	for i := range n {
		value := fmt.Sprintf("Package: p%d\nDescription: %s – ü\n", i, strings.Repeat("text ", 20+r.IntN(300)))
		if err := e.Encode(line{fmt.Sprintf("p%d/%d.%d/amd64", i, r.IntN(9), r.IntN(99)), value}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readLog(t *testing.T, path string) map[string]outcome {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]outcome{}
	for l := range bytes.Lines(text) {
		var o outcome
		if err := json.Unmarshal(l, &o); err != nil {
			t.Fatalf("log line %q: %v", l, err)
		}
		all[o.Key] = o
	}
	return all
}

// TestImportSurvivesKillAndPause loads a data set into five processes, of which
// one is killed and one is paused in the middle. KITH_E2E_RUNS repeats it.
func TestImportSurvivesKillAndPause(t *testing.T) {
	runs := 1
	if s := os.Getenv("KITH_E2E_RUNS"); s != "" {
		var err error
		if runs, err = strconv.Atoi(s); err != nil {
			t.Fatalf("KITH_E2E_RUNS: %v", err)
		}
	}
	for i := range runs {
		t.Run(fmt.Sprint(i+1), importRun)
	}
}

func importRun(t *testing.T) {
	c := newCluster(t, 5)
	for _, i := range rand.Perm(len(c.servers)) {
		c.start(i)
	}
	c.waitReady()
	path, records := dataSet(t, c.dir)
	log := filepath.Join(c.dir, "outcomes.jsonl")

	imported := make(chan result, 1)
	go func() { imported <- c.kith("import", path, "--w", "quorum", "--log", log) }()
	victims := rand.Perm(len(c.servers))
	killed, paused := victims[0], victims[1]
	until(t, "a tenth of the import", time.Minute, func() bool {
		done, _ := os.ReadFile(log)
		return bytes.Count(done, []byte("\n")) > len(records)/10
	})
	var faults sync.WaitGroup
	c.kill(killed)
	c.signal(paused, syscall.SIGSTOP)
	faults.Go(func() { <-time.After(3 * time.Second); c.start(killed) })
	faults.Go(func() { <-time.After(10 * time.Second); c.signal(paused, syscall.SIGCONT) })
	first := <-imported
	faults.Wait()
	c.waitReady()
	outcomes := readLog(t, log)
	count := map[string]int{}
	for _, o := range outcomes {
		count[o.Outcome]++
	}
	t.Logf("killed %s, paused %s: %v, exit status %d", c.servers[killed].name, c.servers[paused].name, count, first.code)
	if len(outcomes) != len(records) {
		t.Fatalf("the log has outcomes of %d keys, the import has %d\n%s", len(outcomes), len(records), first.stderr)
	}
	c.checkOutcomes(records, outcomes)

	until(t, "an import without unknown or refused records", 2*time.Minute, func() bool {
		return c.kith("import", path, "--w", "quorum").code == 0
	})
	c.checkExport(records)
}

// checkOutcomes reads every acknowledged record at quorum through every server,
// and every refused one at each of its homes.
func (c *cluster) checkOutcomes(records map[string]string, outcomes map[string]outcome) {
	c.t.Helper()
	var done, refused [][]byte
	for key, o := range outcomes {
		switch o.Outcome {
		case "done":
			done = append(done, []byte(key))
		case "refused":
			refused = append(refused, []byte(key))
		case "unknown":
		default:
			c.t.Fatalf("outcome %q of %s", o.Outcome, key)
		}
	}
	net := rpc.NewClient(rpc.TCPConfig{})
	defer net.Close()
	var all sync.WaitGroup
	for _, s := range c.servers {
		all.Go(func() {
			for batch := range slices.Chunk(done, 200) {
				for i, r := range c.getAll(net, s, batch, api.Quorum) {
					switch {
					case len(r.Error) > 0:
						c.t.Errorf("%s through %s: %v", batch[i], s.name, rpc.ParseError(r.Error))
					case !r.Response.Found:
						c.t.Errorf("%s through %s: acknowledged, and not found", batch[i], s.name)
					case string(r.Response.Values[r.Response.Winner].Data) != records[string(batch[i])]:
						c.t.Errorf("%s through %s: acknowledged, and another value", batch[i], s.name)
					}
				}
			}
			for batch := range slices.Chunk(refused, 200) {
				for i, r := range c.getAll(net, s, batch, api.One) {
					if len(r.Error) > 0 {
						c.t.Errorf("%s at %s: %v", batch[i], s.name, rpc.ParseError(r.Error))
					} else if len(r.Response.Values) > 0 {
						c.t.Errorf("%s at %s: refused, and it exists: %s", batch[i], s.name, outcomes[string(batch[i])].Error)
					}
				}
			}
		})
	}
	all.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

func (c *cluster) getAll(net rpc.Transport, s *server, keys [][]byte, r api.Level) []api.GetResult {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	resp, err := api.GetAll.Call(ctx, net, rpc.Peer{Addr: s.addr}, &api.GetAllRequest{Keys: keys, R: r})
	if err != nil {
		c.t.Errorf("reading through %s: %v", s.name, err)
		return nil
	}
	return resp.Results
}

// checkExport compares an export with what was imported.
func (c *cluster) checkExport(records map[string]string) {
	c.t.Helper()
	left := make(map[string]string, len(records))
	for k, v := range records {
		left[k] = v
	}
	for l := range strings.Lines(c.must("export")) {
		var got line
		if err := json.Unmarshal([]byte(l), &got); err != nil {
			c.t.Fatalf("export line %q: %v", l, err)
		}
		want, ok := left[got.Key]
		if !ok {
			c.t.Errorf("export has %s, which was not imported, or has it twice", got.Key)
		} else if want != got.Value {
			c.t.Errorf("export has another value of %s", got.Key)
		}
		delete(left, got.Key)
	}
	if len(left) > 0 {
		c.t.Errorf("export lacks %d records", len(left))
	}
}
