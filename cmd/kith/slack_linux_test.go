package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestAServersThreadsSleepLessExactly runs this test's program anew, as main does a
// server: with the same process ID and arguments, once, and with more slack.
func TestAServersThreadsSleepLessExactly(t *testing.T) {
	const child = "KITH_TEST_SLACK_CHILD"
	if path := os.Getenv(child); path != "" {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		have, _ := timerSlack()
		_, tried := os.LookupEnv(slackTried)
		fmt.Fprintf(f, "%d %v %v %s\n", os.Getpid(), have, tried, strings.Join(os.Args[1:], " "))
		relax()
		_, tried = os.LookupEnv(slackTried)
		fmt.Fprintf(f, "done %v\n", tried)
		return
	}
	// Whatever the slack is where the tests run, the children begin with this one.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, ok := timerSlack()
	if !ok {
		t.Fatal("this thread has no timer slack")
	}
	defer setTimerSlack(before)
	setTimerSlack(50 * time.Microsecond)
	for _, test := range []struct {
		name string
		env  []string
		want string // PID and ARGS stand for those of the process
	}{
		{"begun anew", nil, "PID 50µs false ARGS\nPID 1ms true ARGS\ndone false\n"},
		{"not twice", []string{slackTried + "=yes"}, "PID 50µs true ARGS\ndone false\n"},
	} {
		path := filepath.Join(t.TempDir(), "said")
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(append(os.Environ(), child+"="+path), test.env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", test.name, err, out)
		}
		said, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want := strings.NewReplacer("PID", fmt.Sprint(cmd.Process.Pid), "ARGS", cmd.Args[1]).Replace(test.want)
		if string(said) != want {
			t.Errorf("%s: the program said\n%swant\n%s", test.name, said, want)
		}
	}
}
