package antientropy

import (
	"testing"
	"time"
)

func TestEstimateFollowsWhatIsMissing(t *testing.T) {
	var p progress
	now := time.UnixMilli(1_800_000_000_000)
	for _, c := range []struct {
		after   time.Duration
		missing int64
		want    float64
	}{
		{0, 1000, -1},               // nothing is known yet
		{10 * time.Second, 900, 90}, // ten a second
		{time.Second, 890, 89},
		{9 * time.Second, 700, 35},  // twenty a second
		{10 * time.Second, 700, -1}, // it does not move
		{time.Second, 1500, -1},     // more than before
		{10 * time.Second, 0, 0},
	} {
		now = now.Add(c.after)
		if got := p.eta(c.missing, now); got != c.want {
			t.Errorf("%d missing after %v: %v s, want %v", c.missing, c.after, got, c.want)
		}
	}
}

func TestStatusTellsHowFarAHomeIs(t *testing.T) {
	inWorld(t, worldOptions{stopped: true, partitions: 4, tune: func(c *Config) { c.BytesPerSecond = 1 << 20 }}, func(w *world) {
		for i := range 40 {
			w.write(0, string(rune('a'+i)), string(make([]byte, 400<<10)), 1)
		}
		for i := range 3 {
			w.start(i)
		}
		time.Sleep(3 * time.Second)
		st := w.nodes[2].repair.Status()
		if st.Homes != 4 || st.Behind == 0 || st.Missing == 0 || st.Missing > 40 || st.PulledKeys == 0 ||
			st.PulledBytes < st.PulledKeys*(400<<10) || st.PulledKeys+st.Missing < 40 {
			t.Errorf("half-way: %+v", st)
		}
		w.eventually(time.Minute, "settled", w.settled)
		if st := w.nodes[2].repair.Status(); st.Behind != 0 || st.Missing != 0 || st.PulledKeys != 40 || st.ETA != 0 {
			t.Errorf("at the end: %+v", st)
		}
	})
}
