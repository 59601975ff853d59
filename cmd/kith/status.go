package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
)

const (
	// waitTimeout is the default of --timeout for --wait.
	waitTimeout = time.Minute
	// waitPause lies between two looks.
	waitPause = 200 * time.Millisecond
	// waitLook bounds one look, so that a node that hangs is no reason to
	// miss another that answers.
	waitLook = 2 * time.Second
)

func (a *app) statusCommand() *cobra.Command {
	var wait string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the cluster and its members",
		Long: `Show the cluster as the node that answers sees it, members with problems first.

With --wait ready, first wait until the cluster serves, and until every member that
can be reached is ready: has caught up with what it has missed. The exit status is
124 if that is not so by --timeout (with --wait: 1m unless given).

A member is ready, or: joining or founding, before it is a member; recovering, until
it has met enough others; catching-up, while it takes writes, fetches what it lacks,
and does not count for reads of that; standby, home of nothing; draining, before it
ends; lost, until another node takes its place; failed, when its disk is;
unreachable from the node that answers.`,
		Example: `  kith status
  kith status --wait ready --timeout 30s
  kith status --format json`,
		Args: a.want(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch wait {
			case "":
				st, err := a.look(cmd.Context())
				if err != nil {
					return err
				}
				return a.printStatus(st)
			case "ready":
				if !cmd.Flags().Changed("timeout") {
					a.timeout = waitTimeout
				}
				st, err := a.waitReady(cmd.Context())
				if err != nil {
					return err
				}
				return a.printStatus(st)
			}
			return usagef("--wait %q: want ready", wait)
		},
	}
	cmd.Flags().StringVar(&wait, "wait", "", "wait until the cluster is: ready")
	check(cmd.RegisterFlagCompletionFunc("wait", cobra.FixedCompletions([]string{"ready"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// look asks for the status once.
func (a *app) look(ctx context.Context) (*client.Status, error) {
	c, err := a.dial(ctx, client.Direct())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Status(ctx)
}

// waitReady looks until the cluster and its members are ready.
func (a *app) waitReady(ctx context.Context) (*client.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	reason := errors.New("no node has answered")
	var latest atomic.Pointer[client.Status]
	if isTerminal(a.errs) {
		p := a.watch(func() (string, float64) { return catchingUp(latest.Load()) })
		defer p.close()
	}
	for {
		once, stop := context.WithTimeout(ctx, waitLook)
		st, err := a.look(once)
		stop()
		switch {
		case err == nil && unready(st) == "":
			return st, nil
		case err == nil:
			reason = errors.New(unready(st))
			latest.Store(st)
		case ctx.Err() == nil:
			reason = err
		}
		t := time.NewTimer(waitPause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, ctx.Err()
			}
			return nil, &exitError{exitWait, fmt.Errorf("not ready after %v: %w", a.timeout, reason), "see kith status and the servers' logs"}
		}
	}
}

// unready says why the wait for ready goes on; empty if it ends.
func unready(st *client.Status) string {
	if !st.Ready {
		return cmp.Or(st.Reason, "not ready")
	}
	var waiting []string
	for _, m := range st.Members {
		if m.Reachable && !settledState(m.State) {
			waiting = append(waiting, fmt.Sprintf("%s is %s", cmp.Or(m.Name, m.ID), m.State))
		}
	}
	return strings.Join(waiting, ", ")
}

// settledState says that a member is in a state that does not pass by itself soon. Who
// leaves answers for what it still has.
func settledState(state string) bool {
	return state == "ready" || state == "standby" || state == "leaving"
}

// lacking counts the copies that lack something. Those that are being filled anew
// are done one by one; they are behind until the last is.
func lacking(r *client.RepairStatus) int {
	if r.Lossy > 0 {
		return r.Lossy
	}
	return r.Behind
}

// catchingUp is the progress of the members that lack something, for people.
func catchingUp(st *client.Status) (string, float64) {
	if st == nil {
		return "no node has answered yet", -1
	}
	var behind, homes int
	var keys, bytes, missing int64
	eta, known := 0.0, true
	for _, m := range st.Members {
		if !m.Reachable {
			continue
		}
		r := &m.Repair
		homes += r.Homes
		if m.State != "catching-up" {
			continue
		}
		behind += lacking(r)
		keys, bytes, missing = keys+r.PulledKeys, bytes+r.PulledBytes, missing+r.Missing
		eta, known = max(eta, r.ETA), known && r.ETA >= 0
	}
	if behind == 0 {
		return unready(st), -1
	}
	text := fmt.Sprintf("%d of %d copies of partitions lack something, %d keys (%s) fetched, %d writes missing", behind, homes, keys, byteSize(bytes), missing)
	if known && eta > 0 {
		text += fmt.Sprintf(", about %v left", time.Duration(eta*float64(time.Second)).Round(time.Second))
	}
	return text, 1 - float64(behind)/float64(homes)
}

// statusJSON is the document of status.
type statusJSON struct {
	Schema string `json:"schema"`
	*client.Status
}

func (a *app) printStatus(st *client.Status) error {
	if a.format == formatJSON {
		for i := range st.Members {
			if st.Members[i].Problems == nil {
				st.Members[i].Problems = []string{}
			}
		}
		if st.Members == nil {
			st.Members = []client.MemberStatus{}
		}
		return a.writeJSON(statusJSON{"status/v1", st})
	}
	state := "ready"
	if !st.Ready {
		state = "NOT READY: " + cmp.Or(st.Reason, "starting")
	}
	fmt.Fprintf(a.out, "cluster %s (%s)  epoch %d  replicas %d  %s\n", st.Cluster, cmp.Or(st.ClusterID, "no ID yet"), st.Epoch, st.Replicas, state)
	members := slices.Clone(st.Members)
	slices.SortStableFunc(members, func(x, y client.MemberStatus) int {
		return cmp.Or(-cmp.Compare(trouble(x), trouble(y)), cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID))
	})
	rows := [][]string{{"STATE", "NAME", "ID", "ZONE", "ADDRESS", "HOMES", "KEYS", "DISK"}}
	moves := slices.ContainsFunc(members, func(m client.MemberStatus) bool { return m.MovesIn+m.MovesOut > 0 })
	if moves {
		rows[0] = append(rows[0], "MOVES") // in and out
	}
	reachable := 0
	for _, m := range members {
		state := m.State
		if m.State == "catching-up" && m.Repair.Homes > 0 {
			state += fmt.Sprintf(" %d/%d", m.Repair.Homes-min(m.Repair.Homes, lacking(&m.Repair)), m.Repair.Homes)
		}
		if m.Reachable {
			reachable++
		} else if state != "unreachable" && state != "lost" {
			state += " (unreachable)"
		}
		if goes := m.Membership; (goes == "leaving" || goes == "retreating") && goes != m.State {
			state += ", " + goes
		}
		row := []string{
			state, m.Name, m.ID[:min(8, len(m.ID))], cmp.Or(m.Zone, "-"), m.Address,
			fmt.Sprint(m.Homes), fmt.Sprint(m.Keys), byteSize(m.Disk),
		}
		if moves {
			row = append(row, fmt.Sprintf("+%d -%d", m.MovesIn, m.MovesOut))
		}
		rows = append(rows, row)
	}
	if err := a.table(rows); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%d of %d members reachable\n", reachable, len(members))
	for _, m := range members {
		for _, p := range m.Problems {
			fmt.Fprintf(a.out, "%s: %s\n", cmp.Or(m.Name, m.ID), strings.TrimSpace(p))
		}
		if note := scanned(&m.Repair); note != "" {
			fmt.Fprintf(a.out, "%s: %s\n", cmp.Or(m.Name, m.ID), note)
		}
	}
	return nil
}

// scanned tells people of the dear way to fetch what was missed; empty if it was
// not needed.
func scanned(r *client.RepairStatus) string {
	if r.Scans == 0 || r.PulledKeys == 0 {
		return ""
	}
	return fmt.Sprintf("has fetched %d keys (%s) since its start to catch up, and others scanned whole partitions for them %d times: their logs of writes did not reach back",
		r.PulledKeys, byteSize(r.PulledBytes), r.Scans)
}

// trouble orders members, worst first.
func trouble(m client.MemberStatus) int {
	switch {
	case !m.Reachable:
		return 1_000_000
	case len(m.Problems) > 0:
		return 1_000 + min(len(m.Problems), 1_000)
	case m.State != "ready":
		return 1
	}
	return 0
}
