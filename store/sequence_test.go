package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// A merge that changes nothing is acknowledged with the batch that it relied on,
// and not before: else a crash takes what it vouched for.
func TestRedundantMergeWaitsForWhatItReliedOn(t *testing.T) {
	for _, crash := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			d := disk.New(1)
			d.SetTear(disk.TearAll)
			s := open(t, d.Open(), small())
			mustPut(t, s, 1, "other", "v")
			slow(d, time.Second)
			record := recordFrom(9, "k", "v")
			first := startMerge(s, 1, record)
			synctest.Wait()
			second := startMerge(s, 1, record) // in the batch that is being written
			third := start(s, blind(1, "j", "w"))
			synctest.Wait()
			fourth := startMerge(s, 1, third.record) // in the batch that is being built
			synctest.Wait()
			if first.isDone() || second.isDone() || third.isDone() || fourth.isDone() {
				t.Fatal("acknowledged before the sync")
			}
			if !crash {
				for _, o := range []*outcome{first, second, third, fourth} {
					if err := o.wait(); err != nil {
						t.Fatal(err)
					}
				}
				// Now it is committed, and costs no sync.
				if o := startMerge(s, 1, record); !o.isDone() {
					synctest.Wait()
					if !o.isDone() || o.err != nil {
						t.Fatal("a merge of committed state waited for the disk")
					}
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				return
			}
			d.PowerCut()
			s.Close()
			for _, o := range []*outcome{first, second, third, fourth} {
				if o.wait() == nil {
					t.Fatal("acknowledged and lost")
				}
			}
			s = open(t, d.Open(), small())
			defer s.Close()
			wantValues(t, get(t, s, 1, "k"))
		})
	}
}

func TestExpiredPutIsNotMinted(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	o := small()
	o.Now, o.ClockSlack = func() time.Time { return now }, time.Second
	s := open(t, disk.New(1).Open(), o)
	defer s.Close()
	p := blind(1, "k", "v")
	p.NotAfter = now.Add(-2 * time.Second)
	late := start(s, p)
	wantError(t, late.wait(), store.ErrExpired)
	if late.minted {
		t.Fatal("an expired put was minted")
	}
	wantValues(t, get(t, s, 1, "k"))
	p = blind(1, "k", "v")
	p.NotAfter = now.Add(-time.Second)
	if err := start(s, p).wait(); err != nil {
		t.Fatalf("within the slack: %v", err)
	}
}

func TestContextAboveOwnCounterIsRefused(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	defer s.Close()
	first := mustPut(t, s, 1, "k", "v")
	for name, ctx := range map[string]version.Context{
		"ahead":   {{Actor: first.dot.Actor, Seq: 2}},
		"order":   {{Actor: 7, Seq: 1}, {Actor: 7, Seq: 2}},
		"nothing": {{Actor: 7, Seq: 0}},
	} {
		p := blind(1, "k", "w")
		p.Blind, p.Context = false, ctx
		o := start(s, p)
		if err := o.wait(); !errors.Is(err, store.ErrBadContext) || o.minted {
			t.Fatalf("%s: %v, minted %v", name, err, o.minted)
		}
	}
	// Another partition's counter says nothing about this one's actor.
	p := blind(1, "k", "w")
	p.Blind, p.Context = false, version.Context{first.dot}
	o := start(s, p)
	if err := o.wait(); err != nil || o.dot != (version.Dot{Actor: first.dot.Actor, Seq: 2}) {
		t.Fatalf("%v, dot %v", err, o.dot)
	}
	wantValues(t, get(t, s, 1, "k"), "w")
}

// A record from elsewhere that names a dot which this store has not minted must
// not make its next puts look as if they had been seen.
func TestForeignClaimOnOwnActorDrawsAnother(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	defer s.Close()
	first := mustPut(t, s, 1, "k", "v")
	r := get(t, s, 1, "k")
	r.Seen = r.Seen.With(version.Dot{Actor: first.dot.Actor, Seq: 100})
	if err := startMerge(s, 1, r.Append(nil)).wait(); err != nil {
		t.Fatal(err)
	}
	if o := mustPut(t, s, 1, "k", "w"); o.dot.Actor == first.dot.Actor {
		t.Fatalf("dot %v was claimed before", o.dot)
	}
	wantValues(t, get(t, s, 1, "k"), "w")
}

