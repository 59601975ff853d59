package sim_test

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/sim/network"
)

// interrupter has whoever calls it go behind all other goroutines that can run, now
// and then: as Go's scheduler does with one that had no processor for 10 ms.
type interrupter struct {
	mu    sync.Mutex // guards what follows
	rng   *rand.Rand
	times int
}

func (i *interrupter) now() {
	i.mu.Lock()
	yes := i.rng.IntN(4) == 0
	if yes {
		i.times++
	}
	i.mu.Unlock()
	if yes {
		runtime.Gosched()
	}
}

// spinning gives a disk the usual time for an fsync, and has who syncs interrupted.
func (i *interrupter) spinning(d *disk.Disk) {
	d.Logf(func(string, ...any) { i.now() })
	d.SetSyncDelay(func() time.Duration {
		i.now()
		rng := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
		return time.Duration(rng.Int64N(int64(2 * time.Millisecond)))
	})
}

// What a goroutine is interrupted at is no part of a run: not the network in the
// middle of an instant, nor a disk that is about to sync or that LevelDB writes to.
func TestOneSeedOneTraceWhoeverIsInterrupted(t *testing.T) {
	for _, seed := range seeds(6) {
		var first *sim.Recorded
		for round := range uint64(3) {
			i := &interrupter{rng: rand.New(rand.NewPCG(seed, round))}
			o, s := sim.Swarm(seed, 4*time.Second)
			o.Network.Trace, o.Disk = func(network.Event) { i.now() }, i.spinning
			r := sim.RunRecorded(o, s)
			if r.Err != nil {
				t.Fatalf("%v\n%s", r.Err, r.Log)
			}
			if i.times < 100 {
				t.Errorf("seed %d: only %d interruptions", seed, i.times)
			}
			if first == nil {
				first = r
			} else if sim.Replays && !sameTrace(first, r) {
				t.Errorf("seed %d has another trace when other goroutines are interrupted: %s", seed, firstDifference(first, r))
			}
		}
	}
}
