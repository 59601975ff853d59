package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kithdb/kith/sim/disk"
)

func TestPutsAreReadAfterReopening(t *testing.T) {
	d := disk.New(1)
	s := open(t, d.Open(), small())
	for i := range 300 {
		mustPut(t, s, 7, fmt.Sprintf("k%03d", i), strings.Repeat("v", i))
	}
	if n := s.Stats().Keys; n != 300 {
		t.Fatalf("counted %d keys, want 300", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, d.Open(), small())
	defer s.Close()
	if h := s.Health(); h.LossyAll || len(h.Losses) > 0 {
		t.Fatalf("lossy after a clean close: %+v", h)
	}
	if n := s.Stats().Keys; n != 300 {
		t.Fatalf("counted %d keys after a clean close, want 300", n)
	}
	for i := range 300 {
		wantValues(t, get(t, s, 7, fmt.Sprintf("k%03d", i)), strings.Repeat("v", i))
	}
	if s.Boot() != 2 {
		t.Fatalf("boot %d, want 2", s.Boot())
	}
	wantValues(t, get(t, s, 7, "other"))
}
