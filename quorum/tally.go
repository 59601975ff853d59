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
	// Met: as many slots count as are needed.
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

// Tally counts the answers of one operation at one epoch. Each home slot has one
// member or, while it moves, a pair; a pair counts as one, and only if both have
// acknowledged. Of each member the first word stands: what it says later, of
// whatever kind, changes nothing.
//
// A Tally is a plain value, to be made with New; the zero value has no slots. It
// is not safe for concurrent use. An operation that is retried at another epoch
// takes a new one.
//
// Invariant: acked and failed are disjoint; bit s stands for the first member of
// slot s, bit s of the high half for the second; the second members of slots
// that are no pairs have acked from the beginning.
type Tally struct {
	acked, failed uint32
	slots, need   uint8
}

// high is the first bit of the second members.
const high = 16

// New makes a tally over slots, 1 to ring.ReplicasMax, of which need must count,
// 1 to slots. Other numbers are the caller's bug: see Resolve.
func New(slots, need int) Tally {
	if slots < 1 || slots > ring.ReplicasMax || need < 1 || need > slots {
		panic(fmt.Sprintf("quorum: need %d of %d slots", need, slots))
	}
	return Tally{acked: (1<<slots - 1) << high, slots: uint8(slots), need: uint8(need)}
}

// Pair says that the slot is moving: it has a second member, who must
// acknowledge as well. To be called before the first answer of any member.
func (t *Tally) Pair(slot int) {
	second := t.bit(slot, false) << high
	if t.failed != 0 || t.acked&(1<<high-1) != 0 {
		panic("quorum: pair after the first answer")
	}
	t.acked &^= second
}

// Ack counts the acknowledgement of a member: the slot's only or first one, or
// the second of a pair.
func (t *Tally) Ack(slot int, second bool) {
	if bit := t.bit(slot, second); t.failed&bit == 0 {
		t.acked |= bit
	}
}

// Fail notes that a member's acknowledgement will not come, or would not count.
func (t *Tally) Fail(slot int, second bool) {
	if bit := t.bit(slot, second); t.acked&bit == 0 {
		t.failed |= bit
	}
}

// Acked says whether the member's acknowledgement was its first word.
func (t *Tally) Acked(slot int, second bool) bool {
	return t.acked&t.bit(slot, second) != 0
}

// Result says how the tally stands.
func (t *Tally) Result() Result {
	lost := bits.OnesCount32((t.failed | t.failed>>high) & (1<<high - 1))
	switch {
	case t.Got() >= int(t.need):
		return Met
	case int(t.slots)-lost < int(t.need):
		return Unmet
	}
	return Pending
}

// Got is the number of slots that count.
func (t *Tally) Got() int { return bits.OnesCount32(t.acked & (t.acked >> high)) }

// Need is the number of slots that must count.
func (t *Tally) Need() int { return int(t.need) }

// Slots is the number of slots.
func (t *Tally) Slots() int { return int(t.slots) }

// bit is the member's. The second member of a slot that is no pair has its bit
// set in acked, where neither Ack nor Fail changes it.
func (t *Tally) bit(slot int, second bool) uint32 {
	if slot < 0 || slot >= int(t.slots) {
		panic(fmt.Sprintf("quorum: slot %d of %d", slot, t.slots))
	}
	if second {
		return 1 << (high + slot)
	}
	return 1 << slot
}