func TestFenceHoldsInsideTheCommit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		put := func(key string, epoch uint64) *outcome {
			p := blind(3, key, "v")
			p.Epoch = epoch
			return start(s, p)
		}
		if err := put("a", 4).wait(); err != nil {
			t.Fatal(err)
		}
		// Warm the keys, so that the writes below keep their order.
		for _, key := range []string{"b", "c"} {
			get(t, s, 3, key)
		}
		slow(d, time.Second)
		before := put("b", 4)
		adopted := make(chan error, 1)
		go func() {
			adopted <- s.Adopt([]byte("record 5"), func(p ring.Partition) uint64 { return uint64(p) + 2 }, 4, nil)
		}()
		synctest.Wait()
		after := put("c", 4)
		m, err := version.Parse(recordFrom(9, "c", "x"))
		if err != nil {
			t.Fatal(err)
		}
		counted, repair := newOutcome(), newOutcome()
		encoded := m.Append(nil)
		s.Merge(&store.Merge{Partition: 3, Epoch: 4, Record: m, Encoded: encoded, Sink: counted})
		s.Merge(&store.Merge{Partition: 3, Record: m, Encoded: encoded, Sink: repair})
		synctest.Wait()
		if len(adopted) > 0 || before.isDone() || !after.isDone() || after.minted {
			t.Fatal("adoption, or a write of an older epoch, did not keep its place")
		}
		wantError(t, after.wait(), store.ErrFenced)
		wantError(t, counted.wait(), store.ErrFenced)
		if err := errors.Join(before.wait(), <-adopted, repair.wait()); err != nil {
			t.Fatal(err)
		}
		slow(d, 0)
		d.PowerCut()
		s.Close()
		s = open(t, d.Open(), small())
		defer s.Close()
		if f := s.Fence(3); f != 5 {
			t.Fatalf("fence %d after a crash, want 5", f)
		}
		if b, err := s.Meta("ring"); err != nil || string(b) != "record 5" {
			t.Fatalf("ring %q, %v", b, err)
		}
		// Fences never fall.
		if err := s.Adopt([]byte("old"), func(ring.Partition) uint64 { return 1 }, 4, nil); err != nil || s.Fence(3) != 5 {
			t.Fatalf("fence %d, %v", s.Fence(3), err)
		}
		wantError(t, put("a", 4).wait(), store.ErrFenced)
		if err := put("a", 5).wait(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestBlindPutsStopAtTheSiblingCap(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	defer s.Close()
	for i := range store.SiblingsBlindMax {
		if err := startMerge(s, 1, recordFrom(version.Actor(i+1), "k", "v")).wait(); err != nil {
			t.Fatal(err)
		}
	}
	o := start(s, blind(1, "k", "w"))
	wantError(t, o.wait(), store.ErrTooManySiblings)
	p := blind(1, "k", "w")
	p.Blind, p.Context = false, get(t, s, 1, "k").Seen
	if err := start(s, p).wait(); err != nil {
		t.Fatal(err)
	}
	wantValues(t, get(t, s, 1, "k"), "w")
	mustPut(t, s, 1, "k", "x")
}

func TestRecordLimitIsForPutsOnly(t *testing.T) {
	o := small()
	o.RecordMax = 2000
	s := open(t, disk.New(1).Open(), o)
	defer s.Close()
	big := strings.Repeat("x", 1200)
	wantError(t, start(s, blind(1, "k", strings.Repeat("x", 2000))).wait(), store.ErrTooLarge)
	first := mustPut(t, s, 1, "k", big)
	p := blind(1, "k", big)
	p.Blind = false
	second := start(s, p)
	wantError(t, second.wait(), store.ErrTooLarge)
	if second.minted {
		t.Fatal("a refused put was minted")
	}
	if next := mustPut(t, s, 1, "k", big); next.dot.Seq != first.dot.Seq+1 {
		t.Fatalf("dot %v after %v: a refused put took a number", next.dot, first.dot)
	}
	// A merge must be taken, or homes would never be equal.
	for i := range 3 {
		if err := startMerge(s, 1, recordFrom(version.Actor(i+1), "k", big)).wait(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(get(t, s, 1, "k").Siblings); n != 4 {
		t.Fatalf("%d siblings, want 4", n)
	}
	// One that makes it smaller is welcome above the limit too.
	seen := get(t, s, 1, "k").Seen
	p = blind(1, "k", "small")
	p.Blind, p.Context = false, seen[:2]
	if err := start(s, p).wait(); err != nil {
		t.Fatal(err)
	}
}

func TestBadKeysAreRefused(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	defer s.Close()
	for _, key := range []string{"", strings.Repeat("k", version.KeySizeMax+1)} {
		if err := start(s, blind(1, key, "v")).wait(); err == nil {
			t.Fatalf("key of %d bytes was taken", len(key))
		}
		if _, err := s.Get(1, []byte(key)); err == nil {
			t.Fatalf("key of %d bytes was read", len(key))
		}
	}
	if err := start(s, blind(ring.SlotCount, "k", "v")).wait(); err == nil {
		t.Fatal("a partition beyond all was taken")
	}
	long := strings.Repeat("k", version.KeySizeMax)
	mustPut(t, s, ring.SlotCount-1, long, "v")
	wantValues(t, get(t, s, ring.SlotCount-1, long), "v")
}

func TestClosedStoreRefuses(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	mustPut(t, s, 1, "k", "v")
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	wantError(t, start(s, blind(1, "k", "v")).wait(), store.ErrClosed)
	wantError(t, s.SetMeta("x", nil), store.ErrClosed)
	_, err := s.Get(1, []byte("k"))
	wantError(t, err, store.ErrClosed)
	wantError(t, s.Scan(1, nil, 0, func(_, _ []byte) bool { return true }), store.ErrClosed)
}

func TestCloseCommitsWhatWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		slow(d, 10*time.Millisecond)
		var all []*outcome
		for i := range 500 {
			all = append(all, start(s, blind(1, fmt.Sprint(i), "v")))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, o := range all {
			if !o.isDone() || o.err != nil {
				t.Fatal("a put was not committed by Close", o.err)
			}
		}
	})
}

func TestMetaIsDurable(t *testing.T) {
	d := disk.New(1)
	s := open(t, d.Open(), small())
	if b, err := s.Meta("id"); b != nil || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
	if err := s.SetMeta("id", []byte("value")); err != nil {
		t.Fatal(err)
	}
	d.PowerCut()
	s.Close()
	s = open(t, d.Open(), small())
	defer s.Close()
	if b, err := s.Meta("id"); string(b) != "value" || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
	for _, name := range []string{"", ".batch", "boot"} {
		if err := s.SetMeta(name, nil); err == nil {
			t.Fatalf("name %q was taken", name)
		}
	}
	if err := s.SetMeta("big", make([]byte, 3<<20)); !errors.Is(err, store.ErrTooLarge) {
		t.Fatal(err)
	}
}

func TestScanGoesThroughInPieces(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	defer s.Close()
	var all []*outcome
	for i := range 1000 {
		all = append(all, start(s, blind(2, fmt.Sprintf("k%04d", i), "v")))
	}
	all = append(all, start(s, blind(1, "before", "v")), start(s, blind(3, "behind", "v")))
	for _, o := range all {
		if err := o.wait(); err != nil {
			t.Fatal(err)
		}
	}
	next := 0
	each := func(key, record []byte) bool {
		if want := fmt.Sprintf("k%04d", next); string(key) != want || !bytes.Contains(record, key) {
			t.Fatalf("scanned %q, want %q", key, want)
		}
		next++
		return next != 990
	}
	if err := s.Scan(2, nil, 300, each); err != nil || next != 300 {
		t.Fatalf("%d records, %v", next, err)
	}
	if err := s.Scan(2, []byte("k0299"), 0, each); err != nil || next != 990 {
		t.Fatalf("up to %d, %v", next, err)
	}
	if err := s.Scan(2, []byte("k0989"), 0, each); err != nil || next != 1000 {
		t.Fatalf("up to %d, %v", next, err)
	}
}
