package processes

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/report"
	"github.com/kithdb/kith/sim/trace"
)

func TestHalves(t *testing.T) { agree(t, "halves") }
func TestOneWay(t *testing.T) { agree(t, "oneway") }
func TestKill(t *testing.T)   { agree(t, "kill") }
func TestPause(t *testing.T)  { agree(t, "pause") }
func TestFlap(t *testing.T)   { agree(t, "flap") }
func TestSplit(t *testing.T)  { agree(t, "split") }
func TestDeaf(t *testing.T)   { agree(t, "deaf") }
func TestMute(t *testing.T)   { agree(t, "mute") }

// agree plays a story on the simulator, and with KITH_NETNS=1 on real processes
// too, and holds the two against each other.
func agree(t *testing.T, name string) {
	net := slices.IndexFunc(Stories(), func(s Story) bool { return s.Name == name })
	story := Stories()[net]
	simulated := simulate(t, story)
	whole(t, simulated)
	if t.Failed() || !real() {
		return
	}
	t.Parallel() // not before: virtual time has one processor for itself
	processes := live(t, story, net)
	whole(t, processes)
	if err := Agree(simulated, processes); err != nil {
		t.Errorf("the two worlds differ:\n%v", err)
	}
	t.Logf("simulated: %v; processes: %v", simulated.Took, processes.Took)
}

// simulate plays a story in virtual time.
func simulate(t *testing.T, s Story) (result *Result) {
	t.Helper()
	began := time.Now()
	sim.Bubble(t, func(t *testing.T) {
		w, err := NewSimulated(1)
		if err != nil {
			t.Fatal(err)
		}
		result = on(t, w, s)
	})
	result.Run.Seed, result.Run.Wall = 1, time.Since(began)
	result.Run.Replay = "go test ./sim/processes -run " + t.Name()
	return result
}

// live plays a story on real processes.
func live(t *testing.T, s Story, net int) *Result {
	t.Helper()
	w, err := NewCluster(os.Getenv(binaryEnv), t.TempDir(), net)
	if err != nil {
		t.Fatal(err)
	}
	result := on(t, w, s)
	result.Run.Wall = result.Run.Length
	result.Run.Replay = "KITH_NETNS=1 go test ./sim/processes -run " + t.Name()
	return result
}

func on(t *testing.T, w World, s Story) *Result {
	t.Helper()
	result, err := Play(w, s)
	if err != nil {
		t.Errorf("%v\nthe nodes' words:\n%s", err, w.Log())
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	return result
}

// whole wants every promise kept, and a trace that tells the run. With
// -artifacts, the trace stays behind, as JSON and as a page to look at.
func whole(t *testing.T, r *Result) {
	t.Helper()
	run := r.Run
	for _, c := range run.Checks {
		if !c.OK {
			t.Errorf("%s: %s: %s", run.World, c.Name, c.Detail)
		}
	}
	if t.Failed() {
		return
	}
	if len(run.Ops) != len(r.History.Ops()) || len(run.Samples) == 0 || len(run.Events) < 3 || len(run.Story.Lines) == 0 {
		t.Errorf("%s: the trace has %d of %d operations, %d samples, %d events", run.World, len(run.Ops), len(r.History.Ops()), len(run.Samples), len(run.Events))
	}
	for _, o := range run.Ops {
		if o.Level == "" || o.Outcome == trace.Done && o.Via == "" {
			t.Errorf("%s: the trace does not tell how this was done: %+v", run.World, o)
		}
	}
	if sick := func(s trace.NodeSample) bool { return s.State != "up" || slices.Contains(s.Sees, false) }; !slices.ContainsFunc(run.Samples,
		func(s trace.Sample) bool { return slices.ContainsFunc(s.Nodes, sick) }) {
		t.Errorf("%s: no sample shows that anything happened", run.World)
	}
	text, err := json.MarshalIndent(run, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	var page bytes.Buffer
	if err := report.Write(&page, run); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{".json": text, ".html": page.Bytes()} {
		if err := os.WriteFile(filepath.Join(t.ArtifactDir(), run.World+name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
