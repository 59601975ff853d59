package antientropy

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// What all who hold a partition must agree to, while one of its slots moves.

// at says whether a node has a record of a key, and whether it can be read.
func (w *moveWorld) at(i int, key string) (has, alive bool) {
	r, ok := w.held(i)[key]
	return ok, len(aliveIn(&r, 0)) > 0
}

// nobody says which of some nodes has a record of a key.
func (w *moveWorld) nobody(key string, nodes ...int) func() error {
	return func() error {
		for _, i := range nodes {
			if has, _ := w.at(i, key); has {
				return fmt.Errorf("node %d has a record of %s", i, key)
			}
		}
		return nil
	}
}

// The target of a move has pulled a value that is deleted afterwards, and has not heard
// of that. While it has not, the homes keep the tombstone; then all forget it, and the
// value stays away when the target is a home.
func TestTombstonesWaitForTheTargetOfAMove(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 21, tune: soonForgetting}, func(w *moveWorld) {
		w.write(w.from, "k", "v", w.a, w.b)
		w.step(ring.StepDual, w.everybody()...)
		w.mustSync(w.to, w.from)
		if _, alive := w.at(w.to, "k"); !alive {
			w.t.Fatal("the target has not pulled the value: this test tests nothing")
		}
		w.deliver(w.nodes[w.from].put("k", "", true, true), w.a, w.b)
		time.Sleep(2 * time.Minute)
		for _, i := range []int{w.a, w.b, w.from} {
			if has, alive := w.at(i, "k"); !has || alive {
				w.t.Fatalf("node %d: the tombstone is there: %v, a value: %v", i, has, alive)
			}
		}
		w.step(ring.StepReadNew, w.everybody()...)
		w.mustSync(w.to, w.from)
		w.eventually(15*time.Minute, "forgotten by all", w.nobody("k", w.a, w.b, w.from, w.to))
		w.step(ring.StepDone, w.everybody()...)
		time.Sleep(time.Minute)
		if err := w.nobody("k", w.a, w.b, w.to)(); err != nil {
			w.t.Error(err)
		}
	})
}

// A move that is only queued holds nothing up.
func TestQueuedMovesDoNotHoldUpForgetting(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 22, tune: soonForgetting}, func(w *moveWorld) {
		next, err := w.rec.WithMoves([]ring.Move{{Partition: movedPartition, Slot: 2, To: w.nodes[w.to].id}})
		if err != nil {
			w.t.Fatal(err)
		}
		w.rec = next
		for _, i := range w.everybody() {
			w.nodes[i].take(next)
		}
		w.halt(w.to)
		w.write(w.from, "k", "v", w.a, w.b)
		w.deliver(w.nodes[w.from].put("k", "", true, true), w.a, w.b)
		w.eventually(2*time.Minute, "forgotten", w.nobody("k", w.a, w.b, w.from))
	})
}

// A packet with a value that was deleted and forgotten comes to a target that cannot
// know that. When its first pull is noted it does, and has no record of it.
func TestFirstPullEndsWhatALatePacketBroughtBack(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 23, tune: soonForgetting}, func(w *moveWorld) {
		old := w.write(w.from, "k", "v", w.a, w.b)
		w.fill(20, 100, w.a, w.b)
		w.deliver(w.nodes[w.from].put("k", "", true, true), w.a, w.b)
		w.eventually(2*time.Minute, "forgotten", w.nobody("k", w.a, w.b, w.from))
		w.step(ring.StepDual, w.everybody()...)
		w.deliver(old, w.to)
		if _, alive := w.at(w.to, "k"); !alive {
			w.t.Fatal("the packet was not taken: this test tests nothing")
		}
		w.mustSync(w.to, w.from)
		if err := w.nobody("k", w.everybody()...)(); err != nil {
			w.t.Error(err)
		}
		w.deliver(old, w.to) // and once more
		if err := w.nobody("k", w.everybody()...)(); err != nil {
			w.t.Error(err)
		}
	})
}

// What is on its way to a member when it drops the partition is refused: it would be
// there still when the member is to hold the partition again.
func TestNothingIsMergedBehindADrop(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 24}, func(w *moveWorld) {
		b := w.write(w.from, "k", "v", w.a, w.b)
		dual := w.step(ring.StepDual, w.everybody()...)
		target := w.nodes[w.to]
		w.step(ring.StepAbort, w.everybody()...)
		w.held(w.to) // until it is dropped
		err := target.repair.mergeBy(w.t.Context(), dual, dual.Epoch, movedPartition, []item{{key: []byte("k"), encoded: b}}, verdict{}, target.repair.pace.rest)
		if !errors.Is(err, store.ErrFenced) {
			w.t.Errorf("by the record of the move: %v", err)
		}
		if err := w.nobody("k", w.to)(); err != nil {
			w.t.Error(err)
		}
	})
}

// A target counts for reads when it has pulled what whoever answered before it held, and
// counts on as a home, without a pause.
func TestTargetCountsFromItsPullOn(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 25}, func(w *moveWorld) {
		counts := func() bool { return w.nodes[w.to].repair.Counts(movedPartition) }
		w.fill(10, 100, w.a, w.b)
		w.step(ring.StepDual, w.everybody()...)
		w.mustSync(w.to, w.from)
		w.step(ring.StepReadNew, w.everybody()...)
		time.Sleep(5 * time.Second)
		if counts() {
			w.t.Error("it counts before it has pulled what was read last")
		}
		w.mustSync(w.to, w.from)
		if !counts() {
			w.t.Error("it does not count although its pull is noted")
		}
		w.halt(w.to) // its note is on disk
		w.start(w.to)
		w.eventually(time.Second, "it counts after a restart", func() error {
			if !counts() {
				return errors.New("it does not")
			}
			return nil
		})
		w.halt(w.a) // so that clocks cannot be compared with all
		w.step(ring.StepDone, w.b, w.from, w.to)
		for range 100 {
			time.Sleep(10 * time.Millisecond)
			if !counts() {
				w.t.Fatal("it does not count as a home")
			}
		}
		if w.nodes[w.from].repair.Counts(movedPartition) {
			w.t.Error("who gave its slot away counts")
		}
	})
}

