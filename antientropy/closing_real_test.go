package antientropy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

func soonClosing(c *Config) { c.CloseAfter, c.ForgetAfter = 10*time.Second, 10*time.Second }

// closes is how long closing takes where it may, at most; neverCloses is how long it is
// looked at where it may not.
const (
	closes      = 5 * time.Minute
	neverCloses = 3 * closes
)

// crashSync is how long a disk syncs that is about to lose power: for longer than the
// writes take that it must not have.
const crashSync = time.Second

// crash writes keys at a node that loses power before any of it is on its disk, and
// gives the records that may have left.
func (w *realWorld) crash(i int, keys ...string) (records [][]byte) {
	w.t.Helper()
	w.disks[i].SetTear(disk.TearAll)
	w.disks[i].SetSyncDelay(func() time.Duration { return crashSync })
	for _, key := range keys {
		if _, err := w.stores[i].Get(w.partitionOf(key), []byte(key)); err != nil {
			w.t.Fatal(err)
		}
		sink := &realPut{done: make(chan error, 1)}
		put := store.Put{Partition: w.partitionOf(key), Key: []byte(key), Value: []byte(key), Blind: true, Stamp: version.StampAt(time.Now()), Sink: sink}
		put.ValueDigest = version.DigestOf(put.Value)
		w.stores[i].Put(&put)
		synctest.Wait()
		time.Sleep(10 * time.Millisecond)
		if sink.record == nil || len(sink.done) > 0 {
			w.t.Fatalf("key %s is on disk, or was not minted", key)
		}
		records = append(records, sink.record)
	}
	w.disks[i].PowerCut()
	w.stopNode(i)
	w.disks[i].Heal()
	w.disks[i].SetSyncDelay(nil)
	return records
}

// send merges a record at a node and says what came of it.
func (w *realWorld) send(j int, record []byte) error {
	r, err := version.Parse(record)
	if err != nil {
		w.t.Fatal(err)
	}
	sink := &realPut{done: make(chan error, 1)}
	w.stores[j].Merge(&store.Merge{Partition: w.partitionOf(string(r.Key)), Record: r, Encoded: record, Sink: sink})
	return <-sink.done
}

// holed says that a home's clock has a hole.
func (w *realWorld) holed() error {
	for _, p := range w.all() {
		for _, i := range w.homesOf(p) {
			clock := w.stores[i].ClockOf(p)
			for _, a := range clock.Actors {
				if len(a.Ranges) > 0 {
					return fmt.Errorf("partition %d, node %d: %+v", p, i, a)
				}
			}
			ends, _ := w.stores[i].Endings(p)
			for _, e := range ends {
				if !e.Closed {
					return fmt.Errorf("partition %d, node %d: %+v", p, i, e)
				}
			}
		}
	}
	return nil
}

func (w *realWorld) closedActors() (n int64) {
	for _, h := range w.nodes {
		n += h.repair.Status().Closed
	}
	return n
}

// valueAt says whether a key can be read at a node.
func (w *realWorld) valueAt(i int, key string) bool {
	b, err := w.stores[i].Get(w.partitionOf(key), []byte(key))
	if err != nil {
		w.t.Fatal(err)
	}
	if b == nil {
		return false
	}
	r, err := version.Parse(b)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(aliveIn(&r, 0)) > 0
}

// everywhere waits until all homes hold a key.
func (w *realWorld) everywhere(key string) {
	w.t.Helper()
	w.eventually(closes, key+" at all homes", func() error {
		for _, i := range w.homesOf(w.partitionOf(key)) {
			if !w.valueAt(i, key) {
				return fmt.Errorf("node %d has no %s", i, key)
			}
		}
		return nil
	})
}

// remove deletes a key at a node, and has that merged at others.
func (w *realWorld) remove(i int, key string, to ...int) {
	w.t.Helper()
	w.mint(i, store.Put{Key: []byte(key), Tombstone: true}, to...)
}

// forgotten says that no home has a record of a key.
func (w *realWorld) forgotten(key string) error {
	for i := range w.nodes {
		if b, err := w.stores[i].Get(w.partitionOf(key), []byte(key)); b != nil || err != nil {
			return fmt.Errorf("node %d has %s: %v", i, key, err)
		}
	}
	return nil
}

