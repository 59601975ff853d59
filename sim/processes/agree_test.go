package processes

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/trace"
)

func result(world string) *Result {
	return &Result{
		Answers: map[Question][]string{{"cut", "2 of 3 homes", "put at quorum"}: {"done"}, {"cut", "1 of 3 homes", "put at quorum"}: {"refused at once"}},
		Took:    map[string]time.Duration{"healed": time.Second},
		Run:     &trace.Run{World: world, Checks: []trace.Check{{Name: "all homes agree", OK: true}}},
	}
}

// Each difference between two worlds is named, and so is each broken promise.
func TestAgreeNamesEveryDifference(t *testing.T) {
	if err := Agree(result("scripted"), result("processes")); err != nil {
		t.Fatalf("equal results differ: %v", err)
	}
	lost := Question{"cut", "2 of 3 homes", "put at quorum"}
	for _, tc := range []struct {
		name   string
		change func(r *Result)
		want   string
	}{
		{"another answer", func(r *Result) { r.Answers[lost] = []string{"unknown"} }, lost.String() + `: scripted says "done", processes says "unknown"`},
		{"two answers", func(r *Result) { r.Answers[lost] = []string{"unknown", "done"} }, `processes says "done, unknown"`},
		{"a question less", func(r *Result) { delete(r.Answers, lost) }, lost.String()},
		{"a question more", func(r *Result) { r.Answers[Question{When: "after"}] = []string{"done"} }, "after"},
		{"not waited for", func(r *Result) { delete(r.Took, "healed") }, "[healed]"},
		{"a broken promise", func(r *Result) { r.Run.Checks[0] = trace.Check{Name: "all homes agree", Detail: "key 7"} }, "processes: all homes agree: key 7"},
		{"nothing asked", func(r *Result) { clear(r.Answers) }, "done"},
	} {
		other := result("processes")
		tc.change(other)
		if err := Agree(result("scripted"), other); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q in it", tc.name, err, tc.want)
		}
	}
	if err := Agree(&Result{Run: &trace.Run{}}, &Result{Run: &trace.Run{}}); err == nil {
		t.Error("results without a question agree")
	}
}

// What is refused must not have waited, and an answer is told as it was.
func TestJudgeTellsWhatWaited(t *testing.T) {
	began := time.Unix(1000, 0)
	op := func(o sim.Outcome, took time.Duration) *sim.Op {
		return &sim.Op{Outcome: o, Began: began, Ended: began.Add(took)}
	}
	for _, tc := range []struct {
		op   *sim.Op
		want answer
		got  answer
	}{
		{op(sim.Done, patience), served, "done"},
		{op(sim.Done, 0), notDone, "done"},
		{op(sim.Refused, time.Millisecond), denied, "refused at once"},
		{op(sim.Refused, patience), denied, "refused late"},
		{op(sim.Refused, patience), notDone, "not done"},
		{op(sim.Unknown, patience), notDone, "not done"},
		{op(sim.Unknown, patience), denied, "unknown"},
		{op(sim.Pending, 0), served, "pending"},
	} {
		if got := judge(tc.op, task{want: tc.want, limit: patience}); got != tc.got {
			t.Errorf("%v after %v, wanted %q: %q, not %q", tc.op.Outcome, tc.op.Ended.Sub(began), tc.want, got, tc.got)
		}
	}
}

// All stories are there, each under a name and with a title.
func TestStoriesAreNamed(t *testing.T) {
	names := map[string]bool{}
	for _, s := range Stories() {
		names[s.Name] = true
		if s.Title == "" || s.Text == "" {
			t.Errorf("story %q does not say what it tells", s.Name)
		}
	}
	if got := slices.Sorted(maps.Keys(names)); !slices.Equal(got, []string{"deaf", "flap", "halves", "kill", "mute", "oneway", "pause", "split"}) {
		t.Errorf("stories: %v", got)
	}
}
