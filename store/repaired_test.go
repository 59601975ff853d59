package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
)

// ringOf gives the store a ring with some partitions.
func ringOf(t testing.TB, s *store.Store, partitions int) {
	t.Helper()
	if err := s.Adopt([]byte("ring"), func(ring.Partition) uint64 { return 1 }, partitions, nil); err != nil {
		t.Fatal(err)
	}
}

func mustRepair(t testing.TB, s *store.Store, all ...ring.Partition) {
	t.Helper()
	era := s.Era()
	for _, p := range all {
		if err := s.Repaired(p, era); err != nil {
			t.Fatalf("partition %d: %v", p, err)
		}
		if !s.CountsForRead(p) {
			t.Fatalf("partition %d was repaired and does not count", p)
		}
	}
}

// wantLossy compares what the store vouches for with the partitions, of 4, that
// should be lossy.
func wantLossy(t testing.TB, s *store.Store, lossy ...ring.Partition) {
	t.Helper()
	h := s.Health()
	if all := len(lossy) == 4; h.LossyAll != all || !all && !slices.Equal(h.Lossy, lossy) {
		t.Fatalf("all %v, %d lossy (%.12v), losses %q; want %d lossy", h.LossyAll, len(h.Lossy), h.Lossy[:min(len(h.Lossy), 8)], h.Losses, lossy)
	}
	if (len(h.Losses) > 0) != (len(lossy) > 0) {
		t.Fatalf("%d are lossy, and the losses are %q", lossy, h.Losses)
	}
	for p := range ring.Partition(8) { // four of them do not exist
		if s.CountsForRead(p) == slices.Contains(lossy, p) {
			t.Fatalf("partition %d counts: %v, lossy are %d", p, s.CountsForRead(p), lossy)
		}
	}
}

// Repaired ends a loss one partition after the other, and is neither forgotten
// nor invented by a crash.
func TestRepairedEndsALoss(t *testing.T) {
	for _, end := range []string{"kill", "cut", "close"} {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		restart := func() {
			switch end {
			case "kill":
				d.Kill()
			case "cut":
				d.PowerCut()
			}
			_ = s.Close() // may be of a dead disk
			s = open(t, d.Open(), small())
		}
		ringOf(t, s, 4)
		if err := s.DeclareLoss("test"); err != nil {
			t.Fatal(err)
		}
		wantLossy(t, s, 0, 1, 2, 3)
		restart()
		wantLossy(t, s, 0, 1, 2, 3)
		mustRepair(t, s, 2)
		wantLossy(t, s, 0, 1, 3)
		restart()
		wantLossy(t, s, 0, 1, 3)
		mustRepair(t, s, 0, 2, 3)
		wantLossy(t, s, 1)
		restart()
		wantLossy(t, s, 1)
		mustRepair(t, s, 1)
		wantLossy(t, s)
		restart()
		wantLossy(t, s)
		if !s.Health().MetaLost {
			t.Fatal("that metadata was lost is forgotten")
		}
	}
}

// What was read of the clocks before a loss says nothing about what came after.
func TestRepairedOfAnEarlierEraIsRefused(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	ringOf(t, s, 4)
	if err := s.DeclareLoss("one"); err != nil {
		t.Fatal(err)
	}
	era := s.Era()
	if err := s.DeclareLoss("two"); err != nil {
		t.Fatal(err)
	}
	wantError(t, s.Repaired(1, era), store.ErrEra)
	wantError(t, s.Incorporate(1, store.DotSet{{Actor: 9, Ranges: []store.Range{{First: 1, Last: 2}}}}, era), store.ErrEra)
	wantLossy(t, s, 0, 1, 2, 3)
	if c := s.ClockOf(1); len(c.Actors) > 0 {
		t.Fatalf("it claims %v", c)
	}
	mustRepair(t, s, 0, 1, 2, 3)
	wantLossy(t, s)
	if err := s.Repaired(ring.SlotCount, s.Era()); err == nil {
		t.Fatal("a partition beyond all was repaired")
	}
}

// A damaged partition is lossy again, and the others stay as they are.
func TestRepairedPartitionsCanBeLostAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := tables(t, d, 400)
		ringOf(t, s, 4)
		if err := s.DeclareLoss("test"); err != nil {
			t.Fatal(err)
		}
		mustRepair(t, s, 1, 2)
		mustPut(t, s, 1, "j", "v")
		fd := d.Files(storage.TypeTable)[0]
		good := d.Snapshot()
		d.Zero(fd, d.Size(fd)/2, 500)
		era := s.Era()
		var lost ring.Partition
		for i := range 400 {
			if _, err := tryGet(s, ring.Partition(i%4), fmt.Sprintf("k%04d", i)); err != nil {
				lost = ring.Partition(i % 4)
				break
			}
		}
		reopened(t, s, 1)
		if lost == 0 || lost == 3 {
			t.Fatalf("the damage is in partition %d, want one that was repaired", lost)
		}
		if s.CountsForRead(lost) || !s.CountsForRead(3-lost) || s.Era() == era {
			t.Fatalf("damage of partition %d: %+v", lost, s.Health())
		}
		wantError(t, s.Repaired(lost, era), store.ErrEra)
		s.Close()
		d.Restore(good)
		s = open(t, d.Open(), small())
		mustRepair(t, s, 0, 3)
	})
}

