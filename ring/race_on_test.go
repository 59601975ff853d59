//go:build race

package ring

import "flag"

// The race detector sees nothing in what does nothing at the same time: a quarter of the
// draws are enough for it, and .ci/run makes all of them without it.
func init() {
	if err := flag.Set("rapid.checks", "25"); err != nil {
		panic(err)
	}
}

// stepsOfALife is how many members come or go in one.
const stepsOfALife = 6
