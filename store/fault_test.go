package store_test

import (
	"errors"
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

// serving waits until a store takes writes, in a bubble.
func serving(t *testing.T, s *store.Store) {
	t.Helper()
	until(t, s, "serving again", func(h store.Health) bool { return h.Failed == nil })
}

func TestFault30_DiskFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		defer s.Close()
		kept := mustPut(t, s, 1, "kept", "v")
		d.SetCapacity(d.Bytes() + 20_000)
		var failed *outcome
		acked := map[string]*outcome{}
		for i := range 100 {
			key := fmt.Sprintf("k%d", i)
			o := start(s, blind(1, key, strings.Repeat("x", 1000)))
			if o.wait() != nil {
				failed = o
				break
			}
			acked[key] = o
		}
		if failed == nil {
			t.Fatal("nothing failed on a full disk")
		}
		wantError(t, failed.err, store.ErrUncertain)
		wantError(t, failed.err, syscall.ENOSPC)
		synctest.Wait()
		if h := s.Health(); !errors.Is(h.Failed, syscall.ENOSPC) || !h.ReadOnly {
			t.Fatalf("health on a full disk: %+v", h)
		}
		wantError(t, start(s, blind(1, "later", "v")).wait(), store.ErrFailed)
		wantError(t, s.SetMeta("x", nil), store.ErrFailed)
		// Reads go on, from the disk too, and count.
		time.Sleep(time.Minute)
		wantValues(t, get(t, s, 1, "kept"), "v")
		if !s.CountsForRead(1) {
			t.Fatal("reads do not count though all is there")
		}
		d.SetCapacity(0)
		serving(t, s)
		o := mustPut(t, s, 1, "later", "w")
		if o.dot.Actor == kept.dot.Actor {
			t.Fatal("an actor outlived a failure")
		}
		for key, o := range acked {
			if r := get(t, s, 1, key); !r.Seen.Covers(o.dot) {
				t.Fatalf("lost %s", key)
			}
		}
		if h := s.Health(); len(h.Losses) > 0 || s.Stats().Reopenings != 1 {
			t.Fatalf("after a full disk: %+v, %d reopenings", h, s.Stats().Reopenings)
		}
	})
}

func TestFault31_FsyncErrorOnce(t *testing.T) {
	for _, persist := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			d := disk.New(1)
			s := open(t, d.Open(), small())
			before := mustPut(t, s, 1, "a", "1")
			d.FailSync(disk.Of(storage.TypeJournal), 1, persist, syscall.EIO)
			wantError(t, start(s, blind(1, "a", "2")).wait(), store.ErrUncertain)
			if s.CountsForRead(1) {
				t.Fatal("reads count on a disk that failed")
			}
			serving(t, s)
			// What goleveldb alone would acknowledge and then lose.
			after := mustPut(t, s, 1, "b", "3")
			d.PowerCut()
			s.Close()
			s = open(t, d.Open(), small())
			defer s.Close()
			if h := s.Health(); len(h.Losses) > 0 {
				t.Fatalf("losses: %+v", h)
			}
			if r := get(t, s, 1, "a"); !r.Seen.Covers(before.dot) || len(r.Siblings) != 1 {
				t.Fatalf("a: %+v", r)
			}
			wantValues(t, get(t, s, 1, "b"), "3")
			if after.dot.Actor == before.dot.Actor {
				t.Fatal("an actor outlived a failure")
			}
		})
	}
}

func TestFault31_BothBatchesOfAFailureAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		defer s.Close()
		mustPut(t, s, 1, "a", "1")
		slow(d, time.Second)
		d.FailSync(disk.Of(storage.TypeJournal), 1, false, syscall.EIO)
		first := start(s, blind(1, "a", "2"))
		synctest.Wait()
		second := start(s, blind(1, "a", "3"))
		merge := startMerge(s, 1, recordFrom(9, "m", "x"))
		synctest.Wait()
		if !first.minted || !second.minted || first.isDone() || second.isDone() {
			t.Fatal("the puts are not in two batches")
		}
		wantError(t, first.wait(), store.ErrUncertain)
		// Its record is with the other homes.
		wantError(t, second.wait(), store.ErrUncertain)
		wantError(t, merge.wait(), store.ErrFailed)
		slow(d, 0)
		serving(t, s)
		if r := get(t, s, 1, "a"); r.Seen.Covers(second.dot) {
			t.Fatal("a batch was written behind a failed one")
		}
		if o := mustPut(t, s, 1, "a", "4"); o.dot.Actor == first.dot.Actor {
			t.Fatal("an actor outlived a failure")
		}
	})
}

func TestFault31_ManifestSyncError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		defer s.Close()
		d.FailSync(disk.Of(storage.TypeManifest), 1, false, syscall.EIO)
		acked := map[string]*outcome{}
		for i := range 400 {
			key := fmt.Sprintf("k%d", i)
			if o := start(s, blind(1, key, strings.Repeat("x", 1000))); o.wait() == nil {
				acked[key] = o
			} else if !errors.Is(o.err, store.ErrUncertain) && !errors.Is(o.err, store.ErrFailed) {
				t.Fatal(o.err)
			} else {
				serving(t, s)
			}
		}
		time.Sleep(time.Minute)
		serving(t, s)
		if s.Stats().Reopenings != 1 || len(acked) < 390 {
			t.Fatalf("%d reopenings, %d acknowledged", s.Stats().Reopenings, len(acked))
		}
		for key, o := range acked {
			if r := get(t, s, 1, key); !r.Seen.Covers(o.dot) {
				t.Fatalf("lost %s", key)
			}
		}
	})
}

