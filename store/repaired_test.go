package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// ringOf gives the store a ring with some partitions.
func ringOf(t testing.TB, s *store.Store, partitions int) {
	t.Helper()
	if err := s.Adopt([]byte("ring"), func(ring.Partition) uint64 { return 1 }, partitions); err != nil {
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

// Era tells a reader that what it has read of clocks is void.
func TestEraChangesWithEveryLossAndOpening(t *testing.T) {
	d := disk.New(1)
	s := open(t, d.Open(), small())
	ringOf(t, s, 4)
	met := map[uint64]bool{}
	next := func(what string) {
		t.Helper()
		if met[s.Era()] {
			t.Fatalf("%s: era %d came before", what, s.Era())
		}
		met[s.Era()] = true
	}
	next("first opening")
	mustPut(t, s, 1, "k", "v")
	if !met[s.Era()] {
		t.Fatal("a put began an era")
	}
	for i := range 5 {
		if err := s.DeclareLoss(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		next("loss")
		mustRepair(t, s, 1)
		if !met[s.Era()] {
			t.Fatal("a repair began an era")
		}
		d.FailSync(disk.Of(storage.TypeJournal), 1, true, errors.New("bad"))
		if start(s, blind(1, "k", "w")).wait() == nil {
			t.Fatal("written over a failing sync")
		}
		d.Heal()
		until(t, s, "serving", func(h store.Health) bool { return h.Failed == nil })
		next("reopening")
		d.Kill()
		_ = s.Close() // of a dead disk
		s = open(t, d.Open(), small())
		next("opening")
	}
}

func TestClocksChangedNamesWhatChanged(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	want := func(since uint64, all ...ring.Partition) uint64 {
		t.Helper()
		got, now := s.ClocksChanged(since)
		if !slices.Equal(got, all) {
			t.Fatalf("since %d: %d, want %d", since, got, all)
		}
		return now
	}
	start := want(0)
	want(start)
	mustPut(t, s, 7, "k", "v")
	mustPut(t, s, 300, "k", "v")
	first := want(start, 7, 300)
	want(first)
	want(0, 7, 300)
	r := (&elsewhere{actor: 9}).put(key("k"), "v")
	mustMerge(t, s, 5, r)
	mustMerge(t, s, 5, r) // changes nothing
	second := want(first, 5)
	mustMerge(t, s, 5, r)
	want(second)
	if err := s.Incorporate(7, store.DotSet{{Actor: 3, Ranges: []store.Range{{First: 4, Last: 6}}}}, s.Era()); err != nil {
		t.Fatal(err)
	}
	third := want(second, 7)
	want(first, 5, 7)
	// A number that this era has not reached is none of its own.
	want(third+1, 5, 7, 300)
	if err := s.DeclareLoss("test"); err != nil {
		t.Fatal(err)
	}
	now := want(0)
	mustPut(t, s, 2, "k", "v")
	want(now, 2)
}

// What was incorporated from another home is claimed with the merges before it,
// and survives a crash only if the clock was written.
func TestIncorporateClaimsWithTheMergesBeforeIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		d.SetTear(disk.TearAll)
		s := open(t, d.Open(), small())
		dots := store.DotSet{{Actor: 9, Ranges: []store.Range{{First: 1, Last: 3}, {First: 7, Last: 7}}}}
		claimed := []version.Dot{{Actor: 9, Seq: 1}, {Actor: 9, Seq: 3}, {Actor: 9, Seq: 7}}
		get(t, s, 1, "k")
		slow(d, time.Second)
		live := (&elsewhere{actor: 8}).put(key("k"), "v")
		merge := startMerge(s, 1, live.Append(nil))
		synctest.Wait()
		done := make(chan error, 1)
		go func() { done <- s.Incorporate(1, dots, s.Era()) }()
		synctest.Wait()
		wantClaims(t, s, 1, false, claimed...)
		// A late packet of what is being claimed is as dead as one that comes
		// later.
		late := (&elsewhere{actor: 9, last: 2}).put(key("k"), "dead")
		dead := startMerge(s, 1, late.Append(nil))
		synctest.Wait()
		if merge.isDone() || len(done) > 0 {
			t.Fatal("done before the sync")
		}
		if err := errors.Join(<-done, merge.wait(), dead.wait()); err != nil {
			t.Fatal(err)
		}
		wantClaims(t, s, 1, true, claimed...)
		wantClaims(t, s, 1, false, version.Dot{Actor: 9, Seq: 4})
		wantValues(t, get(t, s, 1, "k"), "v")
		time.Sleep(time.Minute) // clocks are on disk
		d.PowerCut()
		_ = s.Close() // of a dead disk
		s = open(t, d.Open(), small())
		wantClaims(t, s, 1, true, claimed...)
		for _, bad := range []store.DotSet{
			{{Actor: 9}},
			{{Actor: 9, Ranges: []store.Range{{First: 0, Last: 3}}}},
			{{Actor: 9, Ranges: []store.Range{{First: 4, Last: 3}}}},
			{{Actor: 9, Ranges: []store.Range{{First: 4, Last: 6}, {First: 5, Last: 9}}}},
			{{Actor: 9, Ranges: []store.Range{{First: 1, Last: 1}}}, {Actor: 8, Ranges: []store.Range{{First: 1, Last: 1}}}},
		} {
			if s.Incorporate(1, bad, s.Era()) == nil {
				t.Fatalf("took %v", bad)
			}
		}
	})
}

// A home confirms to others what its clock claims, and they forget it: from then
// on the claims must outlive a crash, or a late packet finds a hole.
func TestIncorporateMakesTheClockDurable(t *testing.T) {
	for _, durable := range []bool{true, false} {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		home := &elsewhere{actor: 9}
		value := home.put(key("k"), "v")
		gone := home.put(value, "")
		mustMerge(t, s, 1, gone)
		mustMerge(t, s, 1, value) // changes nothing but the clock
		if durable {
			if err := s.Incorporate(1, nil, s.Era()); err != nil {
				t.Fatal(err)
			}
		}
		d.PowerCut()
		_ = s.Close() // of a dead disk
		s = open(t, d.Open(), small())
		mustVerdict(t, s, 1, key("k"), gone.Seen) // the others have forgotten it
		mustMerge(t, s, 1, value)
		if r := get(t, s, 1, "k"); (len(r.Siblings) == 0) != durable {
			t.Fatalf("durable %v: it holds %d siblings", durable, len(r.Siblings))
		}
	}
}

// A loss between the claim and its sync voids the claim: the merges that it
// rests on may be what was lost.
func TestIncorporateIsVoidAfterALoss(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		get(t, s, 1, "k")
		slow(d, time.Second)
		dots := store.DotSet{{Actor: 9, Ranges: []store.Range{{First: 1, Last: 3}}}}
		done := make(chan error, 2)
		go func() { done <- s.Incorporate(1, dots, s.Era()) }()
		synctest.Wait()
		go func() { _ = s.DeclareLoss("test") }()
		wantError(t, <-done, store.ErrEra)
		synctest.Wait()
		wantClaims(t, s, 1, false, version.Dot{Actor: 9, Seq: 1})
		time.Sleep(time.Minute)
		wantClaims(t, s, 1, false, version.Dot{Actor: 9, Seq: 1})
	})
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
