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

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// tables puts enough that goleveldb has tables, and forgets it in the caches by
// opening anew.
func tables(t *testing.T, d *disk.Disk, n int) *store.Store {
	t.Helper()
	s := open(t, d.Open(), small())
	for i := range n {
		mustPut(t, s, ring.Partition(i%4), fmt.Sprintf("k%04d", i), strings.Repeat("x", 1000))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(d.Files(storage.TypeTable)) == 0 {
		t.Fatal("no tables")
	}
	return open(t, d.Open(), small())
}

func TestFault33_DamagedBlockMakesItsPartitionLossy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := tables(t, d, 400)
		old := mustPut(t, s, 0, "other", "v")
		time.Sleep(time.Minute) // clocks are on disk
		fd := d.Files(storage.TypeTable)[0]
		d.Zero(fd, d.Size(fd)/2, 500) // not the first block, which opening reads
		var lost []string
		for i := range 400 {
			key := fmt.Sprintf("k%04d", i)
			r, err := tryGet(s, ring.Partition(i%4), key)
			if err != nil {
				wantError(t, err, store.ErrCorrupt)
				lost = append(lost, key)
			} else if len(r.Siblings) != 1 {
				t.Fatalf("%s reads as absent", key)
			}
		}
		if len(lost) == 0 {
			t.Fatal("the damage does not show")
		}
		synctest.Wait()
		h := s.Health()
		if h.LossyAll || len(h.Lossy) == 0 || len(h.Losses) == 0 || h.Failed != nil {
			t.Fatalf("health: %+v", h)
		}
		var i int
		if _, err := fmt.Sscanf(lost[0], "k%d", &i); err != nil {
			t.Fatal(err)
		}
		p := ring.Partition(i % 4)
		if s.CountsForRead(p) || len(s.ClockOf(p).Actors) > 0 {
			t.Fatal("a lossy partition counts, or claims what it may have lost")
		}
		// What cannot be read cannot be changed either.
		wantError(t, start(s, blind(p, lost[0], "w")).wait(), store.ErrCorrupt)
		wantError(t, startMerge(s, p, recordFrom(9, lost[0], "w")).wait(), store.ErrCorrupt)
		if err := s.Scan(p, nil, 0, func(_, _ []byte) bool { return true }); !errors.Is(err, store.ErrCorrupt) {
			t.Fatalf("scan over damage: %v", err)
		}
		// Others go on, with a new actor.
		if o := mustPut(t, s, p, "other", "w"); o.dot.Actor == old.dot.Actor {
			t.Fatal("an actor outlived a loss")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, d.Open(), small())
		defer s.Close()
		if s.CountsForRead(p) || len(s.Health().Losses) == 0 {
			t.Fatalf("the loss was forgotten: %+v", s.Health())
		}
	})
}

func TestFault33_CompactionOverDamageDoesNotStopTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := tables(t, d, 400)
		defer func() { s.Close() }()
		for _, fd := range d.Files(storage.TypeTable) {
			d.Zero(fd, d.Size(fd)/2, 300)
		}
		acked := map[string]*outcome{}
		for i := range 4000 {
			key := fmt.Sprintf("n%04d", i%900)
			o := start(s, blind(ring.Partition(i%4), key, strings.Repeat("y", 1000)))
			if o.wait() == nil {
				acked[fmt.Sprint(i%4, key)] = o
			} else {
				time.Sleep(time.Minute)
				serving(t, s)
			}
		}
		h := s.Health()
		if s.Stats().Reopenings == 0 || !h.LossyAll {
			t.Fatalf("%d reopenings, health %+v", s.Stats().Reopenings, h)
		}
		if n := s.Stats().Reopenings; n > 3 {
			t.Fatalf("reopened %d times: the damage stays in the way", n)
		}
		for i := range 3600 {
			key := fmt.Sprintf("n%04d", i%900)
			o := acked[fmt.Sprint(i%4, key)]
			if o == nil {
				continue
			}
			if r := get(t, s, ring.Partition(i%4), key); !r.Seen.Covers(o.dot) {
				t.Fatalf("lost %s", key)
			}
		}
		d.PowerCut()
		s.Close()
		s = open(t, d.Open(), small())
		if h := s.Health(); !h.LossyAll {
			t.Fatalf("the loss was forgotten: %+v", h)
		}
	})
}

func TestFault37_MisdirectedReadIsNoticed(t *testing.T) {
	d := disk.New(1)
	s := open(t, d.Open(), small())
	mustPut(t, s, 1, "a", "1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Another key's record, whole, where this key's should be.
	r := version.Record{Key: []byte("b")}
	r = r.Put(nil, version.NewSibling(version.Dot{Actor: 5, Seq: 1}, 1, 0, []byte("x")))
	rewrite(t, d, []byte("d/\x00\x01a"), r.Append(nil))
	s = open(t, d.Open(), small())
	defer s.Close()
	_, err := s.Get(1, []byte("a"))
	wantError(t, err, store.ErrCorrupt)
	if s.CountsForRead(1) {
		t.Fatal("the partition counts")
	}
}

func TestReadErrorRefusesTheWrite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := tables(t, d, 400)
		defer s.Close()
		d.FailRead(disk.Of(storage.TypeTable), disk.Forever, syscall.EIO)
		o := start(s, blind(1, "k0001", "w"))
		wantError(t, o.wait(), store.ErrCorrupt)
		wantError(t, o.err, syscall.EIO)
		if o.minted || s.CountsForRead(1) {
			t.Fatal("a dot was minted over a read error, or the partition counts")
		}
		d.Heal()
		wantValues(t, get(t, s, 1, "k0001"), strings.Repeat("x", 1000))
		mustPut(t, s, 1, "k0001", "w")
	})
}

func TestProcessWithoutFilesIsNotADamagedDisk(t *testing.T) {
	d := disk.New(1)
	s := tables(t, d, 400)
	defer s.Close()
	d.FailRead(disk.Of(storage.TypeTable), disk.Forever, syscall.EMFILE)
	_, err := s.Get(1, []byte("k0001"))
	wantError(t, err, store.ErrFailed)
	d.Heal()
	if !s.CountsForRead(1) {
		t.Fatal("lossy for want of a file descriptor")
	}
}
