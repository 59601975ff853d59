package main

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
)

// shrinkRuns bounds how many runs a failure is shrunk with.
const shrinkRuns = 200

func (a *app) simShrinkCommand() *cobra.Command {
	var f play
	var file string
	var runs int
	cmd := &cobra.Command{
		Use:   "shrink SEED|FILE",
		Short: "Reduce a run that breaks a promise to a short one that still does",
		Long: `Shrink plays the run of a seed, or one that was saved (- is the input), leaves
out faults, clients and keys as long as a promise is still broken, and prints the
shortest run as text that kith sim replay reads.`,
		Example: `  kith sim shrink 42 -o short.txt
  kith sim replay short.txt`,
		Args: a.want(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if runs < 1 {
				return usagef("--runs %d: want 1 or more", runs)
			}
			ask, err := a.request(args[0], f)
			if err != nil {
				return err
			}
			ask.Shrink = runs
			return a.simShrink(cmd, ask, f.watchdog, file)
		},
	}
	f.flags(cmd.Flags())
	cmd.Flags().StringVarP(&file, "output", "o", "", "write the shortest run to this file")
	cmd.Flags().IntVar(&runs, "runs", shrinkRuns, "play at most so many runs")
	return cmd
}

func (a *app) simShrink(cmd *cobra.Command, ask playRequest, watchdog time.Duration, file string) error {
	var first *played
	var short *failure
	var ticks atomic.Int64 // virtual seconds, more or less
	bar := a.watch(func() (string, float64) {
		return fmt.Sprintf("shrinking: %v of virtual time", time.Duration(ticks.Load())*time.Second), -1
	})
	_, err := playing(cmd.Context(), ask, watchdog, func(l playLine) {
		switch {
		case l.Played != nil:
			first = l.Played
		case l.Shrunk != nil:
			short = l.Shrunk
		default:
			ticks.Add(1)
		}
	})
	bar.close()
	switch {
	case err != nil:
		return err
	case first == nil:
		return errNothing
	case first.Failure == nil:
		a.hint("all promises held: there is nothing to shrink")
		if a.format == formatJSON {
			return a.writeJSON(shrinkJSON{Schema: "sim-shrink/v1"})
		}
		return nil
	case short == nil:
		return errNothing
	}
	if err := writeSaved(file, short); err != nil {
		return err
	}
	if a.format == formatJSON {
		err = a.writeJSON(shrinkJSON{"sim-shrink/v1", first.Failure, short})
	} else {
		a.tellFailure(short, first.Failure.Faults, cmp.Or(file, "FILE"))
	}
	if err != nil {
		return err
	}
	return &exitError{status: exitBroken}
}

// shrinkJSON is what shrinking found; both are null if nothing was broken.
type shrinkJSON struct {
	Schema   string   `json:"schema"`
	Found    *failure `json:"found"`
	Shortest *failure `json:"shortest"`
}

// writeSaved keeps a run in a file, if there is one to keep it in.
func writeSaved(file string, f *failure) error {
	if file == "" {
		return nil
	}
	if err := os.WriteFile(file, []byte(f.Saved), 0o644); err != nil {
		return fmt.Errorf("keep the run: %w", err)
	}
	return nil
}

// tellFailure prints a broken promise with the key's story, the shortest run,
// and how to see it again.
func (a *app) tellFailure(f *failure, before int, file string) {
	fmt.Fprintf(a.out, "BROKEN: %s\nseed %d: %d faults became %d\n\n%s\n", f.Promise, f.Seed, before, f.Faults, strings.TrimRight(f.Error, "\n"))
	fmt.Fprintf(a.out, "\nthe shortest run, for kith sim replay %s:\n\n%s", file, f.Saved)
}
