package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/sim/scenario"
	"github.com/kithdb/kith/sim/trace"
)

// The simulation runs in a child process of the same program: a run that hangs or
// crashes is then told by the parent, with what every goroutine was at.

// simRequest is what the child is asked for, in one line of JSON on its input.
type simRequest struct {
	Name            string
	Text            string
	Seed            uint64
	Nodes, Replicas int
	R, W            string
	Key             string
}

// options are the request's, as the scenario takes them.
func (r *simRequest) options() (scenario.Options, error) {
	o := scenario.Options{Seed: r.Seed, Nodes: r.Nodes, Replicas: r.Replicas, Key: r.Key}
	for _, l := range []struct {
		text string
		to   **scenario.Level
	}{{r.R, &o.R}, {r.W, &o.W}} {
		if l.text == "" {
			continue
		}
		level, err := scenario.ParseLevel(l.text)
		if err != nil {
			return o, err
		}
		*l.to = &level
	}
	return o, nil
}

// simLine is one line of the child's output. One without anything says that
// virtual time goes on.
type simLine struct {
	Event *trace.Event `json:",omitempty"`
	Run   *trace.Run   `json:",omitempty"`
	Error string       `json:",omitempty"`
}

func (a *app) simChildCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "child",
		Hidden: true,
		Short:  "Run one simulation for a parent that watches",
		Args:   a.want(0, 0),
		RunE: func(*cobra.Command, []string) error {
			var ask simRequest
			if err := json.NewDecoder(a.in).Decode(&ask); err != nil {
				return usagef("request: %w", err)
			}
			return a.simChild(ask)
		},
	}
}

func (a *app) simChild(ask simRequest) error {
	var mu sync.Mutex // events and ticks come from different goroutines
	out := json.NewEncoder(a.out)
	var failed error
	say := func(l simLine) {
		mu.Lock()
		defer mu.Unlock()
		if err := out.Encode(l); err != nil && failed == nil {
			failed = err
		}
	}
	o, err := ask.options()
	if err != nil {
		return &usageError{err}
	}
	s, err := scenario.Parse(ask.Name, ask.Text)
	if err != nil {
		return &usageError{err}
	}
	o.Tell = func(e trace.Event) { say(simLine{Event: &e}) }
	o.Tick = func() { say(simLine{}) }
	run, err := scenario.Run(s, o)
	if err != nil {
		say(simLine{Error: err.Error()})
	} else {
		say(simLine{Run: run})
	}
	return failed
}

// simulate has a child play and gives its run.
func (a *app) simulate(ctx context.Context, ask simRequest, patience time.Duration, tell func(trace.Event)) (*trace.Run, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	input, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "sim", "child")
	cmd.Args[0] = os.Args[0]
	cmd.Stdin = bytes.NewReader(input)
	// The child has only the environment that the runtime of Go reads.
	var run *trace.Run
	var refused string
	err = supervise(cmd, patience, func(line []byte) error {
		var l simLine
		if err := json.Unmarshal(line, &l); err != nil {
			return fmt.Errorf("the simulation says %.80q: %w", line, err)
		}
		switch {
		case l.Event != nil:
			tell(*l.Event)
		case l.Run != nil:
			run = l.Run
		case l.Error != "":
			refused = l.Error
		}
		return nil
	})
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	case refused != "":
		return nil, fmt.Errorf("simulation: %s", refused)
	case run == nil:
		return nil, errors.New("simulation: it ended without a result")
	}
	return run, nil
}

// supervise runs a command and hands over the lines of its output. If none comes
// for as long as patience, or the command crashes, what it wrote to its error
// output is kept in a file that the error names; a program in Go that hangs writes
// there what every goroutine is at.
func supervise(cmd *exec.Cmd, patience time.Duration, take func(line []byte) error) error {
	var words bytes.Buffer
	cmd.Stderr = &words
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the simulation: %w", err)
	}
	hung := make(chan struct{})
	dog := time.AfterFunc(patience, func() {
		close(hung)
		cmd.Process.Signal(syscall.SIGQUIT)
		// It may not even be able to say that.
		time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
	})
	var taken error
	for lines := bufio.NewReaderSize(out, 64<<10); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if err != io.EOF {
				taken = errors.Join(taken, err)
			}
			break
		}
		if dog.Stop() {
			dog.Reset(patience)
		}
		if taken == nil {
			taken = take(line)
		}
	}
	ended := cmd.Wait()
	dog.Stop()
	select {
	case <-hung:
		return fmt.Errorf("the simulation hangs: virtual time stood still for %v%s", patience, kept(words.Bytes()))
	default:
	}
	if ended != nil {
		return fmt.Errorf("the simulation crashed: %w%s", ended, kept(words.Bytes()))
	}
	return taken
}

// kept writes a dump to a file and says where.
func kept(dump []byte) string {
	if len(dump) == 0 {
		return ""
	}
	f, err := os.CreateTemp("", "kith-sim-*.txt")
	if err != nil {
		return fmt.Sprintf("; its last words could not be kept (%v):\n%s", err, dump)
	}
	defer f.Close()
	if _, err := f.Write(dump); err != nil {
		return fmt.Sprintf("; its last words could not be kept (%v):\n%s", err, dump)
	}
	return "; what its goroutines were at stands in " + f.Name()
}
