package sim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kithdb/kith/ring"
)

// seats are who takes part in the operations on a partition under one record, by the
// rules of docs/decisions/008 and 011, written down once more: package quorum is what is
// checked here. Each row needs a quorum of its own.
type seats struct {
	writes, reads [][]ring.NodeID
}

// seatsOf finds them. While a slot is moved, a write needs the homes as they are and as
// they will be; a read one of the two, or both where their numbers differ and those that
// will be are asked already.
func seatsOf(r *ring.Record, p ring.Partition) seats {
	now := r.Homes(p)
	m := r.MoveOf(p)
	if m == nil || m.Phase == ring.PhasePlan {
		return seats{[][]ring.NodeID{now}, [][]ring.NodeID{now}}
	}
	then := slices.Clone(now)
	switch {
	case m.From.IsZero():
		then = append(then, m.To)
	case m.To.IsZero():
		then = slices.Delete(then, int(m.Slot), int(m.Slot)+1)
	default:
		then[m.Slot] = m.To
	}
	both := [][]ring.NodeID{now, then}
	switch {
	case m.To.IsZero(), m.From.IsZero() && m.Phase == ring.PhaseReadNew:
		return seats{both, both}
	case m.Phase == ring.PhaseReadNew:
		return seats{both, both[1:]}
	}
	return seats{both, both[:1]}
}

// of are the rows that a read, or a write, asks.
func (s seats) of(read bool) [][]ring.NodeID {
	if read {
		return s.reads
	}
	return s.writes
}

// among says that a member is in one of some rows.
func among(rows [][]ring.NodeID, id ring.NodeID) bool {
	return slices.ContainsFunc(rows, func(row []ring.NodeID) bool { return slices.Contains(row, id) })
}

// longest is the length of the longest row.
func longest(rows [][]ring.NodeID) (n int) {
	for _, row := range rows {
		n = max(n, len(row))
	}
	return n
}

// majority is how many of n are more than half of them.
func majority(n int) int { return n/2 + 1 }

// counted says what is wrong with what an operation counted.
func counted(r *ring.Record, p ring.Partition, o *Op) error {
	rows := seatsOf(r, p).of(o.asks())
	for i, id := range o.Receipt.Answered {
		if !among(rows, id) {
			return fmt.Errorf("%s has no part in it", id.Short())
		}
		if slices.Contains(o.Receipt.Answered[:i], id) {
			return fmt.Errorf("%s is counted twice", id.Short())
		}
	}
	for _, row := range rows {
		n := 0
		for _, id := range row {
			if slices.Contains(o.Receipt.Answered, id) {
				n++
			}
		}
		if least := o.least(row, rows); n < least || o.Receipt.Need < 1 {
			return fmt.Errorf("%d have answered of those that count, %d must", n, least)
		}
	}
	return nil
}

// least is how many of a row an operation must have counted. The receipt tells of one
// row: where rows have different lengths, that is known of no other one but that a strict
// operation needs its majority.
func (o *Op) least(row []ring.NodeID, rows [][]ring.NodeID) int {
	least := o.Receipt.Need
	if len(row) < longest(rows) || len(rows[0]) != len(rows[len(rows)-1]) {
		least = 1
	}
	if o.Strict {
		least = max(least, majority(len(row)))
	}
	return least
}

func rowsOf(r *ring.Record, p ring.Partition) string {
	var names []string
	for _, id := range r.Homes(p) {
		names = append(names, id.Short())
	}
	text := fmt.Sprintf("partition %d at epoch %d: homes %s", p, r.Epoch, strings.Join(names, " "))
	m := r.MoveOf(p)
	switch {
	case m == nil:
	case m.From.IsZero():
		text += fmt.Sprintf(", %s is added: %v", m.To.Short(), m.Phase)
	case m.To.IsZero():
		text += fmt.Sprintf(", %s is taken away: %v, pulled from by %b", m.From.Short(), m.Phase, m.Got)
	default:
		text += fmt.Sprintf(", %s is moved to %s: %v", m.From.Short(), m.To.Short(), m.Phase)
	}
	return text
}
