package store_test

import (
	"encoding/binary"
	"hash/crc32"
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

// What was lost of a partition is gone when all of it is: nobody has to repair it.
func TestDropEndsTheLossOfItsPartition(t *testing.T) {
	for _, all := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			d := disk.New(1)
			s := open(t, d.Open(), small())
			if err := adopt(s, 5); err != nil {
				t.Fatal(err)
			}
			mustPut5(t, s, 1, "k")
			mustPut5(t, s, 2, "k")
			lose := []ring.Partition{1, 2}
			for _, p := range lose {
				if err := s.DeclareLossOf(p, "test"); err != nil {
					t.Fatal(err)
				}
			}
			if all {
				if err := s.DeclareMissing("test"); err != nil {
					t.Fatal(err)
				}
			}
			if err := adopt(s, 6, 1); err != nil {
				t.Fatal(err)
			}
			dropped(t, s)
			for range 2 {
				if !s.CountsForRead(1) || s.CountsForRead(2) || s.CountsForRead(3) != !all {
					t.Fatalf("counts: %v %v %v", s.CountsForRead(1), s.CountsForRead(2), s.CountsForRead(3))
				}
				wantTree(t, s, 1)
				d.PowerCut()
				_ = s.Close() // of a dead disk
				s = open(t, d.Open(), small())
			}
		})
	}
}

func mustPut5(t testing.TB, s *store.Store, p ring.Partition, key string) *outcome {
	t.Helper()
	o := start(s, putAt(p, 5, key, "v"))
	if err := o.wait(); err != nil {
		t.Fatal(err)
	}
	return o
}

// What this node has promised about the ends of actors outlives a drop, also towards
// what it held and holds no longer.
func TestDropKeepsThePromisesAboutTheEndsOfActors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		held, late, void := nth(9, 1, "a"), nth(9, 2, "b"), nth(8, 1, "c")
		mustMerge(t, s, 1, held)
		mustMerge(t, s, 1, nth(9, 4, "d"))
		mustEnd(t, s, store.Ending{Actor: 9}, closedAs(8, store.Range{First: 2, Last: 2}))
		if err := adopt(s, 5, 1); err != nil {
			t.Fatal(err)
		}
		dropped(t, s)
		for range 2 {
			wantError(t, sendRecord(s, 1, late), store.ErrEnding)
			wantError(t, sendRecord(s, 1, void), store.ErrEnded)
			wantError(t, startStandIn(s, 3, 1, encoded(late)).wait(), store.ErrEnding)
			d.PowerCut()
			_ = s.Close() // of a dead disk
			s = open(t, d.Open(), small())
		}
		mustMerge(t, s, 1, held)
		mustMerge(t, s, 1, nth(9, 4, "d"))
		wantClaims(t, s, 1, true, dot(9, 1), dot(9, 4))
	})
}

// An actor can be fenced while its partition is dropped: the promise holds.
func TestDropDoesNotKeepAnActorFromItsEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		mustMerge(t, s, 1, nth(9, 1, "a"))
		slow(d, 100*time.Millisecond)
		if err := adopt(s, 5, 1); err != nil {
			t.Fatal(err)
		}
		mustEnd(t, s, closedAs(9, store.Range{First: 2, Last: 2}))
		if len(s.Dropping()) == 0 {
			t.Fatal("the drop is over already")
		}
		dropped(t, s)
		slow(d, 0)
		wantError(t, sendRecord(s, 1, nth(9, 1, "a")), store.ErrEnded)
		if c := s.ClockOf(1); len(c.Actors) > 0 {
			t.Fatalf("the clock of a dropped partition claims %v", c)
		}
		mustMerge(t, s, 1, nth(9, 2, "b"))
	})
}

// What an opening reads of a partition that is dropped meanwhile brings nothing back.
func TestScanOfAnOpeningBringsNothingDroppedBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := tables(t, d, 400)
		d.Kill()
		_ = s.Close() // of a dead disk
		// The scan reads a snapshot of before, and does so in a second.
		s = openThenFail(t, d, syscall.EMFILE)
		time.Sleep(500 * time.Millisecond)
		d.Heal()
		if err := adopt(s, 5, 2); err != nil {
			t.Fatal(err)
		}
		dropped(t, s)
		o := mustPut5(t, s, 2, "k0002")
		if s.TreesTrusted() {
			t.Fatal("the scan was over before the drop")
		}
		eventually(t, "all is counted", func() bool { return s.Stats().Keys == 301 })
		for p := range ring.Partition(4) {
			wantTree(t, s, p)
		}
		if c := s.ClockOf(2); len(c.Actors) != 1 || !c.Has(o.dot) {
			t.Fatalf("the clock of a dropped partition has %d actors", len(c.Actors))
		}
	})
}

