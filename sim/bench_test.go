package sim_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/kithdb/kith/sim"
)

// processorTime is what this process has taken of its processors, in real time
// also inside a bubble.
func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTenMinutes plays ten virtual minutes of five nodes under load, with
// the checks in the end.
func BenchmarkTenMinutes(b *testing.B) {
	story := sim.Story{Steps: []sim.Step{}, Length: 10 * time.Minute, Clients: 10, Keys: 400, Pause: 200 * time.Millisecond}
	b.Run("scripted", func(b *testing.B) { play(b, sim.Options{}, story) })
	b.Run("serf", func(b *testing.B) { play(b, sim.Options{Serf: true}, story) })
}

// BenchmarkStory plays short random stories, each with another seed.
func BenchmarkStory(b *testing.B) {
	b.Run("scripted", func(b *testing.B) { play(b, sim.Options{}, sim.Story{}) })
	b.Run("serf", func(b *testing.B) { play(b, sim.Options{Serf: true}, sim.Story{}) })
}

func play(b *testing.B, o sim.Options, s sim.Story) {
	var virtual time.Duration
	ops, cpu := 0, processorTime(b)
	for b.Loop() {
		r := sim.Run(o, s)
		if r.Err != nil {
			b.Fatalf("%v\n%s", r.Err, r.Log)
		}
		o.Seed++
		virtual += r.Virtual
		ops += len(r.History.Ops())
	}
	n := float64(b.N)
	b.ReportMetric(virtual.Seconds()/n, "virtual-s/op")
	b.ReportMetric((processorTime(b)-cpu).Seconds()/n, "cpu-s/op")
	b.ReportMetric(float64(ops)/n, "requests/op")
}
