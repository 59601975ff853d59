package processes

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kithdb/kith/sim"
)

func TestHalves(t *testing.T) { agree(t, "halves") }
func TestOneWay(t *testing.T) { agree(t, "oneway") }
func TestKill(t *testing.T)   { agree(t, "kill") }
func TestPause(t *testing.T)  { agree(t, "pause") }
func TestFlap(t *testing.T)   { agree(t, "flap") }

// agree plays a story on the simulator, and with KITH_NETNS=1 on real processes
// too, and holds the two against each other.
func agree(t *testing.T, name string) {
	net := slices.IndexFunc(Stories(), func(s Story) bool { return s.Name == name })
	story := Stories()[net]
	simulated := simulate(t, story)
	expect(t, simulated)
	if t.Failed() || !real() {
		return
	}
	t.Parallel() // not before: virtual time has one processor for itself
	processes := live(t, story, net)
	if err := Agree(simulated, processes); err != nil {
		t.Errorf("the two worlds differ:\n%v", err)
	}
	t.Logf("simulated: %v; processes: %v", simulated.Took, processes.Took)
}

// simulate plays a story in virtual time.
func simulate(t *testing.T, s Story) (result *Result) {
	t.Helper()
	sim.Bubble(t, func(t *testing.T) {
		w, err := NewSimulated(1)
		if err != nil {
			t.Fatal(err)
		}
		result = on(t, w, s)
	})
	return result
}

// live plays a story on real processes.
func live(t *testing.T, s Story, net int) *Result {
	t.Helper()
	w, err := NewCluster(os.Getenv(binaryEnv), t.TempDir(), net)
	if err != nil {
		t.Fatal(err)
	}
	return on(t, w, s)
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

func expect(t *testing.T, r *Result) {
	t.Helper()
	for _, c := range r.Run.Checks {
		if !c.OK {
			t.Errorf("%s: %s", c.Name, c.Detail)
		}
	}
	text, err := json.MarshalIndent(r.Run, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(t.ArtifactDir(), r.Run.World+".json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
}
