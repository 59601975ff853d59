package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

func purge(t testing.TB, s *store.Store, p ring.Partition, r version.Record, now uint64) bool {
	t.Helper()
	ok, err := s.Purge(p, r.Key, r.Leaf(), now)
	if err != nil {
		t.Fatalf("purge %q: %v", r.Key, err)
	}
	return ok
}

func mustPurge(t testing.TB, s *store.Store, p ring.Partition, r version.Record) {
	t.Helper()
	if !purge(t, s, p, r, 0) {
		t.Fatalf("purge %q: refused", r.Key)
	}
	if b, err := s.Get(p, r.Key); err != nil || b != nil {
		t.Fatalf("purged %q: %q, %v", r.Key, b, err)
	}
}

func TestPurgeKeepsWhatMayBeNeeded(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	home := &elsewhere{actor: 9}
	value := home.put(key("k"), "v")
	gone := home.put(value, "")
	if purge(t, s, 1, gone, 0) {
		t.Fatal("purged what is not there")
	}
	mustMerge(t, s, 1, gone)
	if purge(t, s, 1, gone, 0) {
		t.Fatal("purged over a hole: the value may still come")
	}
	mustMerge(t, s, 1, value)
	if purge(t, s, 1, value, 0) {
		t.Fatal("purged with another leaf")
	}
	if purge(t, s, 2, gone, 0) {
		t.Fatal("purged in another partition")
	}
	mustPurge(t, s, 1, gone)
	if purge(t, s, 1, gone, 0) {
		t.Fatal("purged twice")
	}
	wantKeys(t, s, 0)
	live := home.put(key("j"), "v")
	mustMerge(t, s, 1, live)
	if purge(t, s, 1, live, 1<<60) {
		t.Fatal("purged a value that does not expire")
	}
	home.last++
	short := key("e").Put(nil, version.NewSibling(version.Dot{Actor: 9, Seq: home.last}, 1, 1000, []byte("v")))
	mustMerge(t, s, 1, short)
	if purge(t, s, 1, short, 999) {
		t.Fatal("purged a value that has not expired")
	}
	if !purge(t, s, 1, short, 1000) {
		t.Fatal("an expired value stays")
	}
	wantKeys(t, s, 1)
}

// A record that a write under way changes is not the one that was confirmed.
func TestPurgeYieldsToAWriteUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		home := &elsewhere{actor: 9}
		gone := home.put(key("k"), "")
		mustMerge(t, s, 1, gone)
		slow(d, time.Second)
		// One write is being written, and the other one is built meanwhile.
		first := start(s, blind(1, "k", "v"))
		synctest.Wait()
		second := start(s, blind(1, "j", "v"))
		synctest.Wait()
		if purge(t, s, 1, gone, 0) || purge(t, s, 1, get(t, s, 1, "k"), 1<<62) {
			t.Fatal("purged under a write")
		}
		if first.wait() != nil || second.wait() != nil {
			t.Fatal(first.err, second.err)
		}
		wantValues(t, get(t, s, 1, "k"), "v")
	})
}

// After a crash the clock still stops what was forgotten: it went to disk with
// the purge, however long the last copy of it is ago.
func TestPurgeIsRememberedThroughACrash(t *testing.T) {
	for _, cut := range []bool{false, true} {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		home := &elsewhere{actor: 9}
		value := home.put(key("k"), "v")
		gone := home.put(value, "")
		mustMerge(t, s, 1, value)
		mustMerge(t, s, 1, gone)
		mustPurge(t, s, 1, gone)
		if cut {
			d.PowerCut()
		} else {
			d.Kill()
		}
		_ = s.Close() // of a dead disk
		s = open(t, d.Open(), small())
		mustMerge(t, s, 1, value)
		if r := get(t, s, 1, "k"); len(r.Siblings) > 0 {
			t.Fatal("it came back after a crash")
		}
		eventually(t, "counted", func() bool { return s.Stats().Keys == 0 })
	}
}

// A purge that a crash took with it leaves the record.
func TestPurgeIsAllOrNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		d.SetTear(disk.TearAll)
		s := open(t, d.Open(), small())
		gone := (&elsewhere{actor: 9}).put(key("k"), "")
		mustMerge(t, s, 1, gone)
		slow(d, time.Second)
		result := make(chan error, 1)
		go func() {
			ok, err := s.Purge(1, []byte("k"), gone.Leaf(), 0)
			if ok && err != nil {
				t.Errorf("purged, and %v", err)
			}
			result <- err
		}()
		synctest.Wait()
		d.PowerCut()
		_ = s.Close() // of a dead disk
		if <-result == nil {
			t.Fatal("purged before it was on disk")
		}
		s = open(t, d.Open(), small())
		if r := get(t, s, 1, "k"); len(r.Siblings) != 1 {
			t.Fatal("the record went without its purge")
		}
	})
}

// Records that are purged together share one batch, and what one of them came to
// says nothing of the others.
func TestPurgesThatComeTogetherShareABatch(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	home := &elsewhere{actor: 9}
	var records []store.Purged
	for _, k := range []string{"a", "b", "c", "d"} {
		value := ""
		if k == "c" {
			value = "v"
		}
		r := home.put(key(k), value)
		mustMerge(t, s, 1, r)
		records = append(records, store.Purged{Key: r.Key, Leaf: r.Leaf()})
	}
	before := s.Batches()
	gone, err := s.PurgeAll(1, records, 0)
	if want := []bool{true, true, false, true}; err != nil || !slices.Equal(gone, want) {
		t.Fatalf("gone %v, %v; want %v", gone, err, want)
	}
	if n := s.Batches() - before; n != 1 {
		t.Errorf("three purges took %d batches", n)
	}
	if gone, err := s.PurgeAll(1, nil, 0); len(gone) != 0 || err != nil {
		t.Errorf("none at all: %v, %v", gone, err)
	}
}

// Merges that are handed in together share a batch, whether the cache knows their
// keys or not, and each is told its own outcome.
func TestMergesThatComeTogetherShareABatch(t *testing.T) {
	d := disk.New(1)
	s := open(t, d.Open(), small())
	home := &elsewhere{actor: 9}
	warm := home.put(key("warm"), "v")
	mustMerge(t, s, 1, warm)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, d.Open(), small())
	var merges []*store.Merge
	told := make([]chan error, 6)
	for i := range told {
		r := home.put(key(fmt.Sprint("k", i)), "v")
		if i == 0 {
			r = home.put(warm, "w")
		}
		told[i] = make(chan error, 1)
		m := &store.Merge{Partition: 1, Record: r, Encoded: r.Append(nil), Sink: sinkOf(told[i])}
		if i == 3 {
			m.Record.Key = nil
		}
		merges = append(merges, m)
	}
	before := s.Batches()
	s.MergeAll(merges)
	for i := range told {
		if err := <-told[i]; (err != nil) != (i == 3) {
			t.Errorf("merge %d: %v", i, err)
		}
	}
	if n := s.Batches() - before; n != 1 {
		t.Errorf("five merges took %d batches", n)
	}
	wantValues(t, get(t, s, 1, "warm"), "w")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.MergeAll(merges[:2])
	for i := range merges[:2] {
		if err := <-told[i]; !errors.Is(err, store.ErrClosed) {
			t.Errorf("merge %d into a closed store: %v", i, err)
		}
	}
}

// sinkOf tells a channel that holds one outcome.
type sinkOf chan error

// Committed implements store.MergeSink.
func (s sinkOf) Committed(err error) { s <- err }
