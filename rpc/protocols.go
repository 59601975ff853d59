package rpc

import (
	"fmt"
	"strconv"
	"strings"
)

// ProtocolMin and ProtocolMax are the versions of the protocol that this program's code
// speaks. A new one is added above while those of the release before are kept, so that
// the members of a cluster can be upgraded one by one.
const (
	ProtocolMin uint8 = 1
	ProtocolMax uint8 = 1
)

// Protocols is a range of versions of the protocol. Two sides speak the highest version
// that is in the ranges of both.
type Protocols struct{ Min, Max uint8 }

// built narrows or moves what Spoken says: MIN-MAX, set when a program is linked, by
// -X github.com/kithdb/kith/rpc.built=MIN-MAX. That makes two programs of which one stands
// for a release to come, to see how they meet.
var built string

var spoken = mustProtocols(built)

// Spoken is the range that this program speaks.
func Spoken() Protocols { return spoken }

func mustProtocols(text string) Protocols {
	if text == "" {
		return Protocols{ProtocolMin, ProtocolMax}
	}
	low, high, _ := strings.Cut(text, "-")
	a, errA := strconv.ParseUint(low, 10, 8)
	b, errB := strconv.ParseUint(high, 10, 8)
	if errA != nil || errB != nil || a == 0 || a > b {
		panic(fmt.Sprintf("rpc: this program was built for the protocols %q: want MIN-MAX, from 1 to 255", text))
	}
	return Protocols{uint8(a), uint8(b)}
}

// Common is the version that two sides speak; ok is false if there is none.
func (p Protocols) Common(other Protocols) (version uint8, ok bool) {
	version = min(p.Max, other.Max)
	return version, version >= max(p.Min, other.Min)
}

// String is "1 to 3".
func (p Protocols) String() string { return fmt.Sprintf("%d to %d", p.Min, p.Max) }
