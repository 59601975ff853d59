package sim

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// drained is longer than LevelDB's buffer pool takes to end after its Close, and
// a probe of serf after its shutdown.
const drained = time.Minute

// Replays says that a seed gives the same run again, but for the order of what
// happens at one instant.
const Replays = !raced

// Bubble runs f in virtual time, on one processor unless the race detector looks
// for what runs side by side. What f has started must end with it.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if Replays {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	}
	// A pool may hold a channel that an older bubble made, and using that in
	// another one is fatal: two collections empty every pool.
	runtime.GC()
	runtime.GC()
	synctest.Test(t, func(t *testing.T) {
		// Registered first, so that it runs last: stragglers end by themselves.
		t.Cleanup(func() { time.Sleep(drained) })
		f(t)
	})
}
