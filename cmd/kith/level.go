package main

import (
	"fmt"
	"strconv"
	"strings"

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

// levelNames are the levels with a name, in the order in which help has them.
var levelNames = []string{"one", "quorum", "all", "local-quorum", "each-quorum"}

var namedLevels = map[string]client.Level{
	"one": client.One, "quorum": client.Quorum, "all": client.All,
	"local-quorum": client.LocalQuorum, "each-quorum": client.EachQuorum,
}

// Set reads the name of a level or a number of homes.
func (l *levelFlag) Set(s string) error {
	if named, ok := namedLevels[s]; ok {
		l.level = named
	} else {
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("want %s or a number of homes", strings.Join(levelNames, ", "))
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
	cmd.Flags().VarP(l, name, name, usage+": "+strings.Join(levelNames, ", ")+" or a number")
	check(cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(levelNames, cobra.ShellCompDirectiveNoFileComp)))
}
