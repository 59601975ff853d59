package store_test

import (
	"os"
	"strconv"
)

// runs is how often a random test tries: many times with KITH_LONG=1, and a third under
// the race detector, which is slow, and sees as much in those.
func runs(short, long int) int {
	if raceBuild && os.Getenv("KITH_LONG") == "" {
		return (short + 2) / 3
	}
	return rounds(short, long)
}

// rounds is how often a test goes on whose goroutines meet by chance, for the race
// detector to see them: many times with KITH_LONG=1.
func rounds(short, long int) int {
	if os.Getenv("KITH_LONG") != "" {
		return long
	}
	return short
}

// seedsFrom gives n seeds, from KITH_SEED on if that is set.
func seedsFrom(n int) []uint64 {
	first, _ := strconv.ParseUint(os.Getenv("KITH_SEED"), 10, 64)
	seeds := make([]uint64, n)
	for i := range seeds {
		seeds[i] = first + uint64(i)
	}
	return seeds
}
