package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/node"
)

// app is what the verbs share: the world around the process and the flags that
// every verb has.
type app struct {
	in   io.Reader
	out  io.Writer // data only
	errs io.Writer // progress, hints, errors
	env  func(string) (string, bool)

	addrs   []string
	format  string
	timeout time.Duration
	direct  bool
	zone    string

	started bool   // flags and arguments were right
	verb    string // what help is there for
}

const (
	formatTable = "table"
	formatJSON  = "json"
)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "kith",
		Short: "A peer-to-peer replicated key-value store",
		Long: `kith is a peer-to-peer replicated key-value store: the server, the command
line and the benchmark in one program.

To try it:     kith dev          then     kith put greeting hello
                                          kith get greeting

Exit statuses: 0 done, 1 unexpected, 2 usage or bad input, 3 key not found,
4 precondition failed, 5 outcome unknown, 6 refused or unavailable (nothing
was written or changed), 7 not allowed, 8 overloaded, 9 check failed, 124 --wait
timed out, 130 interrupted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noSuchVerb,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.started = true
			return cmd.Help()
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			a.verb = verbOf(cmd)
			if err := a.bind(cmd.Flags()); err != nil {
				return err
			}
			if a.format != formatTable && a.format != formatJSON {
				return fmt.Errorf("--format %q: want table or json", a.format)
			}
			if a.timeout <= 0 {
				return fmt.Errorf("--timeout %v: want more than 0", a.timeout)
			}
			a.started = true
			return nil
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		a.verb = verbOf(cmd)
		return noFlag(err)
	})
	root.CompletionOptions.DisableDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringSliceVar(&a.addrs, "addr", []string{node.ListenDefault}, "nodes to ask, HOST:PORT,...")
	flags.StringVar(&a.format, "format", formatTable, "output: table or json")
	flags.DurationVar(&a.timeout, "timeout", client.TimeoutDefault, "time limit of each operation")
	flags.BoolVar(&a.direct, "direct", false, "ask the nodes of --addr only, in their order, instead of the key's homes")
	flags.StringVar(&a.zone, "zone", "", "zone to ask first, and of local-quorum; empty for that of the node that is asked")
	withEnv(flags, "addr", "format", "timeout", "zone")
	check(root.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{formatTable, formatJSON}, cobra.ShellCompDirectiveNoFileComp)))
	root.AddCommand(
		a.serverCommand(), a.drainCommand(), a.devCommand(),
		a.putCommand(), a.getCommand(), a.deleteCommand(),
		a.inspectCommand(), a.whyCommand(),
		a.statusCommand(), a.doctorCommand(), a.repairCommand(), a.ringCommand(),
		a.importCommand(), a.exportCommand(),
		a.benchCommand(),
		a.simCommand(),
		a.versionCommand(), a.completionCommand(),
		exitCodesTopic(), recordsTopic(),
	)
	for i := range changes {
		root.AddCommand(a.changeCommand(&changes[i]))
	}
	root.SetHelpCommand(a.helpCommand(root))
	return root
}

// noFlag says how an argument is written that looks like a flag, such as a number
// below zero.
func noFlag(err error) error {
	var none *pflag.NotExistError
	if !errors.As(err, &none) || none.GetSpecifiedShortnames() == "" || !strings.ContainsAny(none.GetSpecifiedName(), "0123456789.") {
		return err
	}
	return fmt.Errorf("%w: an argument that begins with - stands behind two dashes", err)
}

// helpCommand shows the help of a verb or topic; one that does not exist is a
// mistake, and not an occasion for general help.
func (a *app) helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [VERB]",
		Short: "Help on a verb or topic",
		ValidArgsFunction: func(_ *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, sub := range cmd.Commands() {
				if (sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand()) && strings.HasPrefix(sub.Name(), begin) {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				a.verb = "" // the verbs and topics
				return usagef("no help on %q%s", strings.Join(args, " "), likely(cmd, rest))
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// noSuchVerb takes no arguments: what stands there was meant to be a verb.
func noSuchVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), likely(cmd, args))
}

// likely says which verbs or topics under cmd may have been meant by what is none.
func likely(cmd *cobra.Command, rest []string) string {
	if len(rest) == 0 {
		return ""
	}
	cmd.SuggestionsMinimumDistance = min(2, (len(rest[0])+1)/3) // letters to change
	near := cmd.SuggestionsFor(rest[0])
	for _, sub := range cmd.Commands() { // a topic is no command that cobra thinks of
		if sub.IsAdditionalHelpTopicCommand() && strings.HasPrefix(sub.Name(), strings.ToLower(rest[0])) {
			near = append(near, sub.Name())
		}
	}
	if len(near) == 0 {
		return ""
	}
	slices.Sort(near)
	for i, name := range near {
		near[i] = strings.TrimPrefix(cmd.CommandPath()+" "+name, "kith ")
	}
	return ": did you mean " + strings.Join(near, ", or ") + "?"
}

// dial makes the client that the flags ask for.
func (a *app) dial(ctx context.Context, opts ...client.Option) (*client.Client, error) {
	for _, addr := range a.addrs {
		if _, port, err := splitAddress(addr); err == nil && port == "0" {
			return nil, usagef("--addr %q: port 0: want 1 to 65535", addr)
		} else if err != nil {
			return nil, usagef("--addr: address %q is not HOST:PORT: %w", addr, err)
		}
	}
	opts = append(opts, client.WithTimeout(a.timeout), client.WithZone(a.zone))
	if a.direct {
		opts = append(opts, client.Direct())
	}
	return client.Dial(ctx, a.addrs, opts...)
}

// verbOf is what a command is called behind kith.
func verbOf(cmd *cobra.Command) string { return strings.TrimPrefix(cmd.CommandPath(), "kith ") }

// want checks the number of arguments.
func (a *app) want(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		a.verb = verbOf(cmd)
		if len(args) < least || len(args) > most {
			return fmt.Errorf("%s: got %d arguments, want: %s", a.verb, len(args), strings.TrimSuffix(cmd.UseLine(), " [flags]"))
		}
		return nil
	}
}

// hint writes a line for people.
func (a *app) hint(format string, args ...any) {
	fmt.Fprintf(a.errs, format+"\n", args...)
}

// check panics on mistakes in the declaration of commands.
func check(err error) {
	if err != nil {
		panic(err)
	}
}
