package processes

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/kithdb/kith/sim"
)

// The stories' answers depend on no seed: neither on which homes the keys have,
// nor on what the network and the disks do by chance. KITH_LONG is how many seeds
// are played; 4 by default, and 2 of the long stories and under the race detector,
// which sees as much in these.
func TestStoriesHoldWhateverTheSeed(t *testing.T) {
	seeds := 4
	if !sim.Replays {
		seeds = 2
	}
	if long, err := strconv.Atoi(os.Getenv("KITH_LONG")); err == nil {
		seeds = max(seeds, long)
	}
	for _, s := range Stories() {
		var first *Result
		some := seeds
		if s.alone && os.Getenv("KITH_LONG") == "" {
			some = min(seeds, 2)
		}
		for seed := range uint64(some) {
			t.Run(fmt.Sprint(s.Name, " ", seed), func(t *testing.T) {
				var result *Result
				sim.Bubble(t, func(t *testing.T) {
					w, err := NewSimulated(100 + seed)
					if err != nil {
						t.Fatal(err)
					}
					result = on(t, w, s)
				})
				if first == nil {
					first = result
				}
				if err := Agree(first, result); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
