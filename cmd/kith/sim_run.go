package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/sim/report"
	"github.com/kithdb/kith/sim/scenario"
	"github.com/kithdb/kith/sim/trace"
)

// simRun is what the flags of sim run ask for.
type simRun struct {
	seed            uint64
	nodes, replicas int
	r, w            string
	key             string
	report          string
	watchdog        time.Duration
}

func (a *app) simRunCommand() *cobra.Command {
	var f simRun
	cmd := &cobra.Command{
		Use:   "run NAME|FILE",
		Short: "Play a scenario and check what must hold",
		Long: `Run plays a scenario of kith sim list, or of a file (- is the input), and prints
its timeline, what became of the operations, and what held. docs/SCENARIOS.md
tells how to write one.

--nodes, --replicas, --r and --w put your cluster in place of the scenario's: what
was expected of its own may then not hold, and that is the answer.`,
		Example: `  kith sim run split-brain
  kith sim run split-brain --replicas 3 --r one --w all
  kith sim run mine.txt --seed 7 --report mine.html
  kith sim run power-cut --format json`,
		Args: a.want(1, 1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return scenarioNames(), cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.simRun(cmd, args[0], f) },
	}
	flags := cmd.Flags()
	flags.Uint64Var(&f.seed, "seed", 1, "of all chance; the same seed gives the same run")
	flags.IntVar(&f.nodes, "nodes", 0, "nodes instead of the scenario's (0: as it says)")
	flags.IntVar(&f.replicas, "replicas", 0, "homes of a key instead of the scenario's (0: as it says)")
	levels := cobra.FixedCompletions([]string{"one", "quorum", "all"}, cobra.ShellCompDirectiveNoFileComp)
	for name, to := range map[string]*string{"r": &f.r, "w": &f.w} {
		flags.VarP((*scenarioLevel)(to), name, name, "level of all loads instead of the scenario's: one, quorum, all or a number")
		check(cmd.RegisterFlagCompletionFunc(name, levels))
	}
	flags.StringVar(&f.key, "key", "", "tell the story of this key")
	flags.StringVar(&f.report, "report", "", "write the run as one HTML file")
	flags.DurationVar(&f.watchdog, "watchdog", time.Minute, "give up when virtual time stands still for so long")
	return cmd
}

// scenarioLevel is a level on the command line; empty is none.
type scenarioLevel string

// String is what was given.
func (l *scenarioLevel) String() string { return string(*l) }

// Type is how help calls the value.
func (l *scenarioLevel) Type() string { return "LEVEL" }

// Set checks a level.
func (l *scenarioLevel) Set(s string) error {
	_, err := scenario.ParseLevel(s)
	*l = scenarioLevel(s)
	return err
}

func (a *app) simRun(cmd *cobra.Command, name string, f simRun) error {
	if f.watchdog < time.Second {
		return usagef("--watchdog %v: want 1s or more", f.watchdog)
	}
	s, err := a.scenarioOf(name)
	if err != nil {
		return err
	}
	ask := simRequest{Name: s.Name, Text: s.Text, Seed: f.seed, Nodes: f.nodes, Replicas: f.replicas, R: f.r, W: f.w, Key: f.key}
	if o, err := ask.options(); err != nil {
		return &usageError{err}
	} else if err := s.Fits(o); err != nil {
		return &usageError{err}
	}
	if f.report != "" { // a name that cannot be written is told before the run
		out, err := os.OpenFile(f.report, os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return usagef("--report: %w", err)
		}
		out.Close()
	}
	tell := func(trace.Event) {}
	if a.format == formatTable {
		a.timelineHead(s, f)
		tell = a.timelineEvent
	}
	run, err := a.simulate(cmd.Context(), ask, f.watchdog, tell)
	if err != nil {
		return err
	}
	run.Replay = f.replay(name)
	if f.report != "" {
		var page bytes.Buffer
		if err := report.Write(&page, run); err != nil {
			return fmt.Errorf("report: %w", err)
		}
		if err := os.WriteFile(f.report, page.Bytes(), 0o644); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	if a.format == formatJSON {
		err = a.writeJSON(runJSONOf(run))
	} else {
		err = a.summary(run, f)
	}
	if err == nil && !run.OK() {
		return &exitError{status: exitBroken}
	}
	return err
}

// replay is the command that gives the same run again.
func (f simRun) replay(name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "kith sim run %s --seed %d", name, f.seed)
	if f.nodes > 0 {
		fmt.Fprintf(&b, " --nodes %d", f.nodes)
	}
	if f.replicas > 0 {
		fmt.Fprintf(&b, " --replicas %d", f.replicas)
	}
	if f.r != "" {
		fmt.Fprintf(&b, " --r %s", f.r)
	}
	if f.w != "" {
		fmt.Fprintf(&b, " --w %s", f.w)
	}
	return b.String()
}
