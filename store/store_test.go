package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
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
	eventually(t, "keys counted", func() bool { return s.Stats().Keys == 300 })
	for i := range 300 {
		wantValues(t, get(t, s, 7, fmt.Sprintf("k%03d", i)), strings.Repeat("v", i))
	}
	if s.Boot() != 2 {
		t.Fatalf("boot %d, want 2", s.Boot())
	}
	wantValues(t, get(t, s, 7, "other"))
}

// What the store keeps is its own: callers use their buffers again.
func TestStoreKeepsNoMemoryOfItsCallers(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	p := blind(1, "put", "value")
	if err := start(s, p).wait(); err != nil {
		t.Fatal(err)
	}
	record := recordFrom(9, "merge", "value")
	m, err := version.Parse(record)
	if err != nil {
		t.Fatal(err)
	}
	o := newOutcome()
	s.Merge(&store.Merge{Partition: 1, Record: m, Encoded: record, Sink: o})
	if err := o.wait(); err != nil {
		t.Fatal(err)
	}
	clear(p.Value)
	clear(p.Key)
	clear(record)
	clear(m.Seen)
	clear(m.Siblings)
	for _, key := range []string{"put", "merge"} {
		wantValues(t, get(t, s, 1, key), "value")
		// A sibling beside it is encoded from what is kept of it.
		beside := blind(1, key, "w")
		beside.Blind = false
		if err := start(s, beside).wait(); err != nil {
			t.Fatal(err)
		}
		r := get(t, s, 1, key)
		if got := fmt.Sprint(values(r)); got != "[value w]" && got != "[w value]" {
			t.Fatalf("%s holds %s", key, got)
		}
	}
}
