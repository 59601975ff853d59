package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/kithdb/kith/sim"
)

// A seed gives the same trace in the binary's child process and in go test, to
// the last message.
func TestBinaryAndTestHaveOneTrace(t *testing.T) {
	kith := filepath.Join(t.TempDir(), "kith")
	if out, err := exec.Command("go", "build", "-o", kith, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	const length = 4 * time.Second
	for seed := uint64(1); seed <= 4; seed++ {
		out, err := exec.Command(kith, "sim", "replay", fmt.Sprint(seed), "--length", length.String(), "--format", "json").Output()
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		var got struct {
			Hash     string
			Messages int
		}
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		here := sim.RunRecorded(sim.Swarm(seed, length))
		if got.Hash == "" || got.Messages == 0 {
			t.Fatalf("seed %d: no trace: %+v", seed, got)
		}
		// The race detector shuffles what happens at one instant.
		if sim.Replays && (got.Hash != here.Hash || got.Messages != here.Messages) {
			t.Errorf("seed %d: the binary has %d messages with hash %s, this test %d with %s", seed, got.Messages, got.Hash, here.Messages, here.Hash)
		}
	}
}
