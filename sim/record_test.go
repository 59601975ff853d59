package sim_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
)

// One seed gives one trace: the same operations with the same outcomes at the same
// nanoseconds, and the same messages between the same machines.
func TestOneSeedOneTrace(t *testing.T) { oneTrace(t, seeds(20), 4*time.Second, sim.Swarm) }

// Longer runs meet more coincidences.
func TestOneSeedOneTraceOfLongRuns(t *testing.T) { oneTrace(t, seeds(6), 20*time.Second, sim.Swarm) }

// So do records of the ring: many requests and loops wait for each.
func TestOneSeedOneTraceOfChangingRings(t *testing.T) {
	oneTrace(t, seeds(6), 10*time.Second, changing)
}

// changing is a seed's run in which operators change the ring, whatever it draws.
func changing(seed uint64, length time.Duration) (sim.Options, sim.Story) {
	o, s := sim.Swarm(seed, length)
	s.Changes = true
	return o, s
}

func sameTrace(a, b *sim.Recorded) bool {
	a.Trace.Wall, b.Trace.Wall = 0, 0
	return a.Hash == b.Hash && reflect.DeepEqual(a.Trace, b.Trace)
}

func oneTrace(t *testing.T, seeds []uint64, length time.Duration, draw func(uint64, time.Duration) (sim.Options, sim.Story)) {
	if !sim.Replays {
		seeds = seeds[:1] // the race detector shuffles what happens at one instant: nothing to compare
	}
	hashes := map[string]uint64{}
	for _, seed := range seeds {
		a := sim.RunRecorded(draw(seed, length))
		if a.Err != nil {
			t.Fatalf("%v\n%s", a.Err, a.Log)
		}
		if len(a.Trace.Ops) == 0 || a.Messages == 0 {
			t.Fatalf("seed %d: nothing happened: %d operations, %d messages", seed, len(a.Trace.Ops), a.Messages)
		}
		if other, ok := hashes[a.Hash]; ok {
			t.Errorf("seeds %d and %d have one trace", other, seed)
		}
		hashes[a.Hash] = seed
		if !sim.Replays {
			continue
		}
		b := sim.RunRecorded(draw(seed, length))
		if !sameTrace(a, b) {
			t.Errorf("seed %d: %d messages with hash %s, then %d with %s; first difference: %s",
				seed, a.Messages, a.Hash, b.Messages, b.Hash, firstDifference(a, b))
		}
	}
}

func firstDifference(a, b *sim.Recorded) string {
	for i := range min(len(a.Trace.Ops), len(b.Trace.Ops)) {
		if a.Trace.Ops[i] != b.Trace.Ops[i] {
			return fmt.Sprintf("%+v\n%+v", a.Trace.Ops[i], b.Trace.Ops[i])
		}
	}
	return fmt.Sprintf("%d and %d operations, the messages alone", len(a.Trace.Ops), len(b.Trace.Ops))
}

// Listening to a run changes nothing of it.
func TestRecordingChangesNothing(t *testing.T) {
	o, s := sim.Swarm(7, 4*time.Second)
	plain := sim.Run(o, s)
	events, faults := 0, 0
	o.Network.Trace = func(network.Event) { events++ }
	o.Tell = func(sim.Told) { faults++ }
	rec := sim.RunRecorded(o, s)
	if events != rec.Messages || faults != len(rec.Trace.Events) || faults == 0 {
		t.Errorf("the listener heard %d messages and %d faults, the record has %d and %d", events, faults, rec.Messages, len(rec.Trace.Events))
	}
	if plain.Err != nil || rec.Err != nil {
		t.Fatal(plain.Err, rec.Err)
	}
	if sim.Replays && plain.History.Story("key0") != rec.History.Story("key0") {
		t.Errorf("without a record:\n%s\nwith one:\n%s", plain.History.Story("key0"), rec.History.Story("key0"))
	}
	if !rec.Trace.OK() || len(rec.Trace.Checks) < len(sim.Promises()) {
		t.Errorf("checks %+v", rec.Trace.Checks)
	}
}

// What was saved is the same run again.
func TestSavedRunsAreTheSameRun(t *testing.T) {
	for _, seed := range []uint64{3, 4, 11} {
		was := sim.RunRecorded(sim.Swarm(seed, 4*time.Second))
		o, s, err := sim.ParseSaved(was.Save())
		if err != nil {
			t.Fatalf("%v\n%s", err, was.Save())
		}
		is := sim.RunRecorded(o, s)
		if again := is.Save(); again != was.Save() {
			t.Errorf("saved\n%s\nthen\n%s", was.Save(), again)
		}
		if sim.Replays && is.Hash != was.Hash {
			t.Errorf("seed %d: the saved run has another trace", seed)
		}
	}
}

func TestSavedRunsAreReadWithCare(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "no line with a seed",
		"seed x":                             `line 1: seed "x"`,
		"seed 1\nlength 2h30":                `length "2h30": want 1ms to 24h0m0s`,
		"seed 1\nclients 0":                  `clients "0": want 1 to 1000`,
		"seed 1\nkeys 100001":                "want 1 to 100000",
		"seed 1\nvalues -1":                  "want 0 to 1048576",
		"seed 1\nweather good":               `line 2: "weather"`,
		"# one\n\nseed 1\nat 1s for 2s rain": "line 4",
	} {
		if _, _, err := sim.ParseSaved(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	// An empty schedule is one: nothing befalls the cluster.
	if _, s, err := sim.ParseSaved("seed 1\n"); err != nil || s.Steps == nil || len(s.Steps) != 0 {
		t.Errorf("%v %v", s.Steps, err)
	}
}

// A run that breaks a promise says which, of which key, and tells its story.
func TestBrokenRunsTellTheStory(t *testing.T) {
	var r *sim.Recorded
	const first = 64 // of those before it none notices the lie
	for seed := uint64(first); r == nil || r.Key() == ""; seed++ {
		o, s := sim.Swarm(seed, 10*time.Second)
		o.LyingDisks = true
		if r = sim.RunRecorded(o, s); seed > first+100 {
			t.Fatal("disks that lie were not noticed in 100 seeds")
		}
	}
	if r.Promise() == "" || r.Promise() == sim.CanBePlayed {
		t.Errorf("promise %q of %v", r.Promise(), r.Err)
	}
	if r.Trace.OK() || r.Key() == "" || r.Trace.Story.Key != r.Key() || len(r.Trace.Story.Lines) == 0 {
		t.Errorf("key %q, story %+v", r.Key(), r.Trace.Story)
	}
	if text := r.Save(); !strings.Contains(text, "# seed ") || !strings.Contains(text, "disks lie") {
		t.Errorf("saved without what is wrong:\n%s", text)
	}
	o, s, err := sim.ParseSaved(r.Save())
	if err != nil {
		t.Fatal(err)
	}
	if again := sim.Run(o, s); sim.Replays && (again.Err == nil || again.Promise() != r.Promise()) {
		t.Errorf("it broke %q, and again: %v", r.Promise(), again.Err)
	}
}
