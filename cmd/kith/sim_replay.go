package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/sim/trace"
)

func (a *app) simReplayCommand() *cobra.Command {
	var f play
	cmd := &cobra.Command{
		Use:   "replay SEED|FILE",
		Short: "Play a random schedule again and print its trace",
		Long: `Replay plays the run of a seed of kith sim search again, or one that search or
shrink has saved (- is the input), and prints all that happened: faults and
operations, one a line. The same seed, length and version of kith give the same
trace, byte for byte; its hash covers every message of the network as well.`,
		Example: `  kith sim replay 42 --length 20s
  kith sim replay failed.txt --format json`,
		Args: a.want(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.simReplay(cmd, args[0], f) },
	}
	f.flags(cmd.Flags())
	return cmd
}

func (a *app) simReplay(cmd *cobra.Command, name string, f play) error {
	ask, err := a.request(name, f)
	if err != nil {
		return err
	}
	ask.Record = true
	var got *played
	if _, err := playing(cmd.Context(), ask, f.watchdog, func(l playLine) { got = cmp.Or(got, l.Played) }); err != nil {
		return err
	}
	if got == nil || got.Trace == nil {
		return errNothing
	}
	run := got.Trace
	run.Title, run.Replay = fmt.Sprintf("random faults of seed %d", run.Seed), f.replay(run.Seed)
	if ask.Saved != "" {
		run.Replay = "kith sim replay " + name
	}
	if a.format == formatJSON {
		err = a.writeJSON(struct {
			runJSON
			Hash     string   `json:"hash"`
			Messages int      `json:"messages"`
			Failure  *failure `json:"failure"`
		}{runJSONOf(run), got.Hash, got.Messages, got.Failure})
	} else {
		fmt.Fprintf(a.out, "%s  %d nodes, %d homes a key, %d partitions\n\n", run.Title, len(run.Nodes), run.Replicas, run.Partitions)
		if err = writeTrace(a.out, run); err == nil {
			err = a.summary(run, simRun{})
		}
		fmt.Fprintf(a.out, "trace: %d messages, hash %s\n", got.Messages, got.Hash)
	}
	if err == nil && !run.OK() {
		return &exitError{status: exitBroken}
	}
	return err
}

// writeTrace prints faults and operations in the order of their beginning:
// seconds of virtual time since the story began, how long it took in
// milliseconds, who did it, what, and what came of it.
func writeTrace(w io.Writer, run *trace.Run) error {
	type line struct {
		at   time.Duration
		text string
	}
	lines := make([]line, 0, len(run.Events)+len(run.Ops))
	for _, e := range run.Events {
		lines = append(lines, line{e.At, fmt.Sprintf("%10.3f  %9s  %-5s %-9s  %s", e.At.Seconds(), "", "*", e.Kind, e.Note)})
	}
	for _, o := range run.Ops {
		lines = append(lines, line{o.At, fmt.Sprintf("%10.3f  %9.3f  %-5s %-9s  %s", o.At.Seconds(), float64(o.Took)/1e6, o.Client, o.Outcome, opText(o))})
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	if _, err := fmt.Fprintf(w, "%10s  %9s  %-5s %-9s  %s\n", "SECONDS", "TOOK MS", "WHO", "EVENT", "WHAT"); err != nil {
		return err
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(w, l.text); err != nil {
			return err
		}
	}
	return nil
}

// opText tells an operation in one line.
func opText(o trace.Op) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", o.Kind, o.Key)
	switch {
	case o.Kind == "get" && o.Outcome == trace.Done:
		fmt.Fprintf(&b, " -> %s", cmp.Or(o.Value, "nothing"))
	case o.Kind != "get":
		fmt.Fprintf(&b, " = %s", o.Value)
		if !o.Context {
			b.WriteString(", blind")
		}
	}
	fmt.Fprintf(&b, "  %s", o.Level)
	if o.Stale {
		fmt.Fprintf(&b, "  STALE by %s", duration(o.Behind))
	}
	if o.Note != "" {
		fmt.Fprintf(&b, "  %s", strings.ReplaceAll(o.Note, "\n", " "))
	}
	return b.String()
}
