package store

import (
	"math"
	"time"
)

// A batch waits for more operations only while others keep coming: alone, a
// write is committed at once.
const (
	windowRecords = 48                     // a batch of so many waits for no more
	windowQuiet   = 800 * time.Microsecond // nothing came for so long: nobody is waited for
	windowMax     = 4 * time.Millisecond   // so long after the last batch, nobody is waited for
	windowAlone   = 2                      // up to so many callers are not worth waiting for
	windowLearn   = 16                     // batches before the target rises a little
)

// window says when a batch goes to the disk. Callers mostly wait for one write
// before they send the next, so that all of them could share each fsync. How
// many they are shows in how many operations are there when a batch is done:
// its own, and those that came meanwhile. The window waits for a few less than
// that, so that the slowest of them delay nobody.
type window struct {
	timer *time.Timer
	set   bool // the timer runs
	quiet bool // it has run out, and nothing was done about it yet
	seen  int  // operations in the batch when it was set

	target int       // operations to wait for, beside windowRecords
	short  bool      // the last batch was sent with fewer
	done   time.Time // when the last batch was
	low    int       // fewest that were under way at the end of a batch,
	since  int       // of so many batches
}

func newWindow() window {
	w := window{timer: time.NewTimer(time.Hour), low: math.MaxInt}
	w.timer.Stop()
	return w
}

// elapsed is told that the timer has run out.
func (w *window) elapsed() { w.set, w.quiet = false, true }

// over says whether a batch of so many operations goes to the disk now. If not,
// the timer will tell when to ask again.
func (w *window) over(ops int) bool {
	target := min(windowRecords, w.target)
	if ops < target && target > windowAlone && !(w.quiet && ops == w.seen) {
		if left := windowMax - time.Since(w.done); left > 0 {
			if !w.set {
				w.set, w.quiet, w.seen = true, false, ops
				w.timer.Reset(min(windowQuiet, left))
			}
			return false
		}
	}
	return true
}

// sent ends the waiting for a batch of so many operations.
func (w *window) sent(ops int) {
	w.short = ops < min(windowRecords, w.target)
	w.quiet = false
	if w.set {
		w.set = false
		w.timer.Stop()
	}
}

// learn takes how many operations a batch had that is done, and how many have
// come since it was sent.
func (w *window) learn(ops, more int) {
	w.done = time.Now()
	if w.short {
		w.target, w.low, w.since = ops-ops/8, math.MaxInt, 0
		return
	}
	// A single look may count a caller twice, which was answered by other
	// homes meanwhile.
	w.low = min(w.low, ops+more)
	if w.since++; w.since >= windowLearn || w.low > 2*w.target {
		w.target = max(w.target, w.low-w.low/8)
		w.low, w.since = math.MaxInt, 0
	}
}