func TestFault31_DiskThatStaysBroken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		mustPut(t, s, 1, "a", "1")
		d.FailSync(disk.Every, disk.Forever, false, syscall.EIO)
		wantError(t, start(s, blind(1, "a", "2")).wait(), store.ErrUncertain)
		time.Sleep(time.Hour)
		if h := s.Health(); h.Failed == nil || h.ReadOnly {
			t.Fatalf("health: %+v", h)
		}
		_, err := s.Get(1, []byte("a"))
		wantError(t, err, store.ErrFailed)
		if err := s.Close(); err == nil {
			t.Fatal("closed a broken store without an error")
		}
		d.Heal()
		s = open(t, d.Open(), small())
		defer s.Close()
		if r := get(t, s, 1, "a"); len(r.Siblings) != 1 {
			t.Fatalf("a: %+v", r)
		}
	})
}

func TestFault32_SlowSyncBoundsTheQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		defer s.Close()
		mustPut(t, s, 1, "a", "1")
		slow(d, 5*time.Second)
		var all []*outcome
		overloaded := 0
		for i := range 20_000 {
			all = append(all, start(s, blind(1, "a", fmt.Sprint(i))))
			if o := all[i]; o.isDone() && errors.Is(o.err, store.ErrOverloaded) {
				overloaded++
			}
		}
		if overloaded == 0 || overloaded > 4000 {
			t.Fatalf("%d of 20000 were refused at once", overloaded)
		}
		for i, o := range all {
			if err := o.wait(); err != nil && !errors.Is(err, store.ErrOverloaded) {
				t.Fatalf("put %d: %v", i, err)
			}
		}
		slow(d, 0)
		mustPut(t, s, 1, "a", "2")

		// Bytes are bounded too.
		slow(d, 5*time.Second)
		big := strings.Repeat("x", 60_000)
		all = all[:0]
		for range 2000 {
			all = append(all, start(s, blind(1, "a", big)))
		}
		overloaded = 0
		for _, o := range all {
			if errors.Is(o.wait(), store.ErrOverloaded) {
				overloaded++
			}
		}
		if overloaded < 500 {
			t.Fatalf("%d of 2000 puts of 60 kB were refused", overloaded)
		}
	})
}

func TestFault35_EmptiedDirectoryAndOldBackupShow(t *testing.T) {
	d := disk.New(1)
	s := open(t, d.Open(), small())
	mustPut(t, s, 1, "a", "1")
	backup := d.Snapshot()
	for range 3 {
		mustPut(t, s, 1, "a", "2")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, d.Open(), small())
	}
	newest := s.Boot()
	s.Close()
	d.Restore(backup)
	s = open(t, d.Open(), small())
	if s.Boot() >= newest {
		t.Fatalf("boot %d after %d: the backup does not show", s.Boot(), newest)
	}
	s.Close()
	// The database is gone, the marks are there.
	for _, fd := range d.Files(storage.TypeJournal | storage.TypeManifest | storage.TypeTable) {
		d.Delete(fd)
	}
	s = open(t, d.Open(), small())
	if h := s.Health(); !h.LossyAll || s.CountsForRead(1) {
		t.Fatalf("an emptied database does not show: %+v", h)
	}
	s.Close()
	// All is gone: a new store, which only the ring knows to be wrong.
	d.Wipe()
	s = open(t, d.Open(), small())
	defer s.Close()
	if h := s.Health(); h.LossyAll || s.Boot() != 1 {
		t.Fatalf("a new store: %+v, boot %d", h, s.Boot())
	}
}

func TestFault38_ReadOnlyRemount(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		defer s.Close()
		mustPut(t, s, 1, "a", "1")
		d.ReadOnly(true)
		wantError(t, start(s, blind(1, "a", "2")).wait(), store.ErrUncertain)
		time.Sleep(time.Minute)
		if h := s.Health(); !errors.Is(h.Failed, syscall.EROFS) || !h.ReadOnly {
			t.Fatalf("health: %+v", h)
		}
		wantValues(t, get(t, s, 1, "a"), "1")
		d.ReadOnly(false)
		serving(t, s)
		mustPut(t, s, 1, "a", "3")
	})
}

func TestFault39_SecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	first, err := storage.OpenFile(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, first, small())
	if _, err := storage.OpenFile(dir, false); err == nil {
		t.Fatal("the directory was opened twice")
	}
	if _, err := store.Open(first, small()); !errors.Is(err, storage.ErrLocked) {
		t.Fatalf("second store on a disk: %v", err)
	}
	mustPut(t, s, 1, "a", "1")
	if err := errors.Join(s.Close(), first.Close()); err != nil {
		t.Fatal(err)
	}
	again, err := storage.OpenFile(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	s = open(t, again, small())
	wantValues(t, get(t, s, 1, "a"), "1")
	if h := s.Health(); len(h.Losses) > 0 {
		t.Fatalf("losses on a real disk: %+v", h)
	}
	if err := errors.Join(s.Close(), again.Close()); err != nil {
		t.Fatal(err)
	}
}
