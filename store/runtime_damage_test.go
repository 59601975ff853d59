package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
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
		s := open(t, d.Open(), small())
		acked := map[string]*outcome{}
		for i := range 400 {
			key := fmt.Sprintf("k%04d", i)
			acked[key] = mustPut(t, s, ring.Partition(i%4), key, strings.Repeat("x", 1000))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, d.Open(), small())
		old := mustPut(t, s, 0, "other", "v")
		fd := d.Files(storage.TypeTable)[0]
		d.Zero(fd, d.Size(fd)/2, 500) // not the first block, which opening reads
		damaged := 0
		for i := range 400 {
			if _, err := tryGet(s, ring.Partition(i%4), fmt.Sprintf("k%04d", i)); err != nil {
				damaged++
				if !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrFailed) {
					t.Fatal(err)
				}
			}
		}
		if damaged == 0 {
			t.Fatal("the damage does not show")
		}
		reopened(t, s, 1)
		h := s.Health()
		if h.LossyAll || len(h.Lossy) == 0 || len(h.Losses) == 0 || s.Stats().Rotten != 1 {
			t.Fatalf("health: %+v, %d rotten", h, s.Stats().Rotten)
		}
		// The block is out of the way; what it held is not claimed.
		lost := 0
		for i := range 400 {
			key, p := fmt.Sprintf("k%04d", i), ring.Partition(i%4)
			if r := get(t, s, p, key); r.Seen.Covers(acked[key].dot) {
				continue
			}
			lost++
			if c := s.ClockOf(p); s.CountsForRead(p) || c.Has(acked[key].dot) {
				t.Fatalf("%s is lost: partition %d counts, or claims it", key, p)
			}
		}
		if lost == 0 || lost > 20 {
			t.Fatalf("%d of 400 records are lost with one block", lost)
		}
		for p := range ring.Partition(4) {
			if err := s.Scan(p, nil, 0, func(_, _ []byte) bool { return true }); err != nil {
				t.Fatalf("scan of partition %d: %v", p, err)
			}
		}
		// It takes writes, with a new actor.
		if o := mustPut(t, s, 0, "other", "w"); o.dot.Actor == old.dot.Actor {
			t.Fatal("an actor outlived a loss")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, d.Open(), small())
		if s.CountsForRead(h.Lossy[0]) || len(s.Health().Losses) == 0 {
			t.Fatalf("the loss was forgotten: %+v", s.Health())
		}
	})
}

// reopened waits until a store has opened its files anew so many times, and
// serves.
func reopened(t *testing.T, s *store.Store, times int64) {
	t.Helper()
	until(t, s, "reopened", func(h store.Health) bool { return h.Failed == nil && s.Stats().Reopenings >= times })
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
		if s.Stats().Reopenings == 0 || h.LossyAll || len(h.Lossy) == 0 {
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
		if again := s.Health(); !slices.Equal(again.Lossy, h.Lossy) {
			t.Fatalf("the loss was forgotten: %+v, now %+v", h, again)
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
