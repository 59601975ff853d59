package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
)

// replicasChange is kith replicas: it speaks of no member.
var replicasChange = change{
	verb: client.RingReplicas, use: "N", args: 1,
	short: "Change how many members hold each key", plans: "What another number of homes would move",
	long: `Change how many homes each key has, 1 to 7, while clients read and write. There must
be as many members with a share. Upwards, new copies are made of what is there;
downwards, copies are dropped once a majority of those that stay holds what they
held.

A majority is one of the homes that each key has now, also halfway. Numbers for --r
and --w must fit the smaller of both numbers of homes until all is done. Two homes
need both for a majority, and one home is one copy: a disk that is lost then is
keys that are lost.

To take it back before it is done: kith ring abort.`,
	example: []string{"%s 3", "%s 5 --wait"},
}

// replicasRequest reads the number.
func replicasRequest(args []string) (client.RingRequest, error) {
	req := client.RingRequest{Verb: client.RingReplicas}
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 1 || n > ring.ReplicasMax {
		return req, usagef("%s %q: want a number of homes, 1 to %d", req.Verb, args[0], ring.ReplicasMax)
	}
	req.Number = n
	return req, nil
}

// completeReplicas offers the numbers of homes.
func completeReplicas(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var all []string
	for n := 1; n <= ring.ReplicasMax && len(args) == 0; n++ {
		all = append(all, strconv.Itoa(n))
	}
	return all, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// replicasFollow says what happens behind the answer.
func replicasFollow(before, number int, plan *client.RingPlan) string {
	if number > before {
		return fmt.Sprintf("every key gets %d homes: %s. Reads and writes go on meanwhile.", number, plannedSize(plan))
	}
	text := fmt.Sprintf("every key keeps %d of its homes: %d slots are taken away. Reads and writes go on meanwhile.", number, takenAway(plan))
	if number == 1 {
		text += "\nThen each key has one copy: what is on a disk that is lost, is lost."
	}
	return text
}

// takenAway is how many slots a plan ends with less than it begins with.
func takenAway(plan *client.RingPlan) (n int) {
	if plan == nil {
		return 0
	}
	for i := range plan.Members {
		n += plan.Members[i].Now - plan.Members[i].Then
	}
	return n
}

// replicasEnded says that every key has so many homes.
func replicasEnded(r *ring.Record, number int) (bool, error) {
	if r.Replicas != number {
		return false, &exitError{exitBroken, fmt.Errorf("%d replicas are not wanted any more, but %d: somebody has changed that meanwhile", number, r.Replicas), "see kith ring history"}
	}
	return settled(r), nil
}

// slotsToGo is how many slots are still to be taken away.
func slotsToGo(r *ring.Record) (n int) {
	for p := range ring.Partition(r.Partitions) {
		n += max(0, len(r.Homes(p))-r.Replicas)
	}
	return n
}

// homesText says how many homes partitions have, for people.
func homesText(r *ring.Record) string {
	if r.Before == 0 {
		return fmt.Sprintf("%d partitions of %d homes", r.Partitions, r.Replicas)
	}
	return fmt.Sprintf("%d partitions of %d homes (before: %d; left to change: %d)", r.Partitions, r.Replicas, r.Before, r.Uneven())
}

// ends are the members from whom and to whom a slot moves; empty where it is added or
// taken away.
func ends(from, to ring.NodeID) (string, string) {
	id := func(id ring.NodeID) string {
		if id.IsZero() {
			return ""
		}
		return id.String()
	}
	return id(from), id(to)
}

// endOf is the name of one end of a move.
func endOf(r *ring.Record, id ring.NodeID) string {
	if id.IsZero() {
		return "-"
	}
	return nameOf(r, id)
}

// moveText says what becomes of a slot.
func moveText(r *ring.Record, m *ring.Move) string {
	switch {
	case m.Grows():
		return fmt.Sprintf("added at %s, %v", nameOf(r, m.To), m.Phase)
	case m.Shrinks():
		return fmt.Sprintf("taken from %s, %v", nameOf(r, m.From), m.Phase)
	}
	return fmt.Sprintf("%s to %s, %v", nameOf(r, m.From), nameOf(r, m.To), m.Phase)
}
