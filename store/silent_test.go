package store_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
)

func TestDeclaredLossOfOnePartitionIsDurableAndOfNoOther(t *testing.T) {
	d := disk.New(1)
	s := open(t, d.Open(), small())
	before, other := mustPut(t, s, 7, "k", "v"), mustPut(t, s, 8, "k", "v")
	era := s.Era()
	if err := s.DeclareLossOf(7, "others hold more"); err != nil {
		t.Fatal(err)
	}
	if s.CountsForRead(7) || !s.CountsForRead(8) || s.Era() == era {
		t.Errorf("counts: %v and %v; era %d, was %d", s.CountsForRead(7), s.CountsForRead(8), s.Era(), era)
	}
	wantClaims(t, s, 7, false, before.dot)
	wantClaims(t, s, 8, true, other.dot)
	after := mustPut(t, s, 7, "j", "v")
	if after.dot.Actor == before.dot.Actor {
		t.Error("the actor from before the loss mints on")
	}
	d.Kill()
	s.Close()
	s = open(t, d.Open(), small())
	defer s.Close()
	h := s.Health()
	if h.LossyAll || h.MetaLost || !slices.Equal(h.Lossy, []ring.Partition{7}) || !strings.Contains(strings.Join(h.Losses, "; "), "partition 7: others hold more") {
		t.Errorf("after the next start: %+v", h)
	}
	wantValues(t, get(t, s, 7, "k"), "v")
}

// A second loss while the partition is repaired voids what the repair has seen.
func TestSecondDeclaredLossOfAPartitionBeginsItsRepairAnew(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	defer s.Close()
	if err := s.DeclareLossOf(7, "first"); err != nil {
		t.Fatal(err)
	}
	era := s.Era()
	since := mustPut(t, s, 7, "k", "v")
	if err := s.DeclareLossOf(7, "second"); err != nil {
		t.Fatal(err)
	}
	wantClaims(t, s, 7, false, since.dot)
	if err := s.Repaired(7, era); err == nil || s.CountsForRead(7) {
		t.Error("a repair from before the second loss is taken for whole")
	}
}
