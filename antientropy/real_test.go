package antientropy

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// realDisk is a real store on a simulated disk, opened anew at every start of its
// node.
type realDisk struct {
	*store.Store
	t       *testing.T
	platter *disk.Disk
	rec     atomic.Pointer[ring.Record] // adopted, and its epoch that of puts
	chance  *rand.Rand

	copied    disk.Snapshot
	hasBackup bool
	restored  bool // at the latest start
}

func (d *realDisk) open() {
	s, err := store.Open(d.platter.Open(), store.Options{
		RecordMax: 4 << 20, CacheBytes: 1 << 20, Rand: d.chance.Uint64, LogBlocksMax: 1, ClockPersistEvery: time.Second, HandOver: true,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	d.Store = s
	d.adopt(d.rec.Load(), nil)
}

// adopt makes a ring record durable.
func (d *realDisk) adopt(rec *ring.Record, drops []ring.Partition) {
	err := d.Adopt(rec.Encode(), func(p ring.Partition) uint64 { return rec.Since[p] }, rec.Partitions, drops)
	if err != nil {
		d.t.Error(err)
		return
	}
	d.rec.Store(rec)
}

func (d *realDisk) close() {
	if d.Store != nil {
		_ = d.Store.Close() // after a power cut it says so
	}
}

// backup and restore copy the whole disk, whose store is closed.
func (d *realDisk) backup() {
	d.copied, d.hasBackup, d.restored = d.platter.Snapshot(), true, false
}

func (d *realDisk) restore() {
	d.platter.Restore(d.copied)
	d.restored = true
}

// declareLoss is what other members tell a node whose disk has gone back in time.
func (d *realDisk) declareLoss() {
	if err := d.DeclareLoss("restored from a backup"); err != nil {
		d.t.Fatal(err)
	}
	d.restored = false
}

// putSink waits for a put.
type putSink struct {
	record []byte
	done   chan error
}

// Minted implements store.PutSink.
func (s *putSink) Minted(record []byte, _ version.Dot, _ version.Context, _ int) { s.record = record }

// Committed implements store.PutSink.
func (s *putSink) Committed(err error) { s.done <- err }

// put mints a write; nil if it was refused.
func (d *realDisk) put(p ring.Partition, key, value string, blind, tombstone bool, stamp version.Stamp) []byte {
	put := &store.Put{Partition: p, Epoch: d.rec.Load().Epoch, Key: []byte(key), Tombstone: tombstone, Stamp: stamp, Blind: blind}
	if !tombstone {
		put.Value, put.ValueDigest = []byte(value), version.DigestOf([]byte(value))
	}
	sink := &putSink{done: make(chan error, 1)}
	put.Sink = sink
	d.Put(put)
	err := <-sink.done
	if errors.Is(err, store.ErrTooLarge) {
		return nil
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return sink.record
}

// A home whose disk went back to a backup begins a life that has the number of an
// earlier one. What it claimed in that one is not what it holds now: who had heard
// of it must not claim it, or would have it dropped where it still is.
func TestFault35_RestoredHomeIsNotTakenForItsEarlierLife(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1, real: true}, func(w *world) {
		w.halt(2)
		w.nodes[2].disk.backup()
		w.start(2)
		time.Sleep(10 * time.Second)
		era := w.nodes[2].disk.Era()
		w.write(2, "k", "v", 1) // acknowledged by two of three
		w.cut(0, 1)
		w.cut(1, 0)
		time.Sleep(4 * time.Second) // node 0 has heard of it
		w.halt(2)
		w.nodes[2].disk.restore()
		w.start(2)
		if w.nodes[2].disk.Era() != era {
			w.t.Fatal("the store tells its lives apart: this test tests nothing")
		}
		w.cut(2, 1)
		w.cut(1, 2)
		time.Sleep(20 * time.Second)
		w.nodes[2].disk.declareLoss()
		w.net.Heal()
		w.eventually(10*time.Minute, "equal", func() error {
			if err := w.settled(); err != nil {
				return err
			}
			if len(w.nodes[0].dump()) != 1 {
				return errors.New("the write is gone")
			}
			return nil
		})
	})
}
