package quorum

import (
	"fmt"
	"math/bits"

	"github.com/kithdb/kith/ring"
)

// Result is what a tally has come to.
type Result uint8

// The results. Met and Unmet are final.
const (
	// Pending: it depends on answers that are still to come.
	Pending Result = iota
	// Met: as many seats count as are needed.
	Met
	// Unmet: too many have failed, the need cannot be met any more.
	Unmet
)

// String gives the result as one word.
func (r Result) String() string {
	switch r {
	case Pending:
		return "pending"
	case Met:
		return "met"
	case Unmet:
		return "unmet"
	}
	return fmt.Sprintf("result %d", uint8(r))
}

// SeatsMax is the most members that one operation may ask: a home in every slot,
// and the target of one move.
const SeatsMax = ring.ReplicasMax + 1

// Tally counts the answers of one operation at one epoch. Every member asked has a
// seat, 0 to SeatsMax-1. The operation has one or several needs, each for so many
// of some of the seats, and is met when all of them are. Of each seat the first
// word stands: what its member says later, of whatever kind, changes nothing.
//
// A Tally is a plain value, to be made with New or by Seats; the zero value has no
// seats. It is not safe for concurrent use. An operation that is retried at another
// epoch takes a new one.
//
// Invariant: acked and failed are disjoint, and each need can be met by its seats.
type Tally struct {
	acked, failed uint8
	count         uint8
	zonal         bool // each need is of one zone
	needs         [needsMax]need
}

// need asks for acknowledgements of so many of some seats, one bit each.
type need struct{ seats, least uint8 }

// needsMax is two rows of homes, each in as many zones as it has homes.
const needsMax = 2 * ring.ReplicasMax

// New makes a tally over seats 0 to slots-1, of which least must count: 1 to slots,
// which is 1 to ring.ReplicasMax. Other numbers are the caller's bug: see Resolve.
func New(slots, least int) Tally {
	if slots < 1 || slots > ring.ReplicasMax {
		panic(fmt.Sprintf("quorum: need %d of %d slots", least, slots))
	}
	var t Tally
	t.add(1<<slots-1, least)
	return t
}

// add asks for least of some seats, too. What another need contains already is left
// out.
func (t *Tally) add(seats uint8, least int) {
	if least < 1 || least > bits.OnesCount8(seats) {
		panic(fmt.Sprintf("quorum: need %d of %d slots", least, bits.OnesCount8(seats)))
	}
	n := need{seats, uint8(least)}
	for _, other := range t.needs[:t.count] {
		if other == n {
			return
		}
	}
	t.needs[t.count] = n
	t.count++
}

// Ack counts the acknowledgement of a seat's member.
func (t *Tally) Ack(seat int) {
	if bit := t.bit(seat); t.failed&bit == 0 {
		t.acked |= bit
	}
}

// Fail notes that a seat's acknowledgement will not come, or would not count.
func (t *Tally) Fail(seat int) {
	if bit := t.bit(seat); t.acked&bit == 0 {
		t.failed |= bit
	}
}

// Acked says whether the member's acknowledgement was its first word.
func (t *Tally) Acked(seat int) bool { return t.acked&t.bit(seat) != 0 }

// Counts says that the acknowledgement of a seat's member counts for some need.
func (t *Tally) Counts(seat int) bool {
	bit := t.bit(seat)
	for _, n := range t.needs[:t.count] {
		if n.seats&bit != 0 {
			return true
		}
	}
	return false
}

// Wants says that the acknowledgement of a seat's member would bring nearer a need
// that is not met yet, if it is still to come.
func (t *Tally) Wants(seat int) bool {
	bit := t.bit(seat)
	if (t.acked|t.failed)&bit != 0 {
		return false
	}
	for _, n := range t.needs[:t.count] {
		if n.seats&bit != 0 && bits.OnesCount8(n.seats&t.acked) < int(n.least) {
			return true
		}
	}
	return false
}

// Result says how the tally stands.
func (t *Tally) Result() Result {
	result := Met
	for _, n := range t.needs[:t.count] {
		switch {
		case bits.OnesCount8(n.seats&t.acked) >= int(n.least):
		case bits.OnesCount8(n.seats&^t.failed) < int(n.least):
			return Unmet
		default:
			result = Pending
		}
	}
	if t.count == 0 {
		return Unmet
	}
	return result
}

// Got is how many count, of the need that lacks most.
func (t *Tally) Got() int { return bits.OnesCount8(t.worst().seats & t.acked) }

// Need is how many must count, of the need that lacks most.
func (t *Tally) Need() int { return int(t.worst().least) }

// Slots is of how many they are, of the need that lacks most.
func (t *Tally) Slots() int { return bits.OnesCount8(t.worst().seats) }

// worst is the need that lacks most, the first of several; the zero need of a zero
// Tally.
func (t *Tally) worst() need {
	lacks := func(n need) int { return int(n.least) - bits.OnesCount8(n.seats&t.acked) }
	worst := t.needs[0]
	for _, n := range t.needs[:t.count] {
		if lacks(n) > lacks(worst) {
			worst = n
		}
	}
	return worst
}

func (t *Tally) bit(seat int) uint8 {
	if seat < 0 || seat >= SeatsMax {
		panic(fmt.Sprintf("quorum: seat %d of %d", seat, SeatsMax))
	}
	return 1 << seat
}
