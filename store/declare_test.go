package store_test

import (
	"strings"
	"testing"

	"github.com/kithdb/kith/sim/disk"
)

func TestDeclaredLossIsDurable(t *testing.T) {
	d := disk.New(1)
	s := open(t, d.Open(), small())
	mustPut(t, s, 7, "k", "v")
	before := s.ClockOf(7)
	if err := s.DeclareLoss("restored from an old backup"); err != nil {
		t.Fatal(err)
	}
	if s.CountsForRead(7) || !s.Health().LossyAll {
		t.Error("it counts for reads")
	}
	if len(before.Actors) == 0 || len(s.ClockOf(7).Actors) != 0 {
		t.Errorf("the clock was %v and is %v, want it emptied", before, s.ClockOf(7))
	}
	mustPut(t, s, 7, "k", "w") // writes go on
	d.Kill()
	s.Close()
	s = open(t, d.Open(), small())
	defer s.Close()
	h := s.Health()
	if !h.LossyAll || s.CountsForRead(7) || !strings.Contains(strings.Join(h.Losses, "; "), "old backup") {
		t.Errorf("after the next start: %+v", h)
	}
	wantValues(t, get(t, s, 7, "k"), "w")
}

// A clock that is written after a loss is good, though those before it are void.
func TestClockAfterADeclaredLossIsLoaded(t *testing.T) {
	d := disk.New(1)
	s := open(t, d.Open(), small())
	before := mustPut(t, s, 7, "k", "v")
	if err := s.DeclareLoss("test"); err != nil {
		t.Fatal(err)
	}
	after := mustPut(t, s, 7, "j", "v")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, d.Open(), small())
	wantClaims(t, s, 7, true, after.dot)
	wantClaims(t, s, 7, false, before.dot)
}

// What the cache holds may be just what the disk has lost.
func TestNothingIsServedFromTheCacheAfterALoss(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	mustPut(t, s, 7, "k", "v")
	misses := func() int64 {
		get(t, s, 7, "k")
		return s.Stats().CacheMiss
	}
	before := misses()
	if misses() != before {
		t.Fatal("it was not in the cache")
	}
	if err := s.DeclareLoss("test"); err != nil {
		t.Fatal(err)
	}
	if misses() == before {
		t.Fatal("served from the cache")
	}
}
