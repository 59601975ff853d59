package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
)

func (a *app) planCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what a change would move, and do nothing",
		Long: `Show what a change of the membership would move, how much that is, for how long
about, and what everybody has before and after. Nothing is changed.

Slots are homes of partitions; a member's share is how many of them it should have,
before rounding. The least is what any plan had to move for that.`,
		Example: `  kith ring plan join n4
  kith ring plan leave n2
  kith ring plan replace n3 --with n6
  kith ring plan weight n1 2 --format json`,
		Args: noSuchVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for i := range changes {
		cmd.AddCommand(a.plannedCommand(&changes[i]))
	}
	return cmd
}

func (a *app) plannedCommand(ch *change) *cobra.Command {
	f := &changeFlags{}
	cmd := a.changeSyntax(ch, f, "kith ring plan "+ch.verb.String())
	cmd.Short = ch.plans
	cmd.Long = ch.plans + ", and for how long about. Nothing is changed: see kith " + ch.verb.String() + "."
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req, err := ch.request(args, f)
		if err != nil {
			return err
		}
		ctx, cancel := a.changeLimit(cmd, false)
		defer cancel()
		return a.plan(ctx, ch, req)
	}
	return cmd
}

func (a *app) plan(ctx context.Context, ch *change, req client.RingRequest) error {
	c, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	view, err := c.Ring(ctx)
	if err != nil {
		return err
	}
	if err := a.name(ctx, view.Record, ch, &req); err != nil {
		return err
	}
	if err := ch.spares(view, &req); err != nil {
		return err
	}
	plan, err := told(ctx, view.Record, req, c.Plan)
	if err != nil {
		return err
	}
	return a.printPlan(&req, plan)
}

// partJSON is one member's part of a plan, in slots.
type partJSON struct {
	ID     string  `json:"id"`
	Name   string  `json:"name"`
	Zone   string  `json:"zone"`
	State  string  `json:"state"`
	Weight uint16  `json:"weight"`
	Now    int     `json:"now"`
	Then   int     `json:"then"`
	In     int     `json:"in"`
	Out    int     `json:"out"`
	Quota  float64 `json:"quota"` // that it should have then, before rounding
}

// planJSON is the document of ring plan.
type planJSON struct {
	Schema  string     `json:"schema"`
	Verb    string     `json:"verb"`
	Member  string     `json:"member,omitempty"`
	With    string     `json:"with,omitempty"`
	Number  int        `json:"number,omitempty"`
	Epoch   uint64     `json:"epoch"`
	Slots   int        `json:"slots"`   // that change hands
	Least   int        `json:"least"`   // that any plan had to move
	Bytes   uint64     `json:"bytes"`   // to be moved
	Seconds float64    `json:"seconds"` // for how long; 0 is unknown
	Members []partJSON `json:"members"`
	// How far the member is from its quota that is farthest.
	FarthestNow  float64 `json:"farthest_now"`
	FarthestThen float64 `json:"farthest_then"`
}

func planOf(req *client.RingRequest, plan *client.RingPlan) planJSON {
	doc := planJSON{Schema: "ring-plan/v1", Verb: req.Verb.String(), Member: req.Member, With: req.With, Number: req.Number,
		Epoch: plan.Epoch, Slots: plan.Slots, Least: plan.Least, Bytes: plan.Bytes, Seconds: plan.Seconds, Members: []partJSON{}}
	for _, m := range plan.Members {
		doc.Members = append(doc.Members, partJSON{m.ID.String(), m.Name, m.Zone, m.State, m.Weight, m.Now, m.Then, m.In, m.Out, m.Share})
		doc.FarthestNow = max(doc.FarthestNow, math.Abs(float64(m.Now)-m.Share))
		doc.FarthestThen = max(doc.FarthestThen, math.Abs(float64(m.Then)-m.Share))
	}
	return doc
}

func (a *app) printPlan(req *client.RingRequest, plan *client.RingPlan) error {
	doc := planOf(req, plan)
	if a.format == formatJSON {
		return a.writeJSON(doc)
	}
	rows := [][]string{{"MEMBER", "ID", "ZONE", "STATE", "WEIGHT", "NOW", "THEN", "QUOTA", "IN", "OUT"}}
	for _, m := range doc.Members {
		rows = append(rows, []string{cmp.Or(m.Name, "-"), m.ID[:8], cmp.Or(m.Zone, "-"), m.State, fmt.Sprint(m.Weight),
			fmt.Sprint(m.Now), fmt.Sprint(m.Then), fmt.Sprintf("%.1f", m.Quota), fmt.Sprint(m.In), fmt.Sprint(m.Out)})
	}
	if err := a.table(rows); err != nil {
		return err
	}
	if plan.Slots == 0 {
		fmt.Fprintln(a.out, "no slot changes hands")
	} else {
		fmt.Fprintf(a.out, "%d slots change hands, the least for these quotas is %d; %s to move, %s\n",
			plan.Slots, plan.Least, byteSize(int64(plan.Bytes)), expected(plan.Seconds))
	}
	if n := takenAway(plan); n > 0 {
		fmt.Fprintf(a.out, "%d slots are taken away\n", n)
	}
	fmt.Fprintf(a.out, "farthest from its quota: %.1f slots now, %.1f then\n", doc.FarthestNow, doc.FarthestThen)
	a.hint("nothing was changed")
	return nil
}

// expected is how long something takes, for people.
func expected(seconds float64) string {
	if seconds <= 0 {
		return "for a time that is known once slots move"
	}
	return "for about " + duration(time.Duration(seconds*float64(time.Second)))
}
