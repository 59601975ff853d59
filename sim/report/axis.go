package report

import (
	"math"
	"time"

	"github.com/kithdb/kith/sim/trace"
)

// width is that of every drawing, in its own units; the page stretches it.
const width = 1000

// axis maps a run's time to the width of the drawings, and to the buckets that
// operations are counted in.
type axis struct {
	length time.Duration // never 0
	step   time.Duration // of a bucket
	n      int           // buckets
}

const (
	bucketsMost  = 240 // about four points wide on a screen
	bucketsFew   = 48  // fewer tell no story in time
	opsPerBucket = 5   // of one kind, level and side, where there are so many
)

// newAxis finds how long the run was, with all that it left behind, and buckets
// that are neither too many to draw nor too small to hold a few operations.
func newAxis(run *trace.Run, rows int) axis {
	length := run.Length
	for _, e := range run.Events {
		length = max(length, e.At)
	}
	for _, s := range run.Samples {
		length = max(length, s.At)
	}
	for i := range run.Ops {
		length = max(length, run.Ops[i].At)
	}
	length = max(length, time.Millisecond)
	want := len(run.Ops) / max(rows, 1) / opsPerBucket
	want = min(max(want, bucketsFew), bucketsMost)
	step := nice(length, want)
	return axis{length: length, step: step, n: int((length + step - 1) / step)}
}

// nice is the smallest round step of which no more than most fit in a length.
func nice(length time.Duration, most int) time.Duration {
	for step := time.Microsecond; ; step *= 10 {
		for _, s := range []time.Duration{step, 2 * step, 5 * step} {
			if s >= 10*time.Second && s < time.Hour { // people count these in sixties
				s = s / (10 * time.Second) * (15 * time.Second)
			}
			if length <= s*time.Duration(most) {
				return s
			}
		}
	}
}

// x is where a time stands in a drawing.
func (a axis) x(t time.Duration) float64 {
	t = min(max(t, 0), a.length)
	return round(width * float64(t) / float64(a.length))
}

// percent is where a time stands on the page.
func (a axis) percent(t time.Duration) float64 { return a.x(t) * 100 / width }

// bucket gives the bucket of a time.
func (a axis) bucket(t time.Duration) int {
	return min(max(int(t/a.step), 0), a.n-1)
}

// edges are where a bucket begins and ends in a drawing.
func (a axis) edges(bucket int) (left, right float64) {
	return a.x(time.Duration(bucket) * a.step), a.x(time.Duration(bucket+1) * a.step)
}

// round keeps two digits: less than a hundredth of a point on any screen.
func round(f float64) float64 { return math.Round(f*100) / 100 }

// tick is a label of the time axis.
type tick struct {
	Left  float64
	Label string
	Minor bool // left out where the screen is narrow
	Last  bool // so far right that its label must not be centred
}

func (a axis) ticks() []tick {
	step := nice(a.length, 9)
	var ticks []tick
	for i := 0; ; i++ {
		t := time.Duration(i) * step
		if t > a.length {
			return ticks
		}
		label := seconds(t)
		if step >= time.Second && a.length >= 2*time.Minute {
			label = clock(t)
		}
		ticks = append(ticks, tick{a.percent(t), label, i%2 == 1, a.percent(t) > 97})
	}
}
