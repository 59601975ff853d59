package store_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// elsewhere mints dots as another home's actor does.
type elsewhere struct {
	actor version.Actor
	last  uint64
}

// put writes a key over what a record of it has seen.
func (e *elsewhere) put(r version.Record, value string) version.Record {
	e.last++
	d := version.Dot{Actor: e.actor, Seq: e.last}
	if value == "" {
		return r.Put(r.Seen, version.NewTombstone(d, version.StampAt(time.Now())))
	}
	return r.Put(r.Seen, version.NewSibling(d, version.StampAt(time.Now()), 0, []byte(value)))
}

func key(k string) version.Record { return version.Record{Key: []byte(k)} }

// sendVerdict merges a record, with what its sender has incorporated, weighed against
// what is stored, and others.
func sendVerdict(s *store.Store, p ring.Partition, r version.Record, base version.Context, others ...version.Dot) *outcome {
	o := newOutcome()
	m := &store.Merge{Partition: p, Record: r, Verdict: true, Base: base, Judged: others, Sink: o}
	if stored, err := tryGet(s, p, string(r.Key)); err == nil {
		for i := range stored.Siblings {
			m.Judged = append(m.Judged, stored.Siblings[i].Dot)
		}
	}
	if len(r.Siblings) > 0 {
		m.Encoded = r.Append(nil)
		m.Record, _ = version.Parse(m.Encoded)
	}
	s.Merge(m)
	return o
}

func mustMerge(t testing.TB, s *store.Store, p ring.Partition, r version.Record) {
	t.Helper()
	if err := startMerge(s, p, r.Append(nil)).wait(); err != nil {
		t.Fatalf("merge %q: %v", r.Key, err)
	}
}

func mustVerdict(t testing.TB, s *store.Store, p ring.Partition, r version.Record, base version.Context) {
	t.Helper()
	if err := sendVerdict(s, p, r, base).wait(); err != nil {
		t.Fatalf("verdict on %q: %v", r.Key, err)
	}
}

func wantClaims(t testing.TB, s *store.Store, p ring.Partition, has bool, all ...version.Dot) {
	t.Helper()
	c := s.ClockOf(p)
	for _, d := range all {
		if c.Has(d) != has {
			t.Fatalf("the clock claims %v: %v, want %v; it is %v", d, !has, has, c)
		}
	}
}

func wantKeys(t testing.TB, s *store.Store, n int64) {
	t.Helper()
	if got := s.Stats().Keys; got != n {
		t.Fatalf("%d keys are counted, want %d", got, n)
	}
}

// Merges that overtake each other must not leave a hole in the clock: nobody
// would send the older one again.
func TestFillMergesThatOvertakeLeaveNoHole(t *testing.T) {
	for name, order := range map[string][]bool{ // whether to wait for a merge before the next
		"one by one":        {true, true, true},
		"in two batches":    {false, false, false},
		"during the second": {true, false, false},
	} {
		bubble(t, func(t *testing.T) {
			d := disk.New(1)
			s := open(t, d.Open(), small())
			home := &elsewhere{actor: 9}
			first := home.put(key("k"), "1")
			second := home.put(first, "2")
			third := home.put(second, "3")
			get(t, s, 1, "k") // it is in the cache: what follows keeps its order
			slow(d, time.Second)
			var all []*outcome
			for i, r := range []version.Record{third, first, second} {
				all = append(all, startMerge(s, 1, r.Append(nil)))
				synctest.Wait()
				if order[i] {
					time.Sleep(time.Minute)
				} else if !order[0] {
					wantClaims(t, s, 1, false, r.Siblings[0].Dot) // it relies on what is under way
				}
			}
			for _, o := range all {
				if err := o.wait(); err != nil {
					t.Fatal(err)
				}
			}
			wantValues(t, get(t, s, 1, "k"), "3")
			c := s.ClockOf(1)
			if got := c.Bases().Max(9); got != 3 {
				t.Fatalf("%s: base %d, want 3: %v", name, got, c)
			}
		})
	}
}

// A merge that changes something may have seen less of one actor than is stored:
// what it has seen is claimed all the same.
func TestFillClaimsWhatTheIncomingRecordHasSeen(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	a, b := &elsewhere{actor: 8}, &elsewhere{actor: 9}
	one := a.put(key("k"), "1")
	two := a.put(one, "2")
	beside := one.Put(one.Seen, version.NewSibling(version.Dot{Actor: 9, Seq: 1}, 1, 0, []byte("x")))
	b.last = 1
	mustMerge(t, s, 1, two)
	mustMerge(t, s, 1, beside)
	wantValues(t, get(t, s, 1, "k"), "2", "x")
	c := s.ClockOf(1)
	if c.Bases().Max(8) != 2 || c.Bases().Max(9) != 1 {
		t.Fatalf("clock %v", c)
	}
}

