package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
)

// finding is one thing that doctor has looked at.
type finding struct {
	Check string `json:"check"`
	// OK is false for what needs somebody to act.
	OK bool `json:"ok"`
	// What was found, and Do what to do about it; empty if nothing.
	What string `json:"what"`
	Do   string `json:"do,omitempty"`
}

// doctorLook bounds what one member is asked.
const doctorLook = 3 * time.Second

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Find out what is wrong with a cluster, and what to do",
		Long: `Look for what is wrong with a cluster, and say what to do about it: members that
cannot be reached, from here or from one another, such as one that tells others an
address at which it cannot be dialed; keys of which no copy or no majority is there, or
only one; keepers that are missing; a ring that was forced; and what members say of
themselves.

The exit status is 9 if something was found.`,
		Example: `  kith doctor
  kith doctor --addr 127.0.0.1:7600 --format json`,
		Args: a.want(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := a.look(cmd.Context())
			if err != nil {
				return err
			}
			view, err := a.ringView(cmd.Context())
			if err != nil {
				return err
			}
			return a.printFindings(examine(st, view.Record, a.reached(cmd.Context(), view)))
		},
	}
}

// reached asks every member whom it reaches; who does not answer here has a nil.
func (a *app) reached(ctx context.Context, view client.RingView) map[ring.NodeID]*client.Reached {
	told := make([]*client.Reached, len(view.Members))
	var asked sync.WaitGroup
	for i, m := range view.Members {
		if m.Addr == "" {
			continue
		}
		asked.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, doctorLook)
			defer cancel()
			c, err := client.Dial(ctx, []string{m.Addr}, client.Direct(), client.WithTimeout(doctorLook))
			if err != nil {
				return
			}
			defer c.Close()
			if r, err := c.Reach(ctx); err == nil && r.ID == m.ID {
				told[i] = r
			}
		})
	}
	asked.Wait()
	all := map[ring.NodeID]*client.Reached{}
	for i, m := range view.Members {
		all[m.ID] = told[i]
	}
	return all
}

// examine is what doctor finds; a pure function.
func examine(st *client.Status, r *ring.Record, reached map[ring.NodeID]*client.Reached) []finding {
	all := []finding{}
	add := func(check string, ok bool, what, do string) { all = append(all, finding{check, ok, what, do}) }
	if st.Ready {
		add("serving", true, "every key can be read and written at quorum", "")
	} else {
		add("serving", false, cmp.Or(st.Reason, "not ready"), "see what follows")
	}
	if !r.Founded() {
		return all
	}
	all = append(all, examineDials(r, st, reached)...)
	all = append(all, examineKeepers(r, st)...)
	all = append(all, examineCopies(r, st)...)
	well := 0
	for i := range st.Members {
		m := &st.Members[i]
		for _, p := range m.Problems {
			add("member "+cmp.Or(m.Name, m.ID), false, strings.TrimSpace(p), "")
		}
		if len(m.Problems) == 0 && m.Reachable {
			well++
		}
	}
	add("members", well == len(st.Members), fmt.Sprintf("%d of %d members can be reached and complain of nothing", well, len(st.Members)), "")
	return all
}

// examineDials finds members that others cannot dial.
func examineDials(r *ring.Record, st *client.Status, reached map[ring.NodeID]*client.Reached) (all []finding) {
	asked := 0
	for i := range r.Members {
		m := &r.Members[i]
		if reached[m.ID] != nil {
			asked++
		}
		var cannot, gossip []string
		addr, why := "", ""
		for j := range r.Members {
			from := reached[r.Members[j].ID]
			if from == nil {
				continue
			}
			for _, p := range from.Peers {
				if p.ID != m.ID || p.Error == "" {
					continue
				}
				cannot = append(cannot, nameOf(r, from.ID))
				addr, why = cmp.Or(p.Addr, "an address that nobody knows"), p.Error
				if p.Gossip {
					gossip = append(gossip, nameOf(r, from.ID))
				}
			}
		}
		if len(cannot) == 0 {
			continue
		}
		what := fmt.Sprintf("%s tells others that it is at %s, where %s cannot dial it: %s", label(m), addr, strings.Join(cannot, ", "), why)
		do := "start it, or mend the network"
		if len(gossip) > 0 {
			what += fmt.Sprintf("; gossip believes that it runs (%s)", strings.Join(gossip, ", "))
			do = "if it does not run, start it; if it does, it listens at an address that others cannot use (NAT, another network), or a firewall is between: give it --listen with one that all members can dial"
		}
		if other := sharer(st, m.ID, addr); other != "" {
			do = fmt.Sprintf("%s has that address now: if %s is gone for good, kith remove %s; else give one of the two another --listen", other, label(m), m.ID)
		}
		all = append(all, finding{"dial " + nameOf(r, m.ID), false, what, do})
	}
	if len(all) == 0 {
		all = append(all, finding{"dial", asked == len(r.Members), fmt.Sprintf("%d of %d members were asked, and can dial all others", asked, len(r.Members)), ""})
	}
	return all
}

