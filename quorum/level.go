package quorum

import (
	"fmt"
	"math/bits"

	"github.com/kithdb/kith/ring"
)

// The levels with a name, numbered as on the wire. Every other one is a number of
// homes.
const (
	levelDefault = 0
	levelLocal   = 252
	levelEach    = 253
	levelQuorum  = 254
	levelAll     = 255
)

// Majority is the least number that is more than half of n.
func Majority(n int) int { return n/2 + 1 }

// Resolve gives the number of homes, 1 to n, that a level asks for of a
// partition with n homes: 0 is the default and 254 the name of a majority, 255
// is all, anything else the number itself. The error names level and bound, as in
// "9 of 3 homes", so that a caller who knows which it is may write "R=%w". What
// asks for homes in zones, 252 for a majority of those in one zone and 253 for a
// majority in each, is no number: see Seats.
func Resolve(level uint8, n int) (int, error) {
	if n < 1 || n > ring.ReplicasMax {
		return 0, fmt.Errorf("partition of %d homes, want 1 to %d", n, ring.ReplicasMax)
	}
	switch level {
	case levelDefault, levelQuorum:
		return Majority(n), nil
	case levelAll:
		return n, nil
	}
	if int(level) > n {
		return 0, fmt.Errorf("%d of %d homes", level, n)
	}
	return int(level), nil
}

func ones(seats uint8) int { return bits.OnesCount8(seats) }

// first is the lowest of some seats.
func first(seats uint8) int { return bits.TrailingZeros8(seats) }