// A packet that comes when its key was forgotten here stays dead.
func TestFillDropsALatePacketAfterPurge(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	home := &elsewhere{actor: 9}
	value := home.put(key("k"), "v")
	gone := home.put(value, "")
	mustMerge(t, s, 1, value)
	mustMerge(t, s, 1, gone)
	mustPurge(t, s, 1, gone)
	for range 2 {
		mustMerge(t, s, 1, value)
		mustMerge(t, s, 1, gone)
		if r := get(t, s, 1, "k"); len(r.Siblings)+len(r.Seen) > 0 {
			t.Fatalf("it came back: %v", r)
		}
	}
	wantKeys(t, s, 0)
	// What is new is taken, also over what was forgotten.
	again := home.put(value, "w")
	mustMerge(t, s, 1, again)
	wantValues(t, get(t, s, 1, "k"), "w")
	wantKeys(t, s, 1)
}

// A dead sibling that comes along with a live one does not come to life.
func TestFillDropsOnlyTheDeadSiblings(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	a, b := &elsewhere{actor: 8}, &elsewhere{actor: 9}
	old := a.put(key("k"), "old")
	mustMerge(t, s, 1, old)
	dead := a.put(old, "")
	mustMerge(t, s, 1, dead)
	mustPurge(t, s, 1, dead)
	fresh := b.put(key("k"), strings.Repeat("fresh", 2000))
	both := version.Merge(old, fresh) // as a home holds it that was away
	mustMerge(t, s, 1, both)
	r := get(t, s, 1, "k")
	wantValues(t, r, string(fresh.Siblings[0].Value))
	if !slices.Equal(r.Seen, fresh.Seen) {
		t.Fatalf("it has seen %v, want %v: the clock's word is not that of the record", r.Seen, fresh.Seen)
	}
	before := s.Stats().Records
	mustMerge(t, s, 1, both)
	if n := s.Stats().Records; n != before {
		t.Fatal("what changes nothing was written again")
	}
}

// What was removed in a batch that is not yet on disk is dead too, although no
// clock says so before.
func TestFillStopsWhatWasRemovedInABatchUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		home := &elsewhere{actor: 9}
		value := home.put(key("k"), "v")
		base := version.Context{{Actor: 9, Seq: 1}}
		get(t, s, 1, "k") // it is in the cache: what follows keeps its order
		slow(d, time.Second)
		var all []*outcome
		for range 3 { // written, removed and sent again in batches that overlap
			all = append(all, startMerge(s, 1, value.Append(nil)))
			synctest.Wait()
			all = append(all, sendVerdict(s, 1, key("k"), base, value.Siblings[0].Dot))
			synctest.Wait()
		}
		for _, o := range all {
			if err := o.wait(); err != nil {
				t.Fatal(err)
			}
		}
		if r := get(t, s, 1, "k"); len(r.Siblings) > 0 {
			t.Fatalf("it came back: %v", r)
		}
		wantKeys(t, s, 0)
		wantClaims(t, s, 1, true, version.Dot{Actor: 9, Seq: 1})
	})
}

// A home that has lost its clock takes everything: it cannot know better.
func TestFillDropsNothingAfterALoss(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	home := &elsewhere{actor: 9}
	value := home.put(key("k"), "v")
	gone := home.put(value, "")
	mustMerge(t, s, 1, gone)
	mustMerge(t, s, 1, value)
	mustPurge(t, s, 1, gone)
	if err := s.DeclareLoss("test"); err != nil {
		t.Fatal(err)
	}
	mustMerge(t, s, 1, value)
	wantValues(t, get(t, s, 1, "k"), "v")
}

func TestVerdictDropsWhatTheSenderHasIncorporatedAndLacks(t *testing.T) {
	for name, size := range map[string]int{"small": 1, "large": 9000} {
		t.Run(name, func(t *testing.T) {
			s := open(t, disk.New(1).Open(), small())
			a, b := &elsewhere{actor: 8}, &elsewhere{actor: 9}
			one := a.put(key("k"), strings.Repeat("1", size))
			two := b.put(key("k"), strings.Repeat("2", size))
			both := version.Merge(one, two)
			mustMerge(t, s, 1, both)
			// The sender has neither: it has incorporated the first only.
			mustVerdict(t, s, 1, key("k"), version.Context{{Actor: 8, Seq: 1}})
			r := get(t, s, 1, "k")
			wantValues(t, r, string(two.Siblings[0].Value))
			if !r.Seen.Includes(both.Seen) {
				t.Fatalf("it has forgotten what it had seen: %v", r.Seen)
			}
			// The sender holds the second.
			mustVerdict(t, s, 1, two, version.Context{{Actor: 8, Seq: 1}, {Actor: 9, Seq: 1}})
			wantValues(t, get(t, s, 1, "k"), string(two.Siblings[0].Value))
			wantKeys(t, s, 1)
			// It holds neither, and has incorporated both.
			mustVerdict(t, s, 1, key("k"), version.Context{{Actor: 8, Seq: 1}, {Actor: 9, Seq: 1}})
			if b, err := s.Get(1, []byte("k")); err != nil || b != nil {
				t.Fatalf("%q, %v", b, err)
			}
			wantKeys(t, s, 0)
			// Its dots are still claimed, and it does not come back.
			wantClaims(t, s, 1, true, version.Dot{Actor: 8, Seq: 1}, version.Dot{Actor: 9, Seq: 1})
			mustMerge(t, s, 1, both)
			wantKeys(t, s, 0)
		})
	}
}

