package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

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
