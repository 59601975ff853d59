package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/sim/trace"
)

// TestChildOfTheseTests is no test of its own: as a child process it does what
// KITH_CHILD says.
func TestChildOfTheseTests(t *testing.T) {
	switch os.Getenv("KITH_CHILD") {
	case "hangs":
		fmt.Println("first")
		hangHere(make(chan struct{}))
	case "crashes":
		fmt.Println("first")
		panic("as told")
	case "slow":
		for i := range 25 {
			fmt.Println(i)
			<-time.After(200 * time.Millisecond)
		}
		os.Exit(0)
	}
}

// patience is more than a child takes to begin on a busy machine, and less than
// the slow one takes in all.
const patience = 4 * time.Second

//go:noinline
func hangHere(never chan struct{}) {
	for {
		select {
		case <-never:
		case <-time.After(time.Hour):
		}
	}
}

func child(what string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^TestChildOfTheseTests$")
	cmd.Env = append(os.Environ(), "KITH_CHILD="+what)
	return cmd
}

// dumped gives the dump that an error names.
func dumped(t *testing.T, err error) string {
	t.Helper()
	_, file, ok := strings.Cut(fmt.Sprint(err), "stands in ")
	if !ok {
		t.Fatalf("the error names no file: %v", err)
	}
	dump, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(file)
	return string(dump)
}

// A simulation in which nothing moves any more is ended, and what every goroutine
// was at is kept.
func TestWatchdogEndsARunThatHangsAndKeepsItsGoroutines(t *testing.T) {
	t.Parallel()
	var lines []string
	err := supervise(child("hangs"), patience, func(line []byte) error {
		lines = append(lines, strings.TrimSpace(string(line)))
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "hangs: virtual time stood still for 4s") {
		t.Fatal(err)
	}
	if dump := dumped(t, err); !strings.Contains(dump, "hangHere") {
		t.Errorf("no goroutine stands where it hangs:\n%s", dump)
	}
	if len(lines) == 0 || lines[0] != "first" {
		t.Errorf("lines %q", lines)
	}
}

// A run that goes on is left alone, however long it takes.
func TestWatchdogLeavesASlowRunAlone(t *testing.T) {
	t.Parallel()
	n := 0
	err := supervise(child("slow"), patience, func([]byte) error { n++; return nil })
	if err != nil || n != 25 {
		t.Errorf("%d lines, %v", n, err)
	}
}

func TestCrashOfARunIsToldWithItsWords(t *testing.T) {
	err := supervise(child("crashes"), time.Minute, func([]byte) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "crashed: exit status 2") {
		t.Fatal(err)
	}
	if dump := dumped(t, err); !strings.Contains(dump, "as told") {
		t.Error(dump)
	}
}

// sampled makes a run of samples, one a second, with so many differing keys each,
// and heals at some seconds.
func sampled(differ []int, heals ...int) *trace.Run {
	run := &trace.Run{}
	for i, d := range differ {
		run.Samples = append(run.Samples, trace.Sample{At: time.Duration(i) * time.Second, Differ: d, Keys: 9})
	}
	for _, h := range heals {
		run.Events = append(run.Events, trace.Event{At: time.Duration(h) * time.Second, Kind: "heal"})
	}
	return run
}

// How long copies took is counted from the last mending of the script.
func TestEqualAgainIsCountedFromTheLastMending(t *testing.T) {
	for _, c := range []struct {
		differ []int
		heals  []int
		want   string
	}{
		{[]int{0, 4, 4, 2, 0, 0}, []int{2}, "all equal 2.00s after the last mending, at 2.000; all 9 keys were equal"},
		{[]int{0, 4, 0, 2, 0, 0}, []int{1, 3}, "all equal 1.00s after the last mending, at 3.000; all 9 keys were equal"},
		{[]int{0, 4, 0, 2, 0, 1}, []int{1}, "all equal 1.00s after the last mending, at 1.000; 1 of 9 keys differed when the script was over"},
		{[]int{0, 4, 2, 2}, []int{1}, "copies: 2 of 9 keys differed when the script was over"},
		{[]int{0, 0, 0}, nil, "copies: all 9 keys were equal on all their homes when the script was over"},
		{[]int{0, 0, 0}, []int{7}, "copies: all 9 keys were equal"}, // healed by the settling, not by the script
	} {
		if got := equalText(sampled(c.differ, c.heals...)); !strings.Contains(got, c.want) {
			t.Errorf("%v healed at %v: %s\nwant %s", c.differ, c.heals, got, c.want)
		}
	}
}

// The numbers of the summary are those of the operations.
func TestSummaryCountsEveryOperationOnce(t *testing.T) {
	run := sampled([]int{0})
	op := func(side, kind, level string, outcome trace.Outcome, took time.Duration, stale bool) {
		run.Ops = append(run.Ops, trace.Op{Side: side, Kind: kind, Level: level, Outcome: outcome, Took: took, Stale: stale, Behind: 3 * took})
	}
	op("", "get", "one", trace.Done, 10*time.Millisecond, true)
	op("", "get", "one", trace.Refused, 30*time.Millisecond, false)
	op("", "get", "one", trace.Done, 20*time.Millisecond, true)
	op("a,b", "put", "quorum", trace.Unknown, time.Second, false)
	var out bytes.Buffer
	a := &app{out: &out}
	if err := a.summary(run, simRun{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"all   get   one     2     1        0        2      60.0ms  20.0ms  30.0ms",
		"a,b   put   quorum  0     0        1        -      -       1.00s   1.00s",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("want %q:\n%s", want, out.String())
		}
	}
}
