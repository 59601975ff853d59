package store_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// A clock claims what was added, and never anything else; it claims all of it
// while that fits its bound.
func TestClockClaimsOnlyWhatWasAdded(t *testing.T) {
	for seed := range uint64(runs(200, 20000)) {
		r := rand.New(rand.NewPCG(seed, 4))
		var c store.Clock
		added := map[version.Dot]bool{}
		span := 1 + r.IntN(300)
		for range r.IntN(400) {
			d := version.Dot{Actor: version.Actor(1 + r.IntN(3)), Seq: uint64(1 + r.IntN(span))}
			had := c.Has(d)
			if c.Add(d, d.Actor == 2) == had && added[d] && d.Actor != 2 {
				t.Fatalf("seed %d: adding %v twice changed the clock", seed, d)
			}
			added[d] = true
			if !c.Has(d) && span < 100 {
				t.Fatalf("seed %d: %v was added and is not there", seed, d)
			}
		}
		for actor := range version.Actor(5) {
			for seq := range uint64(span + 3) {
				d := version.Dot{Actor: actor, Seq: seq}
				if c.Has(d) && !added[d] {
					t.Fatalf("seed %d: claims %v", seed, d)
				}
			}
		}
		for _, a := range c.Actors {
			if len(a.Ranges) > 64 || a.Mine != (a.Actor == 2) {
				t.Fatalf("seed %d: actor %d: %d ranges, mine %v", seed, a.Actor, len(a.Ranges), a.Mine)
			}
		}
		encoded := c.Append(nil)
		again, err := store.ParseClock(encoded)
		if err != nil || !bytes.Equal(again.Append(nil), encoded) {
			t.Fatalf("seed %d: %v", seed, err)
		}
		copied := c.Clone()
		copied.Add(version.Dot{Actor: 1, Seq: 1000}, false)
		if !bytes.Equal(c.Append(nil), encoded) {
			t.Fatalf("seed %d: a clone shares memory", seed)
		}
	}
}

// Forgetting the highest numbers is safe: the lower ones are still claimed.
func TestClockOverflowForgetsTheHighest(t *testing.T) {
	var c store.Clock
	for n := uint64(200); n > 0; n-- {
		c.Add(version.Dot{Actor: 1, Seq: 2 * n}, false)
	}
	for n := uint64(1); n <= 200; n++ {
		if got, want := c.Has(version.Dot{Actor: 1, Seq: 2 * n}), n <= 64; got != want {
			t.Fatalf("claims %d: %v", 2*n, got)
		}
	}
}

func FuzzParseClock(f *testing.F) {
	var c store.Clock
	f.Add(c.Append(nil))
	for _, n := range []uint64{1, 2, 5, 9, 10} {
		c.Add(version.Dot{Actor: 7, Seq: n}, true)
	}
	f.Add(c.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := store.ParseClock(b)
		if err == nil && !bytes.Equal(c.Append(nil), b) {
			// Varints may be written longer than need be; what they
			// say is the same.
			again, err := store.ParseClock(c.Append(nil))
			if err != nil || !bytes.Equal(again.Append(nil), c.Append(nil)) {
				t.Fatalf("%v", err)
			}
		}
	})
}
