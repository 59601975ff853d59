package topology

import (
	"os"
	"strconv"
	"testing"
)

// runs is how many seeds a test tries.
func runs(short int) int {
	if n, err := strconv.Atoi(os.Getenv("KITH_LONG")); err == nil && n > 0 {
		return short * 20
	}
	return short
}

// seen plays a broken model until a seed shows what the broken rule does.
func seen(t *testing.T, play func(seed uint64) (wrong string)) {
	t.Helper()
	for seed := range uint64(20000) {
		if wrong := play(seed); wrong != "" {
			t.Logf("seed %d: %s", seed, wrong)
			return
		}
	}
	t.Fatal("not seen")
}
