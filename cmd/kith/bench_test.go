package main

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestBenchPicksKeysInBounds(t *testing.T) {
	for _, dist := range []string{"uniform", "zipfian"} {
		for _, keys := range []int{1, 2, 1000} {
			b := &bench{keys: keys, dist: dist}
			k := b.caller(1, nil)
			count := make([]int, keys)
			const n = 20_000
			for range n {
				count[k.pick()]++ // panics out of bounds
			}
			most := 0
			for _, c := range count {
				most = max(most, c)
			}
			if keys == 1000 && (dist == "zipfian") != (most > n/20) {
				t.Errorf("%s: the most popular of %d keys has %d of %d", dist, keys, most, n)
			}
		}
	}
}

func TestBenchReportCountsWhatWasDone(t *testing.T) {
	b := &bench{concurrency: 2, keys: 10, size: 4}
	callers := []*caller{b.caller(0, nil), b.caller(1, nil)}
	for i := range 100 {
		callers[i%2].measured(i%4 == 0, time.Duration(i+1)*time.Millisecond, nil)
	}
	callers[1].measured(true, time.Hour, nil) // over what a histogram holds
	callers[0].measured(false, time.Second, errUnmeasured)
	r := b.report(callers, 10*time.Second, time.Second)
	if r.Reads.Count != 26 || r.Writes.Count != 75 || r.Operations != 101 || r.Throughput != 10.1 {
		t.Errorf("%+v", r)
	}
	if r.Errors["UNEXPECTED"] != 1 || b.firstError() == nil {
		t.Errorf("errors %v, first %v", r.Errors, b.firstError())
	}
	if p := r.Writes.P50; p < 0.045 || p > 0.055 {
		t.Errorf("p50 of writes is %v s", p)
	}
	if r.Reads.Max < 59 || r.Reads.P999 < r.Reads.P99 || r.Reads.P99 < r.Reads.P50 {
		t.Errorf("%+v", r.Reads)
	}
}

var errUnmeasured = usagef("no good")

func TestBudgetBoundsWhatIsOut(t *testing.T) {
	b := newBudget(100)
	var out, most atomic.Int64
	var takers sync.WaitGroup
	for i := range 8 {
		takers.Go(func() {
			for j := range 200 {
				n := 1 + (i*31+j*17)%60
				b.take(n)
				if now := out.Add(int64(n)); now > most.Load() {
					most.Store(now)
				}
				out.Add(int64(-n))
				b.give(n)
			}
		})
	}
	takers.Wait()
	if most.Load() > 100 || b.used != 0 {
		t.Errorf("%d were out at once, %d still are", most.Load(), b.used)
	}
	b.take(1000) // alone, and however large
	b.give(1000)
}
