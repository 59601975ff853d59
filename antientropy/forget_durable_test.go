package antientropy

import (
	"errors"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// lazyClock is a store that cannot put its clock on disk.
type lazyClock struct{ Store }

var errLazy = errors.New("the clock is not on disk")

func (lazyClock) Incorporate(ring.Partition, store.DotSet, uint64) error { return errLazy }

// Others purge because of what a home confirms: a crash must not leave it with a
// clock that claims less.
func TestWhatIsConfirmedIsOnDiskFirst(t *testing.T) {
	inWorld(t, worldOptions{tune: soonForgetting}, func(w *world) {
		w.write(0, "k", "v")
		w.remove(0, "k")
		w.quiet()
		r := w.nodes[0].repair
		asked := []deadKey{{Key: []byte("k"), Leaf: version.Digest{}, Seen: nil}}
		if _, err := r.confirmHere(w.partitionOf("k"), asked); err != nil {
			t.Fatal(err)
		}
		cfg := r.cfg
		cfg.Store = lazyClock{r.cfg.Store}
		if _, err := New(cfg).confirmHere(w.partitionOf("k"), asked); !errors.Is(err, errLazy) {
			t.Fatalf("confirmed with %v", err)
		}
	})
}

// laggingClock is a store whose clock on disk is that of the latest Incorporate, behind
// which something else comes at once.
type laggingClock struct {
	Store
	onDisk store.Clock
	behind func()
}

func (l *laggingClock) Incorporate(p ring.Partition, dots store.DotSet, era uint64) error {
	err := l.Store.Incorporate(p, dots, era)
	l.onDisk = l.Store.ClockOf(p)
	l.behind()
	return err
}

// A write that fills a hole of the clock just when a home is asked is in memory, and not
// yet on disk: who purged by it would leave the late packets of that write to a home that
// has crashed since, and does not know it.
func TestWhatComesAMomentAfterTheClockWasWrittenIsNotConfirmed(t *testing.T) {
	inWorld(t, worldOptions{stopped: true}, func(w *world) {
		p := w.partitionOf("k")
		value := w.write(1, "k", "v")
		dead := w.remove(1, "k", 0)
		w.start(0)
		time.Sleep(time.Minute)
		record, err := version.Parse(dead)
		if err != nil {
			t.Fatal(err)
		}
		disk := &laggingClock{Store: w.nodes[0].store, behind: func() { w.deliver(value, 0) }}
		cfg := w.nodes[0].repair.cfg
		cfg.Store = disk
		r := New(cfg)
		for i, want := range []deadWord{deadUnstable, deadConfirmed} {
			answers, err := r.confirmHere(p, []deadKey{{[]byte("k"), version.LeafOf(dead), record.Seen}})
			if err != nil || answers[0].Word != want || want == deadConfirmed && !disk.onDisk.Covers(record.Seen) {
				t.Fatalf("question %d: %+v, %v, and the disk claims %+v", i, answers, err, disk.onDisk)
			}
		}
	})
}
