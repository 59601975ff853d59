package version

import (
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestClockIsMonotoneAndBounded(t *testing.T) {
	const skewMax = 500 * time.Millisecond
	rapid.Check(t, func(t *rapid.T) {
		wall := time.UnixMilli(1_800_000_000_000)
		c := NewClock(func() time.Time { return wall }, skewMax)
		var last Stamp
		limit := StampAt(wall) // the furthest that the clock may be by now
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				wall = wall.Add(time.Duration(rapid.Int64Range(-2000, 2000).Draw(t, "jump")) * time.Millisecond)
			case 1:
				ahead := time.Duration(rapid.Int64Range(-1000, 1000).Draw(t, "ahead")) * time.Millisecond
				s := StampAt(wall.Add(ahead)) + Stamp(rapid.Uint64Range(0, 0xffff).Draw(t, "counter"))
				got, ok := c.Observe(s)
				if got != ahead || ok != (ahead <= skewMax) {
					t.Fatalf("observing %v ahead: %v, %v", ahead, got, ok)
				}
				if ok {
					last, limit = max(last, s), max(limit, s)
				}
			default:
				s := c.Now()
				limit = max(limit.Next(), StampAt(wall))
				if s <= last || s < StampAt(wall) || s > limit {
					t.Fatalf("stamp %x after %x, wall %x, at most %x", s, last, StampAt(wall), limit)
				}
				last = s
			}
			if c.Last() != last {
				t.Fatalf("last is %x, want %x", c.Last(), last)
			}
		}
	})
}

func TestClockTakesWhatIsExactlyAtItsBound(t *testing.T) {
	wall := time.UnixMilli(1_800_000_000_000)
	c := NewClock(func() time.Time { return wall }, time.Second)
	at := StampAt(wall.Add(time.Second))
	if _, ok := c.Observe(at); !ok || c.Now() != at.Next() {
		t.Fatal("a stamp at the bound is not taken")
	}
	if ahead, ok := c.Observe(StampAt(wall.Add(1001 * time.Millisecond))); ok || ahead != 1001*time.Millisecond {
		t.Fatalf("a stamp %v ahead is taken", ahead)
	}
}

func TestClockNeverGivesAStampTwice(t *testing.T) {
	wall := time.UnixMilli(1_800_000_000_000)
	c := NewClock(func() time.Time { return wall }, time.Second)
	var given [4][2000]Stamp
	var wg sync.WaitGroup
	for i := range given {
		wg.Go(func() {
			for j := range given[i] {
				given[i][j] = c.Now()
				c.Observe(given[i][j] + 3)
			}
		})
	}
	wg.Wait()
	seen := map[Stamp]bool{}
	for i := range given {
		for j, s := range given[i] {
			if seen[s] || j > 0 && s <= given[i][j-1]+3 {
				t.Fatalf("stamp %x given twice or not behind what was observed", s)
			}
			seen[s] = true
		}
	}
}

func TestStampAtSaturates(t *testing.T) {
	for _, c := range []struct {
		at   time.Time
		want Stamp
	}{
		{time.UnixMilli(0), 0},
		{time.UnixMilli(-5), 0},
		{time.Time{}, 0},
		{time.UnixMilli(7), 7 << counterBits},
		{time.UnixMilli(1 << 50), millisMax << counterBits},
	} {
		if got := StampAt(c.at); got != c.want {
			t.Errorf("StampAt(%v) = %x, want %x", c.at, got, c.want)
		}
	}
	if last := ^Stamp(0); last.Next() != last {
		t.Error("the last stamp has a next one")
	}
	c := NewClock(func() time.Time { return time.UnixMilli(0) }, time.Hour)
	if ahead, ok := c.Observe(^Stamp(0)); ok || ahead < 1000*time.Hour {
		t.Errorf("the last stamp is taken, %v ahead", ahead)
	}
}

func BenchmarkClockNow(b *testing.B) {
	c := NewClock(time.Now, time.Second)
	b.ReportAllocs()
	for b.Loop() {
		c.Now()
	}
}