// What came after the sender's verdict was weighed stays: the sender may have lost it.
func TestVerdictEndsNothingThatItWasNotWeighedAgainst(t *testing.T) {
	for name, size := range map[string]int{"small": 1, "large": 9000} {
		t.Run(name, func(t *testing.T) {
			s := open(t, disk.New(1).Open(), small())
			home := &elsewhere{actor: 9}
			old := home.put(key("k"), "old")
			mustMerge(t, s, 1, old)
			late := home.put(key("k"), strings.Repeat("n", size)) // beside it
			mustMerge(t, s, 1, late)
			o := newOutcome()
			s.Merge(&store.Merge{Partition: 1, Record: key("k"), Verdict: true, Base: late.Seen,
				Judged: []version.Dot{old.Siblings[0].Dot}, Sink: o})
			if err := o.wait(); err != nil {
				t.Fatal(err)
			}
			wantValues(t, get(t, s, 1, "k"), string(late.Siblings[0].Value))
		})
	}
}

// A removal is on disk with the clock that remembers it: after a crash there is
// no record left to build the clock from.
func TestVerdictIsRememberedThroughACrash(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		home := &elsewhere{actor: 9}
		value := home.put(key("k"), "v")
		get(t, s, 1, "k")
		other := start(s, blind(1, "k", "v")).wait()
		mustVerdict(t, s, 1, key("k"), get(t, s, 1, "k").Seen)
		slow(d, 10*time.Millisecond)
		// It is written and removed in one batch, so that no clock had it.
		before := start(s, blind(2, "j", "v"))
		synctest.Wait()
		wrote := startMerge(s, 1, value.Append(nil))
		removed := sendVerdict(s, 1, key("k"), value.Seen, value.Siblings[0].Dot)
		synctest.Wait()
		wantClaims(t, s, 1, false, value.Siblings[0].Dot)
		if err := errors.Join(other, before.wait(), wrote.wait(), removed.wait()); err != nil {
			t.Fatal(err)
		}
		d.PowerCut()
		_ = s.Close() // of a dead disk
		s = open(t, d.Open(), small())
		mustMerge(t, s, 1, value)
		if r := get(t, s, 1, "k"); len(r.Siblings) > 0 {
			t.Fatal("it came back after a crash")
		}
	})
}

// A home takes its base before it reads what it sends: a write that comes between
// the two is in neither, or in the record. The other way round it would be in the
// base alone, and die where it had arrived.
func TestVerdictWithItsBaseTakenFirstDropsNoNewerWrite(t *testing.T) {
	for _, first := range []bool{true, false} {
		from, to := open(t, disk.New(1).Open(), small()), open(t, disk.New(2).Open(), small())
		mustPut(t, from, 1, "other", "v")
		var base version.Context
		look := func() {
			c := from.ClockOf(1)
			base = c.Bases()
		}
		var r version.Record
		read := func() { r = get(t, from, 1, "k") }
		steps := []func(){look, read}
		if !first {
			steps = []func(){read, look}
		}
		steps[0]()
		mustPut(t, from, 1, "k", "new")
		mustMerge(t, to, 1, get(t, from, 1, "k"))
		steps[1]()
		mustVerdict(t, to, 1, r, base)
		if left := len(get(t, to, 1, "k").Siblings); (left == 1) != first {
			t.Fatalf("base first %v: %d siblings are left", first, left)
		}
	}
}

// Absent here and absent there: nothing to do, and nothing to sync.
func TestVerdictOnAnAbsentKeyCostsNoSync(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	mustPut(t, s, 1, "other", "v")
	before := s.Stats().Batches
	mustVerdict(t, s, 1, key("k"), version.Context{{Actor: 9, Seq: 5}})
	wantClaims(t, s, 1, false, version.Dot{Actor: 9, Seq: 5})
	if n := s.Stats().Batches; n != before {
		t.Fatalf("%d batches for nothing", n-before)
	}
}

// A base that names dots of this store which it has not minted would kill its
// next writes.
func TestVerdictOnTheFutureDrawsAnotherActor(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	first := mustPut(t, s, 1, "k", "v")
	mustVerdict(t, s, 1, get(t, s, 1, "k"), version.Context{{Actor: first.dot.Actor, Seq: 50}})
	if o := mustPut(t, s, 1, "k", "w"); o.dot.Actor == first.dot.Actor {
		t.Fatalf("dot %v was in the sender's base", o.dot)
	}
	p := get(t, s, 1, "k")
	if err := s.Incorporate(1, store.DotSet{{Actor: p.Siblings[0].Actor, Ranges: []store.Range{{First: 9, Last: 9}}}}, s.Era()); err != nil {
		t.Fatal(err)
	}
	if o := mustPut(t, s, 1, "k", "x"); o.dot.Actor == p.Siblings[0].Actor {
		t.Fatalf("dot %v was incorporated before it was minted", o.dot)
	}
}
