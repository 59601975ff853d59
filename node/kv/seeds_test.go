package kv_test

import (
	"os"

	"github.com/kithdb/kith/sim"
)

// seedsOf is how many seeds a random test plays: few, many with KITH_LONG, and a third of
// the few under the race detector, which is slow, and sees as much in those.
func seedsOf(few, many int) int {
	switch {
	case os.Getenv("KITH_LONG") != "":
		return many
	case !sim.Replays:
		return (few + 2) / 3
	}
	return few
}
