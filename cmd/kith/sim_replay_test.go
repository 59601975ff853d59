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
	if err := buildKith(kith); err != nil {
		t.Fatal(err)
	}
	const length = 4 * time.Second
	seeds := uint64(4)
	if !sim.Replays {
		seeds = 1 // the race detector shuffles what happens at one instant: nothing to compare
	}
	for seed := uint64(1); seed <= seeds; seed++ {
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
		if got.Hash == "" || got.Messages == 0 {
			t.Fatalf("seed %d: no trace: %+v", seed, got)
		}
		if !sim.Replays {
			continue
		}
		if here := sim.RunRecorded(sim.Swarm(seed, length)); got.Hash != here.Hash || got.Messages != here.Messages {
			t.Errorf("seed %d: the binary has %d messages with hash %s, this test %d with %s", seed, got.Messages, got.Hash, here.Messages, here.Hash)
		}
	}
}
