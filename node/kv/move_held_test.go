package kv_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// only is a partition's move when it has one home: from that node to another one, each
// phase as a record.
type only struct {
	w        *world
	key      string
	p        ring.Partition
	from, to int
	record   *ring.Record
}

func (w *world) only() *only {
	homes, others := w.homes("k")
	o := &only{w: w, key: "k", p: w.record.PartitionOf([]byte("k")), from: homes[0], to: others[0]}
	r, err := w.record.WithMoves([]ring.Move{{Partition: o.p, Slot: 0, To: nodeID(o.to)}})
	if err != nil {
		w.t.Fatal(err)
	}
	o.record = r
	return o
}

// step takes the move on, as some nodes know it.
func (o *only) step(s ring.Step, nodes ...int) {
	o.w.t.Helper()
	r, err := o.record.WithSteps([]ring.StepTo{{Partition: o.p, Step: s}})
	if err != nil {
		o.w.t.Fatal(err)
	}
	o.record = r
	o.w.adopt(r, nodes...)
}

// pull has the target pull all from the source, under the epoch of the phase.
func (o *only) pull(to, from int) {
	o.w.t.Helper()
	source := o.w.nodes[from].store
	err := source.Scan(o.p, nil, 0, func(_, b []byte) bool {
		record, err := version.Parse(b)
		done := make(chan error, 1)
		if err == nil {
			o.w.nodes[to].store.Merge(&store.Merge{Partition: o.p, Record: record, Encoded: append([]byte(nil), b...), Sink: committed(func(err error) { done <- err })})
			err = <-done
		}
		if err != nil {
			o.w.t.Fatal(err)
		}
		return true
	})
	if err != nil {
		o.w.t.Fatal(err)
	}
	o.w.note(to, o.p, o.record.Since[o.p], from)
}

// readNew is the move in read-new with a value that the target has pulled in dual. What it
// must pull before it answers reads it has not.
func (w *world) readNew(value string) *only {
	o := w.only()
	w.mustPut(o.from, o.key, value, nil)
	o.step(ring.StepDual, 0, 1, 2, 3)
	time.Sleep(time.Second)
	o.pull(o.to, o.from)
	o.step(ring.StepReadNew, 0, 1, 2, 3)
	return o
}

// With one home, a read in read-new is answered when the target has pulled, by whomever
// it comes, without a refusal.
func TestReadsWaitForThePullWhereNobodyElseAnswers(t *testing.T) {
	inWorld(t, 4, 1, func(w *world) {
		o := w.readNew("v")
		soon := time.AfterFunc(300*time.Millisecond, func() { o.pull(o.to, o.from) })
		defer soon.Stop()
		var readers sync.WaitGroup
		for via := range w.nodes {
			readers.Go(func() {
				start := time.Now()
				if got := w.values(via, o.key, api.Quorum); !maps.Equal(got, set("v")) {
					t.Errorf("through node %d: %v", via, got)
				}
				if took := time.Since(start); took < 290*time.Millisecond || took > 320*time.Millisecond {
					t.Errorf("through node %d it took %v", via, took)
				}
				if all := w.scanAll(via, api.ScanRequest{Partition: uint16(o.p), R: api.All}); all[o.key] != "v" {
					t.Errorf("a scan through node %d: %v", via, all)
				}
			})
		}
		readers.Wait()
	})
}

// A record that comes instead of the note lets the reads go, too: they begin anew by it.
func TestReadsThatWaitGoOnWithTheNextRecord(t *testing.T) {
	for _, step := range []ring.Step{ring.StepDone, ring.StepBack} {
		inWorld(t, 4, 1, func(w *world) {
			o := w.readNew("v")
			soon := time.AfterFunc(200*time.Millisecond, func() {
				o.step(step, o.to)
				if step == ring.StepBack {
					w.adopt(o.record, o.from)
					o.pull(o.from, o.to)
				}
			})
			defer soon.Stop()
			resp, err := w.get(o.from, o.key, api.Quorum)
			if err != nil || string(resp.Values[0].Data) != "v" || resp.Receipt.Epoch != o.record.Epoch {
				t.Errorf("%v: %+v, %v", step, resp, err)
			}
		})
	}
}

// A pull that does not end holds reads back for a second, and then the error says whom
// they wait for. Where others answer, nobody waits.
func TestReadsAreHeldBackForASecondAtMost(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		m := w.moving()
		w.mustPut(m.a, m.key, "v", nil)
		w.phase(m, ring.PhaseReadNew)
		w.mustPut(m.a, m.key, "v", nil)
		for via := range w.nodes {
			start := time.Now()
			if got := w.values(via, m.key, api.Quorum); !maps.Equal(got, set("v")) {
				t.Errorf("through node %d: %v", via, got)
			}
			if took := time.Since(start); took > 50*time.Millisecond {
				t.Errorf("at quorum through node %d it took %v", via, took)
			}
			start = time.Now()
			_, err := w.get(via, m.key, api.All)
			if !errors.Is(err, api.ErrUnavailable) {
				t.Errorf("at all through node %d: %v", via, err)
			}
			if took := time.Since(start); took < 900*time.Millisecond || took > 1100*time.Millisecond {
				t.Errorf("at all through node %d it took %v: %v", via, took, err)
			}
		}
	})
}

