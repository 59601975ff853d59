package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
)

// idLeast is how many digits of an ID name a member at least.
const idLeast = 8

// memberOf finds a member as people call it, and as nodes do: by its name, or else by
// its ID or at least the first 8 digits of that. It is nil if there is none, and an
// error if there are several.
func memberOf(r *ring.Record, text string) (*ring.Member, error) {
	named := func(m *ring.Member) bool { return m.Name == text }
	begins := func(m *ring.Member) bool {
		return len(text) >= idLeast && strings.HasPrefix(m.ID.String(), strings.ToLower(text))
	}
	for _, is := range []func(*ring.Member) bool{named, begins} {
		var found *ring.Member
		var ids []string
		for i := range r.Members {
			if m := &r.Members[i]; is(m) {
				found = m
				ids = append(ids, m.ID.Short())
			}
		}
		switch {
		case len(ids) == 1:
			return found, nil
		case len(ids) > 1:
			return nil, usagef("%q is %d members: say which one by the beginning of its ID: %s", text, len(ids), strings.Join(ids, ", "))
		}
	}
	return nil, nil
}

// label is a member for people.
func label(m *ring.Member) string {
	if m.Name == "" || m.Name == m.ID.Short() {
		return m.ID.Short()
	}
	return m.Name + " (" + m.ID.Short() + ")"
}

// nameOf is a member's name as the record has it, or the beginning of its ID.
func nameOf(r *ring.Record, id ring.NodeID) string {
	if m := r.Member(id); m != nil && m.Name != "" {
		return m.Name
	}
	return id.Short()
}

// memberID is the ID of a member as people call it; zero if there is none.
func memberID(r *ring.Record, text string) ring.NodeID {
	if m, _ := memberOf(r, text); m != nil {
		return m.ID
	}
	return ring.NodeID{}
}

// onlyCopies counts the partitions of which a member has the only copy.
func onlyCopies(r *ring.Record, id ring.NodeID) (n int) {
	for p := range ring.Partition(r.Partitions) {
		homes := r.Homes(p)
		if slices.Contains(homes, id) && !slices.ContainsFunc(homes, func(other ring.NodeID) bool {
			return other != id && r.Member(other).State != ring.Lost
		}) {
			n++
		}
	}
	return n
}

// spares refuses to give up somebody who has what nobody else has: that could never be
// mended, not even if its disk is found again.
func (ch *change) spares(view client.RingView, req *client.RingRequest) error {
	m, err := memberOf(view.Record, req.Member)
	if err != nil || m == nil || req.DataLost || ch.verb != client.RingRemove && ch.verb != client.RingReplace {
		return nil // not found here: the node that is asked says so
	}
	// One that is reached hands its slots over; what a node says of that may be late.
	reached := false
	for _, a := range view.Members {
		reached = reached || ch.verb == client.RingReplace && a.ID == m.ID && a.Alive
	}
	if n := onlyCopies(view.Record, m.ID); n > 0 && !reached {
		return &exitError{exitRefused, fmt.Errorf("%s: %s has the only copy of %d of %d partitions: given up, their keys would be lost for good; nothing was changed",
			ch.verb, label(m), n, view.Record.Partitions), "start it again, with its disk; see kith status. To accept the loss: --data-lost"}
	}
	return nil
}

// completeTimeout is how long completion may keep a shell waiting.
const completeTimeout = time.Second

// completeMembers offers the names of the members that fit, as the n-th argument, and
// nothing where no node answers.
func (a *app) completeMembers(n int, fits func(*ring.Member) bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
		if n >= 0 && len(args) != n || a.bind(cmd.Flags()) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
		defer cancel()
		view, err := a.ringView(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return namesThat(view.Record, fits, begin), cobra.ShellCompDirectiveNoFileComp
	}
}

// namesThat are the members that fit and whose name begins so, with what they are.
// Who shares a name with another one is offered by the ID.
func namesThat(r *ring.Record, fits func(*ring.Member) bool, begin string) []string {
	count := map[string]int{}
	for i := range r.Members {
		count[r.Members[i].Name]++
	}
	var out []string
	for i := range r.Members {
		m := &r.Members[i]
		name := m.Name
		if name == "" || count[name] > 1 {
			name = m.ID.Short()
		}
		if fits(m) && strings.HasPrefix(name, begin) {
			out = append(out, cobra.CompletionWithDesc(name, fmt.Sprintf("%v, %d slots", m.State, r.HomeCount(m.ID))))
		}
	}
	slices.Sort(out)
	return out
}

// inState fits members in one of the states.
func inState(states ...ring.MemberState) func(*ring.Member) bool {
	return func(m *ring.Member) bool { return slices.Contains(states, m.State) }
}

func anyMember(*ring.Member) bool { return true }
