package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// slackCommand is the name under which this test's program is a server as far as its
// threads are concerned. It says in the file that slackChild names what it is before and
// after relax, and does before what slackFirst asks for.
const (
	slackCommand = "kith-slack"
	slackChild   = "KITH_TEST_SLACK_CHILD"
	slackFirst   = "KITH_TEST_SLACK_FIRST"
	slackBound   = "KITH_TEST_SLACK_BOUND"
	// slackFiles is the bound of open files with which the child is begun: Go raises it.
	slackFiles = 256
)

func init() { commands[slackCommand] = slackChildMain }

func slackChildMain() {
	f, err := os.OpenFile(os.Getenv(slackChild), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	say := func(what string) {
		have, _ := timerSlack()
		_, tried := os.LookupEnv(slackTried)
		fmt.Fprintf(f, "%s: PID %d, %s, slack %v, tried %v, signal %d, raised %v\n", what,
			os.Getpid(), strings.Join(os.Args, " "), have, tried, deathSignal(), openFiles() > slackFiles)
	}
	if os.Getenv(slackBound) == "" {
		bound(slackFiles)
	}
	say("begins")
	switch self, _ := os.Executable(); os.Getenv(slackFirst) {
	case "delete":
		err = os.Remove(self)
	case "replace":
		if err = os.Remove(self); err == nil {
			err = os.WriteFile(self, []byte("#!/bin/sh\nexit 7\n"), 0o700)
		}
	case "fill": // one variable may have 128 KiB
		err = os.Setenv("KITH_TEST_SLACK_FILL", strings.Repeat("x", 200<<10))
	case "elsewhere":
		relaxElsewhere()
		say("goes on")
		return
	}
	if err != nil {
		panic(err)
	}
	if relaxed(os.Args) { // as main
		relax()
	}
	say("goes on")
}

// bound begins the child once more, with a lower bound of open files.
func bound(files uint64) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		panic(err)
	}
	limit.Cur = files
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		panic(err)
	}
	panic(syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), slackBound+"=yes")))
}

// relaxElsewhere calls relax on a thread that is not the first one: init keeps the caller
// on that.
func relaxElsewhere() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		relax()
	}()
	<-done
}

func openFiles() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		panic(err)
	}
	return limit.Cur
}

// deathSignal is what this thread gets when the thread ends that began the process.
func deathSignal() (signal int32) {
	const prGetDeathSignal = 2 // of linux/prctl.h
	syscall.RawSyscall(syscall.SYS_PRCTL, prGetDeathSignal, uintptr(unsafe.Pointer(&signal)), 0)
	return signal
}

// TestAServersThreadsSleepLessExactly runs this test's program as main does a server: it
// begins anew, with the same process ID and arguments, once, and with more slack. What
// it was asked for by who has begun it stays, and where it cannot begin anew it goes on.
func TestAServersThreadsSleepLessExactly(t *testing.T) {
	const (
		begins = "begins: PID, ARGS, slack 50µs, tried false, signal 15, raised true\n"
		anew   = "begins: PID, ARGS, slack 1ms, tried true, signal 15, raised true\n" +
			"goes on: PID, ARGS, slack 1ms, tried false, signal 15, raised true\n"
		goesOn = "goes on: PID, ARGS, slack 50µs, tried false, signal 15, raised true\n"
	)
	for _, test := range []struct {
		name, first string
		symlink     bool
		env         string
		verb        string // server if empty
		want        string // PID and ARGS stand for those of the process
	}{
		{name: "begun anew", want: begins + anew},
		{name: "a bench", verb: "bench", want: begins + anew},
		{name: "another verb", verb: "status", want: begins + goesOn},
		{name: "by a symbolic link", symlink: true, want: begins + anew},
		{name: "not twice", env: slackTried + "=yes",
			want: strings.Replace(begins, "tried false", "tried true", 1) + goesOn},
		{name: "its file is deleted", first: "delete", want: begins + goesOn},
		{name: "another file is in its place", first: "replace", want: begins + goesOn},
		{name: "on another thread", first: "elsewhere", want: begins + goesOn},
		{name: "it cannot be begun anew", first: "fill", want: begins + strings.Replace(goesOn, "50µs", "1ms", 1)},
	} {
		t.Run(test.name, func(t *testing.T) {
			said := runSlackChild(t, cmp.Or(test.verb, "server"), test.first, test.env, test.symlink)
			if said != test.want {
				t.Errorf("the program said\n%swant\n%s", said, test.want)
			}
		})
	}
}

// runSlackChild gives what the child has said, with PID and ARGS for its own.
func runSlackChild(t *testing.T, verb, first, env string, symlink bool) string {
	t.Helper()
	// The child has this thread's slack and hears of its end. Whatever the slack is where
	// the tests run, it begins with this one.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, ok := timerSlack()
	if !ok {
		t.Fatal("this thread has no timer slack")
	}
	defer setTimerSlack(before)
	setTimerSlack(50 * time.Microsecond)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	said, program := filepath.Join(dir, "said"), filepath.Join(dir, "program")
	if symlink {
		err = os.Symlink(self, program)
	} else if err = os.Link(self, program); err != nil { // another file system
		var all []byte
		if all, err = os.ReadFile(self); err == nil {
			err = os.WriteFile(program, all, 0o700)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Args = []string{slackCommand, verb, "--data", "DIR"}
	cmd.Env = append(os.Environ(), slackChild+"="+said, slackFirst+"="+first)
	if env != "" {
		cmd.Env = append(cmd.Env, env)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	all, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(fmt.Sprintf("PID %d, %s,", cmd.Process.Pid, strings.Join(cmd.Args, " ")), "PID, ARGS,").Replace(string(all))
}
