package store_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// A read that begins after an acknowledgement sees the write, whatever is
// evicted, read from disk and put back meanwhile.
func TestReadsNeverGoBackwards(t *testing.T) {
	o := small()
	o.CacheBytes = 96 << 10 // a few entries in each shard
	s := open(t, disk.New(1).Open(), o)
	const keys = 400
	var acked [keys]atomic.Pointer[version.Dot]
	for i := range keys {
		dot := mustPut(t, s, ring.Partition(i%3), fmt.Sprint(i), "v").dot
		acked[i].Store(&dot)
	}
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 5))
			for range rounds(3000, 300_000) {
				i := r.IntN(keys)
				if i%6 != w && r.IntN(2) == 0 {
					readBack(t, s, i, acked[i].Load())
					continue
				}
				// Each key has one writer.
				i = i/6*6 + w
				if i >= keys {
					continue
				}
				p := start(s, blind(ring.Partition(i%3), fmt.Sprint(i), "w"))
				if err := p.wait(); err != nil {
					t.Error(err)
					return
				}
				acked[i].Store(&p.dot)
				readBack(t, s, i, &p.dot)
			}
		})
	}
	wg.Wait()
	if st := s.Stats(); st.CacheMiss < keys {
		t.Errorf("%d cache misses: the test does not bite", st.CacheMiss)
	}
}

func readBack(t *testing.T, s *store.Store, i int, dot *version.Dot) {
	var rec version.Record
	var err error
	p, key := ring.Partition(i%3), fmt.Sprint(i)
	if i%2 == 0 {
		rec, err = tryGet(s, p, key)
	} else {
		o := newOutcome()
		s.Read(p, []byte(key), o)
		if err = o.wait(); err == nil {
			rec, err = version.Parse(o.record)
		}
	}
	if err != nil || !rec.Seen.Covers(*dot) {
		t.Errorf("key %d: acknowledged %v, read %v, %v", i, *dot, rec.Seen, err)
	}
}

// Callbacks of one store come in commit order: numbers of an actor are given
// and acknowledged without gaps.
func TestCallbacksComeInCommitOrder(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	var log ordered
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 200 {
				sink := &orderedSink{log: &log, done: make(chan struct{})}
				p := blind(1, fmt.Sprint(w, i%5), "v")
				p.Sink = sink
				s.Put(p)
				<-sink.done
			}
		})
	}
	wg.Wait()
	for i, n := range log.minted {
		if n != uint64(i+1) || log.committed[i] != n {
			t.Fatalf("call %d: minted %d, committed %d", i, n, log.committed[i])
		}
	}
	if len(log.minted) != 1600 || len(log.committed) != 1600 {
		t.Fatalf("%d minted, %d committed", len(log.minted), len(log.committed))
	}
}

type ordered struct {
	mu                sync.Mutex
	minted, committed []uint64
}

type orderedSink struct {
	log  *ordered
	seq  uint64
	done chan struct{}
}

func (o *orderedSink) Minted(_ []byte, dot version.Dot, _ version.Context, _ int) {
	o.log.mu.Lock()
	defer o.log.mu.Unlock()
	o.seq = dot.Seq
	o.log.minted = append(o.log.minted, dot.Seq)
}

func (o *orderedSink) Committed(error) {
	o.log.mu.Lock()
	o.log.committed = append(o.log.committed, o.seq)
	o.log.mu.Unlock()
	close(o.done)
}