// Damage in a partition that is lossy already is no news, but a repair of it that
// had begun has to begin anew.
func TestRepairedNeedsThatNothingWasLostMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := tables(t, d, 400)
		ringOf(t, s, 4)
		if err := s.DeclareLoss("test"); err != nil {
			t.Fatal(err)
		}
		era := s.Era()
		d.FailRead(disk.Of(storage.TypeTable), 1, syscall.EIO)
		_, err := s.Get(1, []byte("k0001"))
		wantError(t, err, store.ErrCorrupt)
		wantError(t, s.Repaired(1, era), store.ErrEra)
		wantError(t, s.Repaired(1, era), store.ErrEra)
		mustRepair(t, s, 0, 1, 2, 3) // what was begun since then counts
		wantLossy(t, s)
	})
}

// A mark of a loss stays in its file when the loss is over. It must not bring the
// loss back, and a later one must still be noticed.
func TestRepairedLossOfATableDoesNotComeBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := tables(t, d, 400)
		ringOf(t, s, 4)
		for range 3 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			for _, fd := range d.Files(storage.TypeTable) {
				d.Delete(fd)
			}
			s = open(t, d.Open(), small())
			ringOf(t, s, 4) // that was lost too
			wantLossy(t, s, 0, 1, 2, 3)
			mustRepair(t, s, 0, 1, 2, 3)
			for range 3 {
				d.Kill()
				_ = s.Close() // of a dead disk
				s = open(t, d.Open(), small())
				wantLossy(t, s)
			}
			for i := range 400 {
				mustPut(t, s, ring.Partition(i%4), fmt.Sprintf("k%04d", i), strings.Repeat("x", 1000))
			}
		}
	})
}

// A start in place of a lost member declares everything missing, before it holds
// anything. It has lost no vote by that.
func TestRepairedEmptyStoreThatDeclaredItsLoss(t *testing.T) {
	d := disk.New(1)
	s := open(t, d.Open(), small())
	if err := s.DeclareMissing("taking over"); err != nil {
		t.Fatal(err)
	}
	ringOf(t, s, 4)
	wantLossy(t, s, 0, 1, 2, 3)
	home := &elsewhere{actor: 9}
	for i := range 10 {
		mustMerge(t, s, 1, home.put(key(fmt.Sprint(i)), "v"))
	}
	wantKeys(t, s, 10)
	mustRepair(t, s, 0, 1, 2)
	d.Kill()
	_ = s.Close() // of a dead disk
	s = open(t, d.Open(), small())
	wantLossy(t, s, 3)
	eventually(t, "keys are counted", func() bool { return s.Stats().Keys == 10 })
	mustRepair(t, s, 3)
	wantLossy(t, s)
	if s.Health().MetaLost {
		t.Fatal("an empty store has lost metadata")
	}
}

func newestJournal(t testing.TB, d *disk.Disk) storage.FileDesc {
	t.Helper()
	fd, ok := d.Newest(storage.TypeJournal)
	if !ok {
		t.Fatal("no journal")
	}
	return fd
}

// Stores of before knew only that all, or some, partitions are lossy for ever.
func TestRepairedReadsTheOlderForm(t *testing.T) {
	for form, lossy := range map[string][]ring.Partition{
		`{"all":true,"partitions":[2],"sentences":["old"]}`:    {0, 1, 2, 3},
		`{"all":false,"partitions":[1,3],"sentences":["old"]}`: {1, 3},
		`{"all":true,"mended":"AQID"}`:                         {0, 1, 2, 3},
		`{"partitions":[20000]}`:                               {0, 1, 2, 3},
	} {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		ringOf(t, s, 4)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		rewrite(t, d, []byte("m/.losses"), []byte(form))
		rewrite(t, d, []byte("m/x"), nil) // now the first one is in a table
		d.Truncate(newestJournal(t, d), 0)
		s = open(t, d.Open(), small())
		wantLossy(t, s, lossy...)
		if s.Health().MetaLost != (len(lossy) == 4) {
			t.Fatalf("%s: metadata was lost: %v", form, s.Health().MetaLost)
		}
		mustRepair(t, s, lossy...)
		wantLossy(t, s)
	}
}

// Losses and repairs in any order, with a crash in the middle of one now and
// then: what was acknowledged holds, and what was under way is one or the other.
func TestRepairedAndLostSurviveAnyCrash(t *testing.T) {
	for _, seed := range seedsFrom(runs(20, 3000)) {
		bubble(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 9))
			d := disk.New(seed)
			s := open(t, d.Open(), small())
			ringOf(t, s, 4)
			var lossy, unsure [4]bool
			for range 30 {
				slow(d, time.Duration(r.IntN(2))*time.Second)
				done := make(chan error, 1)
				p, all := r.IntN(4), r.IntN(6) == 0
				go func(s *store.Store) {
					if all {
						done <- s.DeclareLoss("test")
					} else {
						done <- s.Repaired(ring.Partition(p), s.Era())
					}
				}(s)
				synctest.Wait()
				cut := r.IntN(4) == 0
				if cut {
					d.PowerCut()
				}
				if r.IntN(4) == 0 || cut {
					_ = s.Close() // may be of a dead disk
					slow(d, 0)
					s = open(t, d.Open(), small())
				}
				acked := <-done == nil
				for q := range lossy {
					if all || q == p {
						unsure[q] = !acked && lossy[q] != all
						if acked {
							lossy[q] = all
						}
					}
				}
				for q := range lossy {
					got := !s.CountsForRead(ring.Partition(q))
					if got != lossy[q] && !unsure[q] {
						t.Fatalf("seed %d: partition %d is lossy: %v, want %v", seed, q, got, lossy[q])
					}
					lossy[q], unsure[q] = got, false
				}
			}
		})
	}
}
