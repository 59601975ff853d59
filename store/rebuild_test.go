package store_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
)

// A rebuilt database looks whole to the next start. That it is not must be
// durable before it is rebuilt.
func TestRebuildIsRememberedThroughACrash(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := tables(t, d, 400)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		d.Delete(d.Files(storage.TypeTable)[0])
		// Opening gets as far as its own first batch.
		d.FailWrite(disk.Of(storage.TypeJournal), disk.Forever, syscall.EIO)
		if s, err := store.Open(d.Open(), small()); err == nil {
			s.Close()
			t.Fatal("opened though its first batch cannot be written")
		}
		d.Kill()
		d.Heal()
		s = open(t, d.Open(), small())
		if h := s.Health(); !h.LossyAll {
			t.Fatalf("the loss was forgotten: %+v", h)
		}
	})
}

// A failure in the background stops the store before anything is written on top
// of it.
func TestFault31_ManifestErrorStopsAnIdleStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		d.FailSync(disk.Of(storage.TypeManifest), 1, false, syscall.EIO)
		// Enough for one table, and no more: but goleveldb now and then forgets
		// to begin a flush, until the next one is due.
		acked := 0
		for acked < 1000 && d.Counts().Faults == 0 && start(s, blind(1, fmt.Sprint(acked), strings.Repeat("x", 900))).wait() == nil {
			acked++
			synctest.Wait()
		}
		time.Sleep(900 * time.Millisecond) // goleveldb tries again after a second
		if n := s.Stats().Reopenings; n != 1 {
			t.Fatalf("%d reopenings, want 1", n)
		}
		for i := range acked {
			wantValues(t, get(t, s, 1, fmt.Sprint(i)), strings.Repeat("x", 900))
		}
	})
}

// After a loss nothing may claim the dots that were lost, whatever clock is
// still on disk: other homes would never send them again.
func TestClockOnDiskIsVoidAfterALoss(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		dots := map[string]*outcome{}
		for i := range 400 {
			key := fmt.Sprint(i)
			dots[key] = mustPut(t, s, 1, key, strings.Repeat("x", 1000))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		d.Delete(d.Files(storage.TypeTable)[0])
		s = open(t, d.Open(), small())
		lost := 0
		for range 2 {
			c := s.ClockOf(1)
			for key, o := range dots {
				if r := get(t, s, 1, key); len(r.Siblings) == 0 {
					lost++
					if c.Has(o.dot) {
						t.Fatalf("%v is lost and claimed", o.dot)
					}
				}
			}
			d.Kill()
			_ = s.Close() // of a dead disk
			s = open(t, d.Open(), small())
		}
		if lost == 0 {
			t.Fatal("nothing was lost")
		}
	})
}

// A table that cannot be read at all is in the way of every partition. That is
// said once, and not for each of them.
func TestUnreadableTableIsSaidShortly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := tables(t, d, 400)
		d.Kill()
		_ = s.Close() // of a dead disk: the next start counts
		for _, fd := range d.Files(storage.TypeTable) {
			d.Zero(fd, d.Size(fd)-48, 48)
		}
		s = open(t, d.Open(), small())
		synctest.Wait()
		before := d.Counts().Syncs
		time.Sleep(time.Minute)
		h := s.Health()
		if !h.LossyAll || len(h.Lossy) > 64 || len(h.Losses) > 64 {
			t.Fatalf("%d partitions, %d sentences, all %v", len(h.Lossy), len(h.Losses), h.LossyAll)
		}
		if n := d.Counts().Syncs; n > before+100 || d.Bytes() > 4<<20 {
			t.Fatalf("%d syncs, %d bytes for one damage", n-before, d.Bytes())
		}
	})
}
