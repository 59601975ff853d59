package topology

import (
	"os"
	"strconv"
)

// runs is how many seeds a test tries.
func runs(short int) int {
	if n, err := strconv.Atoi(os.Getenv("KITH_LONG")); err == nil && n > 0 {
		return short * 20
	}
	return short
}