// A crash takes a write with it whose successor had left. What has seen that one was
// never forgotten.
func TestClosingEndsAHoleThatACrashLeft(t *testing.T) {
	for _, may := range []bool{true, false} {
		t.Run(fmt.Sprint("closing ", may), func(t *testing.T) {
			inRealWorld(t, worldOptions{partitions: 1, tune: func(c *Config) {
				soonClosing(c)
				if !may {
					c.CloseAfter = 1000 * time.Hour
				}
			}}, func(w *realWorld) {
				w.startAll()
				w.mint(1, store.Put{Key: []byte("old"), Value: []byte("v")}, 0, 2)
				sent := w.crash(1, "old", "lost", "left") // "old" is overwritten by what nobody gets
				w.bring(0, sent[2])
				w.startNode(1)
				w.everywhere("left")
				w.remove(0, "left", 1, 2)
				if !may {
					time.Sleep(neverCloses)
					if w.holed() == nil || w.forgotten("left") == nil {
						t.Fatal("there is no hole, or it is in nobody's way")
					}
					return
				}
				w.eventually(closes, "no hole, and forgotten", func() error { return errors.Join(w.holed(), w.forgotten("left")) })
				if n := w.closedActors(); n != 1 {
					t.Errorf("%d actors were closed", n)
				}
				for i := range w.nodes {
					for _, late := range sent[:2] {
						if err := w.send(i, late); !errors.Is(err, store.ErrEnded) {
							t.Errorf("a void write at node %d: %v", i, err)
						}
					}
					if !w.valueAt(i, "old") {
						t.Errorf("node %d has lost a write to a void one", i)
					}
				}
				time.Sleep(time.Minute)
				if err := w.same(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// The write that seems lost is at a home that nobody reaches.
func TestClosingKeepsAWriteAtAHomeThatWasCutOff(t *testing.T) {
	inRealWorld(t, worldOptions{partitions: 1, tune: soonClosing}, func(w *realWorld) {
		w.startAll()
		w.mint(1, store.Put{Key: []byte("old"), Value: []byte("v")}, 0, 2)
		sent := w.crash(1, "real", "left")
		w.bring(2, sent[0])
		w.stopNode(2)
		w.bring(0, sent[1])
		w.startNode(1)
		time.Sleep(neverCloses)
		if w.holed() == nil || w.closedActors() > 0 {
			t.Fatal("closed while a home was away")
		}
		said := ""
		for _, i := range []int{0, 1} {
			said += strings.Join(w.nodes[i].repair.Status().Blocked, "\n")
		}
		if !strings.Contains(said, whyAway+": writes that a crash took") {
			t.Errorf("status says %q", said)
		}
		w.startNode(2)
		w.everywhere("real")
		w.eventually(closes, "no hole", w.holed)
		for i := range w.nodes {
			if err := w.send(i, sent[0]); err != nil {
				t.Errorf("the write again, at node %d: %v", i, err)
			}
		}
	})
}

// The write that seems lost is with a stand-in, which its home does not hear.
func TestClosingKeepsAWriteOnAStandIn(t *testing.T) {
	inRealWorld(t, worldOptions{nodes: 4, partitions: 1, tune: soonClosing}, func(w *realWorld) {
		w.startAll()
		homes := w.homesOf(0)
		stand := 6 - homes[0] - homes[1] - homes[2]
		away, writer := homes[0], homes[1]
		w.mint(writer, store.Put{Key: []byte("old"), Value: []byte("v")}, away, homes[2])
		sent := w.crash(writer, "real", "left")
		r, err := version.Parse(sent[0])
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan outcome, 1)
		w.cut(stand, homes[2])
		w.stores[stand].StandIn(&store.StandIn{Home: w.nodes[homes[2]].id, Partition: 0, Record: r, Encoded: sent[0], Sink: mergeSink{0, done}})
		if o := <-done; o.err != nil {
			t.Fatal(o.err)
		}
		w.bring(away, sent[1])
		w.startNode(writer)
		time.Sleep(neverCloses)
		if w.holed() == nil || w.closedActors() > 0 {
			t.Fatal("closed although a stand-in holds the write")
		}
		w.net.Heal()
		w.everywhere("real")
		w.eventually(closes, "no hole", w.holed)
	})
}

// Some members are fenced when whoever closes is gone. A late write comes to one that is
// not: the others take it from there, and it counts.
func TestClosingGoesOnWhereItStopped(t *testing.T) {
	inRealWorld(t, worldOptions{partitions: 1, tune: soonClosing}, func(w *realWorld) {
		w.startAll()
		w.mint(1, store.Put{Key: []byte("old"), Value: []byte("v")}, 0, 2)
		sent := w.crash(1, "late", "left", "void", "last")
		w.bring(0, sent[1])
		w.bring(2, sent[3])
		w.startNode(1)
		w.everywhere("last")
		w.everywhere("left")
		r, err := version.Parse(sent[0])
		if err != nil {
			t.Fatal(err)
		}
		actor := r.Siblings[0].Actor
		for _, i := range []int{0, 2} {
			if err := w.stores[i].End(0, []store.Ending{{Actor: actor}}, 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.send(0, sent[0]); !errors.Is(err, store.ErrEnding) {
			t.Fatalf("at a fenced home: %v", err)
		}
		w.bring(1, sent[0])
		w.disks[2].PowerCut()
		w.stopNode(2)
		w.startNode(2)
		w.everywhere("late")
		w.eventually(closes, "no hole", w.holed)
		for i := range w.nodes {
			if err := w.send(i, sent[2]); !errors.Is(err, store.ErrEnded) {
				t.Errorf("a void write at node %d: %v", i, err)
			}
		}
	})
}

// A stand-in whose record was closed out finds that out, and keeps it no longer.
func TestClosingEndsStandInsOfVoidWrites(t *testing.T) {
	inRealWorld(t, worldOptions{nodes: 4, partitions: 1, tune: soonClosing}, func(w *realWorld) {
		w.startAll()
		homes := w.homesOf(0)
		stand := 6 - homes[0] - homes[1] - homes[2]
		w.mint(homes[1], store.Put{Key: []byte("old"), Value: []byte("v")}, homes[0], homes[2])
		sent := w.crash(homes[1], "void", "left")
		w.bring(homes[0], sent[1])
		w.startNode(homes[1])
		w.eventually(closes, "closed", func() error {
			if w.closedActors() == 0 {
				return errors.New("no")
			}
			return w.holed()
		})
		r, err := version.Parse(sent[0])
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan outcome, 1)
		keep := func() error {
			w.stores[stand].StandIn(&store.StandIn{Home: w.nodes[homes[2]].id, Partition: 0, Record: r, Encoded: sent[0], Sink: mergeSink{0, done}})
			return (<-done).err
		}
		if err := keep(); !errors.Is(err, store.ErrEnding) {
			t.Fatalf("a fenced member: %v", err)
		}
		// One that is new knows nothing of it.
		w.stopNode(stand)
		w.disks[stand].Wipe()
		w.startNode(stand)
		if err := keep(); err != nil {
			t.Fatal(err)
		}
		w.eventually(time.Minute, "dropped", func() error {
			if kept, err := w.stores[stand].StandInHomes(); err != nil || len(kept) > 0 {
				return fmt.Errorf("kept for %v: %v", kept, err)
			}
			return nil
		})
		if w.valueAt(homes[2], "void") {
			t.Error("a void write came home")
		}
	})
}

// A home whose disk is lost learns which writes are void before it takes their place in
// clocks over.
func TestClosingIsLearntByAHomeThatLostItsDisk(t *testing.T) {
	inRealWorld(t, worldOptions{partitions: 1, tune: soonClosing}, func(w *realWorld) {
		w.startAll()
		w.mint(1, store.Put{Key: []byte("old"), Value: []byte("v")}, 0, 2)
		sent := w.crash(1, "old", "left")
		w.bring(0, sent[1])
		w.startNode(1)
		w.eventually(closes, "closed", func() error {
			if w.closedActors() == 0 {
				return errors.New("no")
			}
			return w.holed()
		})
		w.stopNode(2)
		w.disks[2].Wipe()
		w.startNode(2)
		if err := w.stores[2].DeclareMissing("test"); err != nil {
			t.Fatal(err)
		}
		w.eventually(time.Minute, "filled", func() error {
			if !w.stores[2].CountsForRead(0) {
				return errors.New("lossy")
			}
			return w.holed()
		})
		if err := w.send(2, sent[0]); !errors.Is(err, store.ErrEnded) {
			t.Errorf("a void write: %v", err)
		}
		if !w.valueAt(2, "old") {
			t.Error("it has lost a write to a void one")
		}
	})
}

// Where very many actors have come and gone, those that write no longer are closed,
// before a clock has no room for new ones.
func TestClosingKeepsClocksFromFillingUp(t *testing.T) {
	inRealWorld(t, worldOptions{partitions: 1, tune: soonClosing}, func(w *realWorld) {
		w.startAll()
		var all store.DotSet
		for a := range version.Actor(2 * openMax) {
			all = append(all, store.ActorDots{Actor: a + 1, Ranges: []store.Range{{First: 1, Last: 3}}})
		}
		for i := range w.nodes {
			if err := w.stores[i].Incorporate(0, all, w.stores[i].Era()); err != nil {
				t.Fatal(err)
			}
		}
		live := w.mint(1, store.Put{Key: []byte("k"), Value: []byte("v")}, 0, 2)
		r, err := version.Parse(live)
		if err != nil {
			t.Fatal(err)
		}
		w.eventually(10*time.Minute, "few are open", func() error {
			for i := range w.nodes {
				clock := w.stores[i].ClockOf(0)
				ends, _ := w.stores[i].Endings(0)
				if open := len(clock.Actors) - len(ends); open > openMax {
					return fmt.Errorf("node %d: %d are open", i, open)
				}
			}
			return nil
		})
		if actor, err := w.stores[1].Minting(0); err != nil || actor != r.Siblings[0].Actor {
			t.Errorf("an actor in use was closed: %v", err)
		}
	})
}