// What is kept for an end of a move stays where it is until the move is over, and goes
// to all homes when the one that it was kept for is none any more.
func TestStandInsWaitForTheEndOfAMove(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 26}, func(w *moveWorld) {
		stranger := 10 - w.a - w.b - w.from - w.to
		record := w.nodes[w.a].put("k", "v", true, false)
		r, err := version.Parse(record)
		if err != nil {
			w.t.Fatal(err)
		}
		w.step(ring.StepDual, w.everybody()...)
		done := make(chan outcome, 1)
		keeper := w.nodes[stranger].disk
		keeper.StandIn(&store.StandIn{Home: w.nodes[w.from].id, Partition: movedPartition, Record: r, Encoded: record, Sink: mergeSink{0, done}})
		if o := <-done; o.err != nil {
			w.t.Fatal(o.err)
		}
		kept := func() int64 { return keeper.Stats().StandIns }
		w.mustSync(w.to, w.from)
		time.Sleep(time.Minute)
		if kept() != 1 {
			w.t.Error("it went to an end of the move")
		}
		w.step(ring.StepReadNew, w.everybody()...)
		w.mustSync(w.to, w.from)
		w.step(ring.StepDone, w.everybody()...)
		w.eventually(time.Minute, "it goes to the homes", func() error {
			if kept() != 0 {
				return errors.New("it is still kept")
			}
			return nil
		})
		for _, i := range []int{w.a, w.b, w.to} {
			if has, _ := w.at(i, "k"); !has {
				w.t.Errorf("node %d does not have it", i)
			}
		}
	})
}

// crash mints keys at a node that loses power before any of it is on its disk, and gives
// the records that may have left.
func (w *moveWorld) crash(i int, keys ...string) (records [][]byte) {
	w.t.Helper()
	d := w.nodes[i].disk
	d.platter.SetTear(disk.TearAll)
	d.platter.SetSyncDelay(func() time.Duration { return crashSync })
	for _, key := range keys {
		if _, err := d.Get(movedPartition, []byte(key)); err != nil {
			w.t.Fatal(err)
		}
		sink := &putSink{done: make(chan error, 1)}
		value := []byte(key)
		d.Put(&store.Put{Partition: movedPartition, Epoch: w.rec.Epoch, Key: value, Value: value, ValueDigest: version.DigestOf(value),
			Blind: true, Stamp: version.StampAt(time.Now()), Sink: sink})
		synctest.Wait()
		time.Sleep(10 * time.Millisecond)
		if sink.record == nil {
			w.t.Fatalf("key %s was not minted", key)
		}
		records = append(records, sink.record)
	}
	d.platter.PowerCut()
	w.halt(i)
	d.platter.Heal()
	d.platter.SetSyncDelay(nil)
	w.start(i)
	return records
}

// A dead actor ends when all who hold the partition hold the same of it, the target of a
// move among them; then that one refuses what is void, too.
func TestClosingAsksBothEndsOfAMove(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 27, tune: soonClosing}, func(w *moveWorld) {
		w.write(w.b, "first", "v", w.a, w.from)
		left := w.crash(w.b, "void", "kept") // a hole, and a write behind it that left
		w.deliver(left[1], w.a, w.from)
		w.step(ring.StepDual, w.everybody()...)
		closed := func() (n int64) {
			for _, h := range w.nodes {
				n += h.repair.Status().Closed
			}
			return n
		}
		time.Sleep(5 * time.Minute)
		if closed() != 0 {
			w.t.Error("an actor was closed whose writes the target lacks")
		}
		w.mustSync(w.to, w.from)
		w.eventually(15*time.Minute, "closed", func() error {
			if closed() == 0 {
				return fmt.Errorf("%v", w.nodes[w.a].repair.Status().Blocked)
			}
			return nil
		})
		w.eventually(time.Minute, "the source knows", func() error {
			ends, _ := w.nodes[w.from].disk.Endings(movedPartition)
			if len(ends) == 0 || !ends[0].Closed {
				return fmt.Errorf("%+v", ends)
			}
			return nil
		})
		w.step(ring.StepReadNew, w.everybody()...)
		w.mustSync(w.to, w.from)
		r, err := version.Parse(left[0])
		if err != nil {
			w.t.Fatal(err)
		}
		done := make(chan outcome, 1)
		w.nodes[w.to].disk.Merge(&store.Merge{Partition: movedPartition, Record: r, Encoded: left[0], Sink: mergeSink{0, done}})
		if o := <-done; !errors.Is(o.err, store.ErrEnded) {
			w.t.Errorf("what is void comes to the target: %v", o.err)
		}
	})
}

// Audits are between homes: the target of a move is no partner.
func TestTargetsAreNotAuditedByHomes(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 28}, func(w *moveWorld) {
		w.step(ring.StepDual, w.everybody()...)
		time.Sleep(time.Minute)
		for _, i := range []int{w.a, w.b, w.from} {
			if slices.Contains(w.nodes[i].repair.partnersOf(w.rec), w.nodes[w.to].id) {
				w.t.Errorf("node %d takes the target for a partner", i)
			}
		}
		if _, err := w.nodes[w.to].repair.Audit(int(movedPartition)); err == nil {
			w.t.Error("the target audits a partition that it has not got yet")
		}
	})
}