// nameOf is what the store keeps of a drop, by a batch and a generation of clocks.
func nameOf(generation, batch uint64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 4), generation)
	b = binary.BigEndian.AppendUint64(b, batch)
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// The name of a drop that is on disk although metadata was lost since may be an old
// one: what it deletes was perhaps acknowledged later, and is named as a loss.
func TestFault34_OldNameOfADropIsALoss(t *testing.T) {
	for name, value := range map[string][]byte{"old": nameOf(77, 1), "damaged": []byte("not a name")} {
		bubble(t, func(t *testing.T) {
			d := disk.New(1)
			s := open(t, d.Open(), small())
			mustPut(t, s, 1, "k", "v")
			mustPut(t, s, 2, "k", "v")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			replaceQuietly(t, d, []byte("m/.dropping/\x00\x01"), value)
			s = open(t, d.Open(), small())
			dropped(t, s)
			for range 2 {
				if h := s.Health(); s.CountsForRead(1) || !s.CountsForRead(2) || len(h.Losses) != 1 || !strings.Contains(h.Losses[0], "partition 1") {
					t.Fatalf("%s: %+v", name, h)
				}
				wantValues(t, get(t, s, 1, "k"))
				wantValues(t, get(t, s, 2, "k"), "v")
				d.PowerCut()
				_ = s.Close() // of a dead disk
				s = open(t, d.Open(), small())
			}
			mustRepair(t, s, 1)
			mustPut(t, s, 1, "k", "w")
		})
	}
}

// A name that is as it should be is no loss: see TestCrashAtEveryStepOfADrop. Here it
// is the name alone that is left of a drop.
func TestNameOfADropAloneIsEnough(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		old := mustPut(t, s, 1, "k", "v")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		replaceQuietly(t, d, []byte("m/.dropping/\x00\x01"), nameOf(0, 1))
		s = open(t, d.Open(), small())
		dropped(t, s)
		wantGone(t, s, 1, []string{"k"}, []version.Dot{old.dot})
		if h := s.Health(); len(h.Losses) > 0 || !s.CountsForRead(1) {
			t.Fatalf("health: %+v", h)
		}
	})
}

// Damaged tables stand in the way of a drop until they are mended; then it goes on, and
// takes nothing else with it.
func TestFault33_DropGoesOnThroughDamagedTables(t *testing.T) {
	for seed := range uint64(runs(6, 200)) {
		bubble(t, func(t *testing.T) {
			h := newRotten(t, seed, rottenKeys/4)
			for range 3 {
				h.flip()
			}
			err := h.Adopt([]byte("ring"), func(ring.Partition) uint64 { return 1 }, rottenPartitions, []ring.Partition{3, 4, 5})
			if err != nil {
				// A compaction met the damage first.
				serving(t, h.Store)
				err = h.Adopt([]byte("ring"), func(ring.Partition) uint64 { return 1 }, rottenPartitions, []ring.Partition{3, 4, 5})
			}
			if err != nil {
				t.Fatal(err)
			}
			dropped(t, h.Store)
			h.calm()
			for key, o := range h.acked {
				p := partitionOfKey(key)
				r, err := tryGet(h.Store, p, key)
				gone := p >= 3 && p <= 5
				switch {
				case err != nil:
					t.Fatalf("key %s: %v", key, err)
				case gone && len(r.Siblings) > 0 && h.CountsForRead(p):
					t.Fatalf("key %s was dropped, and is back", key)
				case !gone && !r.Seen.Covers(o.dot) && h.CountsForRead(p):
					t.Fatalf("key %s is gone, and its partition counts", key)
				}
			}
		})
	}
}

// A disk that gives nothing for a while holds a drop up, and no more.
func TestDropWaitsForADiskThatFailsToRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := tables(t, d, 400)
		d.FailRead(disk.Of(storage.TypeTable), disk.Forever, syscall.EMFILE)
		if err := adopt(s, 5, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if len(s.Dropping()) != 1 {
			t.Fatal("dropped without being read")
		}
		_, err := s.Get(1, []byte("k0001"))
		wantError(t, err, store.ErrDropping)
		d.Heal()
		dropped(t, s)
		wantGone(t, s, 1, []string{"k0001"}, nil)
		wantValues(t, get(t, s, 2, "k0002"), strings.Repeat("x", 1000))
	})
}
