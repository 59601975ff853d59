package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
)

// forceFlags are those of ring force-epoch.
type forceFlags struct {
	survivors []string
	yes       bool
	cluster   string
}

func (a *app) forceCommand() *cobra.Command {
	f := &forceFlags{}
	cmd := &cobra.Command{
		Use:   "force-epoch --survivors NODE,...",
		Short: "Go on without a majority of the keepers, gone for good (last resort)",
		Long: `Go on without keepers that are gone for good. A few members, the keepers, vote on
every change of the ring; without a majority of them nothing can be changed, though
keys are read and written as before. If that majority will never come back, and only
then, the survivors can agree on a next ring record without it: the keepers are
chosen among them from then on.

Every member that is named must be reached and agree, and no keeper may be left out
that lives. Name all that work. Who is not named stays a member, but no keeper: one
that comes back later adopts what was forced, and keeps again once it is readmitted
(kith join NODE); one that is gone should be removed then (kith remove NODE). Ring
history says who has forced the ring, when, and with whom.

If the keepers that were left out LIVE, cut off from here, they may go on by
themselves: then the cluster is split in two, and what either half acknowledges is
missing in the other. The halves refuse each other when they meet, and say so; they
are not merged. Make sure that the others are off.

It asks for the cluster's ID before it does anything; scripts give --yes and
--cluster-id. If it is interrupted, nothing was changed, or it has to be repeated:
the same command finishes what it began.`,
		Example: `  kith ring force-epoch --survivors n1,n2
  kith ring force-epoch --survivors n1,n2 --yes --cluster-id 5d41402abc4b2a76b9719d911017c592`,
		Args: a.want(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.changeLimit(cmd, false)
			defer cancel()
			return a.force(ctx, f)
		},
	}
	cmd.Flags().StringSliceVar(&f.survivors, "survivors", nil, "all members that go on: names, IDs, or at least their first 8 digits (required)")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask; needs --cluster-id")
	cmd.Flags().StringVar(&f.cluster, "cluster-id", "", "the cluster's ID, 32 digits, as kith status shows it")
	check(cmd.RegisterFlagCompletionFunc("survivors", a.completeMembers(-1, anyMember)))
	return cmd
}

func (a *app) force(ctx context.Context, f *forceFlags) error {
	switch {
	case len(f.survivors) == 0:
		return usagef("ring force-epoch: say who goes on: --survivors NODE,...")
	case f.yes && f.cluster == "":
		return usagef("ring force-epoch: --yes needs --cluster-id, so that no other cluster is meant")
	}
	view, err := a.ringView(ctx)
	if err != nil {
		return err
	}
	r := view.Record
	if f.cluster != "" && f.cluster != r.Cluster.String() {
		return usagef("ring force-epoch: --cluster-id %s: this is cluster %s", f.cluster, r.Cluster)
	}
	survivors, err := survivorsOf(r, f.survivors)
	if err != nil {
		return err
	}
	if !f.yes {
		if err := a.askForce(r, survivors); err != nil {
			return err
		}
	}
	addr := addressOf(view, survivors)
	if addr == "" {
		return &exitError{exitRefused, errors.New("ring force-epoch: none of the survivors can be reached; nothing was changed"), "give the address of one: --addr"}
	}
	c, err := client.Dial(ctx, []string{addr}, client.Direct(), client.WithTimeout(a.timeout))
	if err != nil {
		return err
	}
	defer c.Close()
	req := client.ForceRequest{Cluster: r.Cluster.String(), Who: operator()}
	for _, m := range survivors {
		req.Survivors = append(req.Survivors, m.ID.String())
	}
	done, err := c.Force(ctx, req)
	if client.Unknown(err) {
		return &exitError{exitUnknown, err, "repeat the same command until it is done: some survivors may have agreed already"}
	}
	if err != nil {
		return err
	}
	if a.format == formatJSON {
		return a.writeJSON(changeJSON{"ring-change/v1", "force-epoch", "", "", 0, "done", withSaid(done), false})
	}
	a.printChange(done)
	if done.Changed {
		a.hint("who was left out is no keeper any more: kith remove what is gone, kith join what comes back")
	}
	return nil
}

// survivorsOf finds the members that are named.
func survivorsOf(r *ring.Record, names []string) (found []*ring.Member, err error) {
	for _, name := range names {
		m, err := memberOf(r, name)
		switch {
		case err != nil:
			return nil, err
		case m == nil:
			return nil, usagef("ring force-epoch: no member is called %q: see kith status", name)
		case slices.Contains(found, m):
			return nil, usagef("ring force-epoch: %s is named twice", label(m))
		}
		found = append(found, m)
	}
	return found, nil
}

// addressOf is where one of the members is that can be reached.
func addressOf(view client.RingView, members []*ring.Member) string {
	for _, m := range members {
		for _, at := range view.Members {
			if at.ID == m.ID && at.Alive && at.Addr != "" {
				return at.Addr
			}
		}
	}
	return ""
}

// askForce says what it means, and has the cluster's ID typed.
func (a *app) askForce(r *ring.Record, survivors []*ring.Member) error {
	var on, out []string
	for i := range r.Members {
		m := &r.Members[i]
		switch {
		case slices.ContainsFunc(survivors, func(s *ring.Member) bool { return s.ID == m.ID }):
			on = append(on, label(m))
		case r.IsKeeper(m.ID):
			out = append(out, label(m)+" (keeper)")
		default:
			out = append(out, label(m))
		}
	}
	fmt.Fprintf(a.errs, `This forces the ring of cluster %s on behalf of: %s.
Left out, and no keepers any more: %s.
If a majority of the keepers is alive somewhere, the cluster is SPLIT IN TWO by this, and each
half misses what the other acknowledges. Do it only if those left out are off for good.
`, r.Name, strings.Join(on, ", "), strings.Join(out, ", "))
	if !isTerminal(a.in) || !isTerminal(a.errs) {
		return usagef("ring force-epoch: there is nobody to ask: give --yes and --cluster-id")
	}
	fmt.Fprintf(a.errs, "To go on, type the cluster's ID (%s): ", r.Cluster)
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != r.Cluster.String() {
		return &exitError{exitRefused, errors.New("not confirmed: nothing was changed"), ""}
	}
	return nil
}

// operator is who runs this, for the ring's history.
func operator() string {
	who := "somebody"
	if u, err := user.Current(); err == nil && u.Username != "" {
		who = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		who += "@" + host
	}
	for len(who) > ring.NameMax {
		_, size := utf8.DecodeLastRuneInString(who)
		who = who[:len(who)-size]
	}
	return strings.ToValidUTF8(who, "?")
}