// The deadline of a read goes before the second.
func TestReadsAreNotHeldBackBeyondTheirDeadline(t *testing.T) {
	inWorld(t, 4, 1, func(w *world) {
		o := w.only()
		o.step(ring.StepDual, 0, 1, 2, 3)
		o.step(ring.StepReadNew, 0, 1, 2, 3)
		for via := range w.nodes {
			ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
			_, err := api.Get.Call(ctx, w.client, rpc.Peer{Addr: w.nodes[via].peer.Addr}, &api.GetRequest{Key: []byte(o.key)})
			cancel()
			if !errors.Is(err, api.ErrUnavailable) {
				t.Errorf("through node %d: %v", via, err)
			}
		}
	})
}

// A node that closes lets all reads go.
func TestCloseLetsReadsGoThatWait(t *testing.T) {
	inWorld(t, 4, 1, func(w *world) {
		o := w.only()
		o.step(ring.StepDual, 0, 1, 2, 3)
		o.step(ring.StepReadNew, 0, 1, 2, 3)
		told := make(outcomes, 100)
		for range 50 {
			w.nodes[o.to].kv.Get(&api.GetRequest{Key: []byte(o.key)}, time.Now().Add(time.Minute), told)
			w.nodes[o.from].kv.Get(&api.GetRequest{Key: []byte(o.key)}, time.Now().Add(time.Minute), told)
		}
		time.Sleep(100 * time.Millisecond)
		if len(told) > 0 {
			t.Fatalf("%d reads were answered: %v", len(told), <-told)
		}
		w.halt(o.to)
		time.Sleep(2 * time.Second)
		w.halt(o.from)
		if len(told) != 100 {
			t.Errorf("%d of 100 reads were answered", len(told))
		}
		for len(told) > 0 {
			if err := <-told; err == nil {
				t.Error("a read was answered by nobody")
			}
		}
	})
}

// More reads than there is room for are refused at once, and the others are answered.
func TestReadsThatWaitAreBounded(t *testing.T) {
	inWorld(t, 4, 1, func(w *world) {
		o := w.readNew("v")
		const reads, room = 1500, 1024
		told := make(outcomes, reads)
		for range reads {
			w.nodes[o.to].kv.Get(&api.GetRequest{Key: []byte(o.key)}, time.Now().Add(2*time.Second), told)
		}
		time.Sleep(100 * time.Millisecond)
		if len(told) != reads-room {
			t.Errorf("%d of %d were refused", len(told), reads)
		}
		o.pull(o.to, o.from)
		time.Sleep(100 * time.Millisecond)
		done := 0
		for len(told) > 0 {
			if <-told == nil {
				done++
			}
		}
		if done != room {
			t.Errorf("%d were answered, there is room for %d", done, room)
		}
	})
}

// A target whose move was aborted and began anew drops what it had, and writes wait for
// that, where they need it: none is refused or unknown.
func TestWritesWaitForTheDropOfAnOldTime(t *testing.T) {
	inWorld(t, 4, 1, func(w *world) {
		o := w.only()
		o.step(ring.StepDual, 0, 1, 2, 3)
		for i := range 50 { // something to drop
			w.keepAs(o.to, moving{key: fmt.Sprintf("{%s}%d", o.key, i), p: o.p}, version.Dot{Actor: 77, Seq: uint64(i + 1)}, "old")
		}
		for _, h := range w.nodes {
			h.disk.SetSyncDelay(func() time.Duration { return 5 * time.Millisecond })
		}
		var writers sync.WaitGroup
		for i := range 4 {
			writers.Go(func() {
				for n := range 40 {
					if _, err := w.put(i, api.PutRequest{Key: fmt.Appendf(nil, "{%s}of-%d", o.key, i), Value: fmt.Append(nil, n)}); err != nil {
						t.Errorf("writer %d, put %d: %v", i, n, err)
					}
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		o.step(ring.StepAbort, o.from)
		again, err := o.record.WithMoves([]ring.Move{{Partition: o.p, Slot: 0, To: nodeID(o.to)}})
		if err != nil {
			t.Fatal(err)
		}
		o.record = again
		o.step(ring.StepDual, o.from, o.to)
		if dropping := w.nodes[o.to].store.Dropping(); len(dropping) != 1 {
			t.Errorf("the target drops %v", dropping)
		}
		writers.Wait()
		for i := range 50 {
			if w.own(o.to, fmt.Sprintf("{%s}%d", o.key, i)) != nil {
				t.Errorf("key %d of another time is still there", i)
			}
		}
		for i := range 4 {
			if got := w.own(o.to, fmt.Sprintf("{%s}of-%d", o.key, i)); got == nil || string(got.Siblings[0].Value) != "39" {
				t.Errorf("writer %d: the target has %v", i, got)
			}
		}
	})
}

// What is noted while a copy is read says nothing of that copy: a read that began before
// the pull came to its end is not answered with what was there then.
func TestACopyThatWasReadBeforeThePullIsNotShown(t *testing.T) {
	for _, level := range []api.Level{api.Quorum, api.All} {
		inWorld(t, 4, 1, func(w *world) {
			o := w.only()
			o.step(ring.StepDual, 0, 1, 2, 3)
			o.pull(o.to, o.from)
			// A write that nobody has acknowledged, and a read has shown.
			w.keep(o.from, moving{key: o.key, p: o.p}, "shown")
			if got := w.values(o.from, o.key, api.One); !maps.Equal(got, set("shown")) {
				t.Fatalf("in dual it shows %v", got)
			}
			o.step(ring.StepReadNew, 0, 1, 2, 3)
			var once sync.Once
			pull := func() { once.Do(func() { o.pull(o.to, o.from) }) }
			w.nodes[o.to].asked.Store(&pull) // it ends just when that is looked at
			for via := range w.nodes {
				if got := w.values(via, o.key, level); !maps.Equal(got, set("shown")) {
					t.Errorf("through node %d it shows %v", via, got)
				}
			}
		})
	}
}
