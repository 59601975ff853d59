package store_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

func BenchmarkPut(b *testing.B) {
	for _, where := range []string{"memory", "disk"} {
		for _, callers := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/callers=%d", where, callers), func(b *testing.B) {
				var d storage.Storage = disk.New(1).Open()
				if where == "disk" {
					var err error
					if d, err = storage.OpenFile(b.TempDir(), false); err != nil {
						b.Fatal(err)
					}
				}
				benchPuts(b, d, callers)
				if err := d.Close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// benchSink hands a committed put back to its caller.
type benchSink struct{ done chan error }

func (s *benchSink) Minted([]byte, version.Dot, version.Context, int) {}
func (s *benchSink) Committed(err error)                              { s.done <- err }

func benchPuts(b *testing.B, d storage.Storage, callers int) {
	s := open(b, d, store.Options{})
	value := make([]byte, 128)
	digest := version.DigestOf(value)
	var next atomic.Int64
	b.ReportAllocs()
	cpu := cpuTime()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			sink := &benchSink{done: make(chan error, 1)}
			p := &store.Put{Blind: true, Value: value, ValueDigest: digest, Sink: sink, Stamp: 1}
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				n = n * 7919 % 50_000
				p.Partition = ring.Partition(n % 1024)
				p.Key = fmt.Appendf(p.Key[:0], "key/%08d", n)
				s.Put(p)
				if err := <-sink.done; err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	st := s.Stats()
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N)/1000, "cpu-us/op")
	b.ReportMetric(float64(st.Records)/float64(max(1, st.Batches)), "records/sync")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkMerge takes records of another home: new ones, as with every put, and
// ones that are there already.
func BenchmarkMerge(b *testing.B) {
	for _, kind := range []string{"new", "redundant"} {
		b.Run(kind, func(b *testing.B) {
			s := open(b, disk.New(1).Open(), store.Options{})
			const callers = 64
			var wg sync.WaitGroup
			b.ReportAllocs()
			cpu := cpuTime()
			b.ResetTimer()
			for c := range callers {
				wg.Go(func() { benchMerges(b, s, version.Actor(c+1), kind == "redundant", b.N/callers+1) })
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N)/1000, "cpu-us/op")
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// benchMerges writes 400 keys over and over, as their only writer.
func benchMerges(b *testing.B, s *store.Store, actor version.Actor, again bool, n int) {
	sink := &benchSink{done: make(chan error, 1)}
	value := make([]byte, 128)
	held := make([]version.Record, 400)
	for i := range n {
		r := &held[i%len(held)]
		if !again || r.Key == nil {
			next := version.Record{Key: fmt.Appendf(nil, "key/%d/%d", actor, i%len(held))}
			next = next.Put(r.Seen, version.NewSibling(version.Dot{Actor: actor, Seq: uint64(i + 1)}, 1, 0, value))
			*r = next
		}
		s.Merge(&store.Merge{Partition: ring.Partition(actor), Record: *r, Encoded: r.Append(nil), Sink: sink})
		if err := <-sink.done; err != nil {
			b.Error(err)
			return
		}
	}
}
