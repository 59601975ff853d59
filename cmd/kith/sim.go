package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/sim/scenario"
)

// exitBroken is the status of a simulation in which a promise or an expectation
// did not hold.
const exitBroken = 9

func (a *app) simCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "See what happens to reads and writes when a cluster is hurt",
		Long: `Sim plays a whole cluster of the real code in virtual time, in this process and
without a network: cuts, crashes, pauses, broken disks and wrong clocks befall it
while clients read and write, and what was promised is checked in the end.

Exit statuses: 0 all that was expected held, 9 something did not, 1 the run crashed
or hung, 2 usage.`,
		Example: `  kith sim list
  kith sim run split-brain
  kith sim run split-brain --nodes 7 --replicas 3 --report split.html
  kith sim show split-brain > mine.txt; kith sim run mine.txt`,
		Args: noSuchVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.simListCommand(), a.simShowCommand(), a.simRunCommand(), a.simChildCommand(),
		a.simSearchCommand(), a.simReplayCommand(), a.simShrinkCommand(), a.simPlayerCommand())
	return cmd
}

// scenarioJSON is one scenario of the library.
type scenarioJSON struct {
	Name  string   `json:"name"`
	Title string   `json:"title"`
	Story []string `json:"story"`
}

func (a *app) simListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the scenarios that come with kith",
		Args:  a.want(0, 0),
		RunE: func(*cobra.Command, []string) error {
			all := []scenarioJSON{}
			rows := [][]string{{"NAME", "STORY"}}
			for _, s := range scenario.Library() {
				all = append(all, scenarioJSON{s.Name, s.Title(), s.Story})
				rows = append(rows, []string{s.Name, s.Title()})
			}
			if a.format == formatJSON {
				return a.writeJSON(struct {
					Schema    string         `json:"schema"`
					Scenarios []scenarioJSON `json:"scenarios"`
				}{"sim-list/v1", all})
			}
			return a.table(rows)
		},
	}
}

func (a *app) simShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Print a scenario, to read it or to begin one's own with",
		Args:  a.want(1, 1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return scenarioNames(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			s := scenario.Find(args[0])
			if s == nil {
				return usagef("scenario %q: kith sim list has the names", args[0])
			}
			if a.format == formatJSON {
				return a.writeJSON(struct {
					Schema string `json:"schema"`
					scenarioJSON
					Text string `json:"text"`
				}{"sim-scenario/v1", scenarioJSON{s.Name, s.Title(), s.Story}, s.Text})
			}
			_, err := io.WriteString(a.out, s.Text)
			return err
		},
	}
}

func scenarioNames() []string {
	var out []string
	for _, s := range scenario.Library() {
		out = append(out, s.Name)
	}
	return out
}

// scenarioOf finds a scenario of the library, or else reads a file; - is the
// input.
func (a *app) scenarioOf(name string) (*scenario.Scenario, error) {
	if s := scenario.Find(name); s != nil {
		return s, nil
	}
	var from io.Reader = a.in
	title := "input"
	if name != "-" {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(name, "/.") {
			return nil, usagef("scenario %q: there is no such scenario (see kith sim list) and no such file", name)
		}
		if err != nil {
			return nil, usagef("scenario: %w", err)
		}
		defer f.Close()
		from, title = f, name
	}
	text, err := io.ReadAll(io.LimitReader(from, scenario.TextMax+1))
	if err != nil {
		return nil, fmt.Errorf("read scenario %s: %w", title, err)
	}
	s, err := scenario.Parse(title, string(text))
	if err != nil {
		return nil, &usageError{err}
	}
	return s, nil
}
