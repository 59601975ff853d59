package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
)

// levelFlag is the value of --r and --w.
type levelFlag struct {
	text  string
	level client.Level
}

// String is what was given.
func (l *levelFlag) String() string { return l.text }

// Type is how help calls the value.
func (l *levelFlag) Type() string { return "LEVEL" }

// Set reads one, quorum, all or a number of homes.
func (l *levelFlag) Set(s string) error {
	switch s {
	case "one":
		l.level = client.One
	case "quorum":
		l.level = client.Quorum
	case "all":
		l.level = client.All
	default:
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("want one, quorum, all or a number of homes")
		}
		if n < 1 || n > ring.ReplicasMax {
			return fmt.Errorf("%d homes: a key has 1 to %d", n, ring.ReplicasMax)
		}
		l.level = client.R(n)
	}
	l.text = s
	return nil
}

func addLevel(cmd *cobra.Command, l *levelFlag, name, usage string) {
	*l = levelFlag{text: "quorum", level: client.Quorum}
	// Completion finds flags of one letter by their short name only.
	cmd.Flags().VarP(l, name, name, usage+": one, quorum, all or a number")
	check(cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions([]string{"one", "quorum", "all"}, cobra.ShellCompDirectiveNoFileComp)))
}