// sharer is another member that can be reached at a member's address; empty for none.
func sharer(st *client.Status, id ring.NodeID, addr string) string {
	for i := range st.Members {
		if m := &st.Members[i]; m.Reachable && m.Address == addr && m.ID != id.String() {
			return cmp.Or(m.Name, m.ID)
		}
	}
	return ""
}

// examineKeepers looks who can vote on the ring.
func examineKeepers(r *ring.Record, st *client.Status) (all []finding) {
	var missing, there []string
	for _, id := range r.Keepers {
		if m := memberStatus(st, id); m == nil || !m.Reachable {
			missing = append(missing, nameOf(r, id))
		}
	}
	for i := range st.Members {
		if st.Members[i].Reachable {
			there = append(there, cmp.Or(st.Members[i].Name, st.Members[i].ID))
		}
	}
	slices.Sort(missing)
	slices.Sort(there)
	f := finding{"keepers", len(missing) == 0, fmt.Sprintf("%d of %d members that vote on the ring can be reached", len(r.Keepers)-len(missing), len(r.Keepers)), ""}
	if len(missing) > 0 {
		f.What += "; missing: " + strings.Join(missing, ", ")
		f.Do = "start them; the ring can be changed meanwhile"
	}
	if 2*len(missing) >= len(r.Keepers) {
		f.Do = "start them: the ring cannot be changed without a majority; if they are gone for good: kith ring force-epoch --survivors " + strings.Join(there, ",")
	}
	all = append(all, f)
	for i := range r.Members {
		if m := &r.Members[i]; r.IsApart(m.ID) {
			all = append(all, finding{"keepers", false,
				fmt.Sprintf("%s was not among the survivors when the ring was forced at epoch %d, and may not be a keeper", label(m), r.LastForced().Epoch),
				fmt.Sprintf("if it is whole and stays: kith join %s; if it is gone: kith remove %s", nameOf(r, m.ID), nameOf(r, m.ID))})
		}
	}
	return all
}

// examineCopies counts the partitions that have too few copies.
func examineCopies(r *ring.Record, st *client.Status) (all []finding) {
	none, one := 0, 0
	var away []string
	for p := range ring.Partition(r.Partitions) {
		there := 0
		for _, id := range r.Homes(p) {
			if m := memberStatus(st, id); m != nil && m.Reachable && m.State != "lost" {
				there++
			} else if name := nameOf(r, id); !slices.Contains(away, name) {
				away = append(away, name)
			}
		}
		switch there {
		case 0:
			none++
		case 1:
			one++
		}
	}
	slices.Sort(away)
	switch {
	case none > 0:
		all = append(all, finding{"copies", false, fmt.Sprintf("of %d of %d partitions no copy can be reached: their keys can be neither read nor written; their homes that are away: %s", none, r.Partitions, strings.Join(away, ", ")),
			"start these again, with their disks"})
	case one > 0 && r.Replicas > 1:
		all = append(all, finding{"copies", false, fmt.Sprintf("of %d of %d partitions only one copy can be reached", one, r.Partitions), "start the members that are away: " + strings.Join(away, ", ")})
	}
	if r.Replicas == 1 {
		all = append(all, finding{"copies", true, "replicas is 1: each key is on one machine, and lost with its disk", ""})
	} else if len(all) == 0 {
		all = append(all, finding{"copies", true, "every partition has more than one copy that can be reached", ""})
	}
	return all
}

func memberStatus(st *client.Status, id ring.NodeID) *client.MemberStatus {
	i := slices.IndexFunc(st.Members, func(m client.MemberStatus) bool { return m.ID == id.String() })
	if i < 0 {
		return nil
	}
	return &st.Members[i]
}

func (a *app) printFindings(all []finding) error {
	bad := 0
	for _, f := range all {
		if !f.OK {
			bad++
		}
	}
	if a.format == formatJSON {
		if err := a.writeJSON(struct {
			Schema   string    `json:"schema"`
			OK       bool      `json:"ok"`
			Findings []finding `json:"findings"`
		}{"doctor/v1", bad == 0, all}); err != nil {
			return err
		}
	} else {
		for _, f := range all {
			word := "ok  "
			if !f.OK {
				word = "FAIL"
			}
			fmt.Fprintf(a.out, "%s  %s: %s\n", word, f.Check, f.What)
			if f.Do != "" {
				fmt.Fprintf(a.out, "      -> %s\n", f.Do)
			}
		}
	}
	if bad > 0 {
		return &exitError{exitBroken, fmt.Errorf("doctor: %d of %d checks found something", bad, len(all)), ""}
	}
	return nil
}
