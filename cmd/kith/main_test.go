package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kithdb/kith/cmd/kith/e2e"
	"github.com/kithdb/kith/sim"
)

// commands are the programs that this test's is under another name.
var commands = map[string]func(){"kith": main}

// raceAtExit keeps programs that the race detector looks at from sleeping for a second
// when they end: those of these tests run by the hundred.
const raceAtExit = "atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	if _, set := os.LookupEnv("GORACE"); !set {
		os.Setenv("GORACE", raceAtExit) // for children
	}
	testscript.Main(m, commands)
}

// TestScripts runs the command line as people do. In a script, "exits N kith
// ..." runs a command whose exit status must be N, "until REGEXP kith ..." runs it
// until it prints what matches, "terminate" sends SIGTERM to what runs in the
// background, $PORT begins a row of six
// ports that nobody uses, and $ADDR1 to $ADDR6 are they on loopback.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			ports, err := e2e.FindPorts(6)
			if err != nil {
				return err
			}
			env.Defer(func() { ports.Close() })
			env.Setenv("PORT", strconv.Itoa(ports.First))
			for i := range 6 {
				env.Setenv("ADDR"+strconv.Itoa(i+1), ports.Addr(i))
			}
			env.Setenv("KITH_ADDR", ports.Addr(0))
			env.Setenv("GORACE", os.Getenv("GORACE"))
			if !sim.Replays && strings.HasPrefix(filepath.Base(env.WorkDir), "script-sim") {
				return unraced(env)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "until": until, "terminate": terminate,
		},
	})
}

// unraced has a script's commands run without the race detector, under which simulated
// clusters are slow: the tests of the simulator play them so.
func unraced(env *testscript.Env) error {
	dir := filepath.Join(env.WorkDir, ".unraced")
	if err := buildKith(filepath.Join(dir, "kith")); err != nil {
		return err
	}
	env.Setenv("PATH", dir+string(filepath.ListSeparator)+env.Getenv("PATH"))
	return nil
}

// buildKith builds the binary as it is released.
func buildKith(path string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "github.com/kithdb/kith/cmd/kith")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building kith: %w\n%s", err, out)
	}
	return nil
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// until runs a command again and again until its output matches.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP COMMAND ARG...")
	}
	want, err := regexp.Compile(args[0])
	ts.Check(err)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if ts.Exec(args[1], args[2:]...) == nil && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("the output has not come to match %q", args[0])
}

// terminate sends SIGTERM to all commands in the background.
func terminate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: terminate")
	}
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	}
}
