package membership_test

import (
	"math/rand/v2"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/membership"
)

// A world that is told when the truth has changed shows what one shows that looks
// all the time.
func TestVersionOfTheTruthChangesNoView(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) { sameViews(t, seed) })
	}
}

// sameViews plays one story in two worlds, of which one has a version of the truth.
func sameViews(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	var mu sync.Mutex // guards apart and looks
	apart, looks := map[[2]ring.NodeID]bool{}, [2]int{}
	var version atomic.Uint64
	var worlds [2]*membership.World
	var members [2][5]*membership.Member
	join := func(n byte) {
		for i, w := range worlds {
			members[i][n] = w.Join(peer(n))
		}
		version.Add(1)
	}
	for i := range worlds {
		cfg := membership.Config{Seed: seed, Reaches: func(from, to ring.NodeID) bool {
			mu.Lock()
			defer mu.Unlock()
			looks[i]++
			return !apart[[2]ring.NodeID{from, to}]
		}}
		if i == 1 {
			cfg.Version = version.Load
		}
		worlds[i] = membership.New(cfg)
		defer worlds[i].Close()
	}
	for n := range byte(len(members[0])) {
		join(n)
	}
	time.Sleep(time.Millisecond) // between two looks
	for range 300 {
		a, b := byte(rng.IntN(5)), byte(rng.IntN(5))
		epoch := rng.Uint64N(3)
		act, alive := rng.IntN(40), rng.IntN(2) == 0
		for i, w := range worlds {
			switch act {
			case 0, 1:
				w.Set(id(a), id(b), alive)
			case 2, 3:
				w.Follow()
			case 4:
				w.Freeze(id(a), id(b))
			case 5:
				members[i][a].Announce(gossip.State{Epoch: epoch})
			case 6:
				_ = members[i][a].Close()
			case 7:
				members[i][a].Forget(id(b))
			}
		}
		switch act {
		case 8, 9, 10:
			mu.Lock()
			apart[[2]ring.NodeID{id(a), id(b)}] = !alive
			mu.Unlock()
			version.Add(1)
		case 11:
			mu.Lock()
			clear(apart)
			mu.Unlock()
			version.Add(1)
		case 12:
			join(a)
		}
		time.Sleep(time.Duration(rng.IntN(20)) * 100 * time.Millisecond)
		for n := range members[0] {
			if x, y := members[0][n].View(), members[1][n].View(); !reflect.DeepEqual(x, y) {
				t.Fatalf("seed %d: %d sees %+v, and with a version %+v", seed, n, x.Peers, y.Peers)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if looks[1] == 0 || looks[1] >= looks[0] {
		t.Errorf("seed %d: %d looks at the truth, and %d without a version", seed, looks[1], looks[0])
	}
}
