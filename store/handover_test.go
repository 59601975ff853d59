package store_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// handingOver are options under which drops wait for HandOver.
func handingOver() store.Options {
	o := small()
	o.HandOver = true
	return o
}

// handOverAll says of all drops that nobody else has anything.
func handOverAll(s *store.Store) {
	for _, d := range s.ToHandOver() {
		s.HandOver(d, nil, 1)
	}
}

// keptOf are the records that are kept of dropped partitions.
func keptOf(t rapid.TB, s *store.Store) map[ring.Partition]map[string][]byte {
	t.Helper()
	out := map[ring.Partition]map[string][]byte{}
	var p ring.Partition
	var after []byte
	for {
		some, err := s.StandIns(ring.NodeID{}, p, after, 100)
		if err != nil {
			t.Fatalf("read what is kept: %v", err)
		}
		if len(some) == 0 {
			return out
		}
		for _, in := range some {
			if out[in.Partition] == nil {
				out[in.Partition] = map[string][]byte{}
			}
			out[in.Partition][string(in.Record.Key)] = in.Encoded
		}
		last := some[len(some)-1]
		p, after = last.Partition, last.Record.Key
	}
}

func wantKept(t testing.TB, s *store.Store, p ring.Partition, keys ...string) {
	t.Helper()
	slices.Sort(keys)
	if got := slices.Sorted(maps.Keys(keptOf(t, s)[p])); !slices.Equal(got, keys) {
		t.Fatalf("partition %d: %q are kept, want %q", p, got, keys)
	}
}

// clockWith claims some dots.
func clockWith(dots ...version.Dot) (c store.Clock) {
	for _, d := range dots {
		c.Add(d, false)
	}
	return c
}

// What enough homes have is deleted, and everything else is kept for them; the partition
// is empty afterwards, and can be used again with a new actor.
func TestWhatTheHomesLackIsKeptForThem(t *testing.T) {
	for _, stop := range []int{-1, 0, 1, 2} {
		bubble(t, func(t *testing.T) {
			d := disk.New(1)
			s := open(t, d.Open(), handingOver())
			var dots []version.Dot
			keys := []string{"both", "one", "none", "half"}
			for _, key := range keys {
				dots = append(dots, mustPut(t, s, 1, key, "v").dot)
			}
			mustMerge(t, s, 1, nth(9, 1, "half")) // a second sibling
			mustPut(t, s, 2, "other", "v")
			if err := adopt(s, 5, 1); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			drops := s.ToHandOver()
			if len(drops) != 1 || drops[0].Partition != 1 || !slices.Equal(s.Dropping(), []ring.Partition{1}) {
				t.Fatalf("to hand over: %v, dropping %v", drops, s.Dropping())
			}
			_, err := s.Get(1, []byte("none"))
			wantError(t, err, store.ErrDropping)
			wantError(t, start(s, putAt(1, 5, "new", "v")).wait(), store.ErrDropping)
			wantKept(t, s, 1)
			first, second := clockWith(dots[0], dots[1], dots[3]), clockWith(dots[0], dots[3])
			s.HandOver(drops[0], []store.Clock{first, second}, 2)
			dropped(t, s)
			for range 2 {
				wantKept(t, s, 1, "half", "none", "one")
				wantGone(t, s, 1, append(keys, "new"), dots)
				eventually(t, "counted", func() bool { return s.Stats().Keys == 1 && s.Stats().StandIns == 3 })
				if len(s.ToHandOver()) > 0 || s.Fence(1) != 5 {
					t.Fatalf("to hand over: %v, fence %d", s.ToHandOver(), s.Fence(1))
				}
				stop3(d, s, max(stop, 0))
				s = open(t, d.Open(), handingOver())
			}
			if o := start(s, putAt(1, 5, "new", "v")); o.wait() != nil || o.dot.Seq != 1 || o.dot.Actor == dots[0].Actor {
				t.Fatalf("first put after the drop: %v, %v", o.err, o.dot)
			}
			wantKept(t, s, 1, "half", "none", "one")
		})
	}
}

// Any claims whatever decide by one rule, record by record.
func TestRecordsAreKeptUnlessEnoughHomesClaimAllTheirSiblings(t *testing.T) {
	rapidChecks(t, runs(40, 2000))
	rapid.Check(t, func(rt *rapid.T) {
		bubble(t, func(t *testing.T) {
			s := open(t, disk.New(1).Open(), handingOver())
			records := map[string]version.Record{}
			for i := range rapid.IntRange(0, 12).Draw(rt, "writes") {
				key := fmt.Sprintf("k%d", rapid.IntRange(0, 5).Draw(rt, "key"))
				r, err := version.Parse(recordFrom(version.Actor(100+i), key, "v"))
				if err != nil {
					t.Fatal(err)
				}
				mustMerge(t, s, 1, r)
				if old, again := records[key]; again {
					r = version.Merge(r, old)
				}
				records[key] = r
			}
			claims := make([]store.Clock, rapid.IntRange(0, 4).Draw(rt, "homes"))
			for i := range claims {
				for a := range version.Actor(12) {
					if rapid.IntRange(0, 3).Draw(rt, "claimed") > 0 {
						claims[i].Add(dot(100+a, 1), false)
					}
				}
			}
			need := rapid.IntRange(1, 3).Draw(rt, "need")
			if err := adopt(s, 5, 1); err != nil {
				t.Fatal(err)
			}
			s.HandOver(s.ToHandOver()[0], claims, need)
			dropped(t, s)
			kept := keptOf(t, s)[1]
			for key, r := range records {
				n := 0
				for i := range claims {
					all := true
					for _, sib := range r.Siblings {
						all = all && claims[i].Has(sib.Dot)
					}
					if all {
						n++
					}
				}
				if b, is := kept[key]; is == (n >= need) || is && string(b) != string(r.Append(nil)) {
					t.Fatalf("key %s, claimed whole by %d of %d, kept: %v, %x", key, n, need, is, b)
				}
			}
		})
	})
}

// A handing over that was meant for an earlier adoption is none for a later one, and what
// has been told counts when the drop begins anew.
func TestHandingOverIsOfOneAdoption(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := open(t, disk.New(1).Open(), handingOver())
		k := mustPut(t, s, 1, "k", "v")
		if err := adopt(s, 5, 1); err != nil {
			t.Fatal(err)
		}
		first := s.ToHandOver()[0]
		if err := adopt(s, 6, 1); err != nil {
			t.Fatal(err)
		}
		s.HandOver(first, []store.Clock{clockWith(k.dot)}, 1)
		time.Sleep(time.Minute)
		second := s.ToHandOver()
		if len(second) != 1 || second[0] == first {
			t.Fatalf("to hand over: %v, before %v", second, first)
		}
		s.HandOver(second[0], nil, 1)
		s.HandOver(second[0], []store.Clock{clockWith(k.dot)}, 1) // too late
		dropped(t, s)
		wantKept(t, s, 1, "k")
		s.HandOver(second[0], nil, 1) // it is over
	})
}

// What is kept of a key from two drops is one record.
func TestWhatIsKeptOfTwoDropsIsMerged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := open(t, disk.New(1).Open(), handingOver())
		older, newer, beside := nth(7, 1, "k"), nth(8, 1, "k"), nth(9, 1, "l")
		for i, r := range []version.Record{older, newer, newer} {
			mustMerge(t, s, 1, r)
			mustMerge(t, s, 1, beside)
			if err := adopt(s, uint64(5+i), 1); err != nil {
				t.Fatal(err)
			}
			handOverAll(s)
			dropped(t, s)
		}
		wantKept(t, s, 1, "k", "l")
		want := version.Merge(older, newer)
		if got := keptOf(t, s)[1]["k"]; string(got) != string(want.Append(nil)) {
			t.Fatalf("%x is kept, want %x", got, want.Append(nil))
		}
		if st := s.Stats(); st.StandIns != 2 || st.Keys != 0 {
			t.Fatalf("stats %+v", st)
		}
	})
}

// What is kept for others is bounded, but nothing that was acknowledged is given up for
// that.
func TestHandingOverIsNotRefusedByTheBoundOfStandIns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := handingOver()
		o.StandInBytesMax = 100
		s := open(t, disk.New(1).Open(), o)
		for i := range 20 {
			mustPut(t, s, 1, fmt.Sprintf("k%02d", i), strings.Repeat("v", 100))
		}
		if err := adopt(s, 5, 1); err != nil {
			t.Fatal(err)
		}
		handOverAll(s)
		dropped(t, s)
		if n := len(keptOf(t, s)[1]); n != 20 {
			t.Fatalf("%d of 20 records are kept", n)
		}
		wantError(t, startStandIn(s, 3, 1, recordFrom(9, "x", "v")).wait(), store.ErrStandInsFull)
	})
}

// A record that is damaged is named, and everything else is kept.
func TestFault33_DamagedRecordThatIsHandedOverIsNamed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), handingOver())
		mustPut(t, s, 1, "bad", "v")
		mustPut(t, s, 1, "good", "v")
		eventually(t, "counted", s.TreesTrusted) // so that no scan finds it first
		if err := errors.Join(adopt(s, 5, 1), s.Close()); err != nil {
			t.Fatal(err)
		}
		replaceQuietly(t, d, []byte("d/\x00\x01bad"), []byte("not a record"))
		s = open(t, d.Open(), handingOver())
		handOverAll(s)
		dropped(t, s)
		wantKept(t, s, 1, "good")
		if h := s.Health(); len(h.Losses) != 1 || !strings.Contains(h.Losses[0], "partition 1") || !strings.Contains(h.Losses[0], "bad") {
			t.Fatalf("losses: %q", h.Losses)
		}
	})
}

// A crash at every sync of a handing over, and of what follows it, loses and doubles
// nothing.
func TestCrashAtEveryStepOfAHandingOver(t *testing.T) {
	copied, dots := beforeDrops(t)
	elsewhere := clockWith(dots[:dropOldKeys/2]...)
	steps := 0
	for _, how := range []string{"kill", "power", "tear"} {
		for n := int64(1); ; n++ {
			if (testing.Short() || raceBuild) && n%2 != 0 {
				continue
			}
			over := false
			bubble(t, func(t *testing.T) {
				d := disk.New(uint64(n))
				d.Restore(copied)
				d.SetTear(map[string]disk.Tear{"tear": disk.TearAll}[how])
				s := open(t, d.Open(), handingOver())
				var syncs atomic.Int64
				hangs, ended := make(chan struct{}), make(chan struct{})
				d.SetSyncDelay(func() time.Duration {
					if syncs.Add(1) == n {
						close(hangs)
						return time.Minute
					}
					return 0
				})
				acked := false
				go func() {
					defer close(ended)
					if acked = adopt(s, 5, 1) == nil; !acked {
						return
					}
					for _, drop := range s.ToHandOver() {
						s.HandOver(drop, []store.Clock{elsewhere}, 1)
					}
					// Nobody waits for a dead store.
					for range 2000 {
						if len(s.Dropping()) == 0 || s.Health().Failed != nil {
							break
						}
						time.Sleep(time.Millisecond)
					}
				}()
				select {
				case <-hangs:
				case <-ended:
					over = true
				}
				if how == "kill" {
					d.Kill()
				} else {
					d.PowerCut()
				}
				_ = s.Close() // of a dead disk
				<-ended
				d.SetSyncDelay(nil)
				s = open(t, d.Open(), handingOver())
				if h := s.Health(); len(h.Losses) > 0 {
					t.Fatalf("losses: %+v", h)
				}
				wantOldKeys(t, s, acked)
			})
			if t.Failed() {
				t.Fatalf("%s at sync %d", how, n)
			}
			if over {
				break
			}
			steps++
		}
	}
	if steps < 8 {
		t.Fatalf("only %d crashes", steps)
	}
}

// wantOldKeys looks for every key of the story's first partition that nobody else has: it
// is there, or kept, and never both. acked says that the drop was acknowledged.
func wantOldKeys(t *testing.T, s *store.Store, acked bool) {
	t.Helper()
	begun := len(s.ToHandOver()) > 0 || len(keptOf(t, s)) > 0
	if acked && !begun {
		t.Fatal("the drop was acknowledged, and has not begun")
	}
	handOverAll(s)
	dropped(t, s)
	kept := keptOf(t, s)[1]
	for i := range dropOldKeys {
		key := fmt.Sprintf("old%d", i)
		b, err := s.Get(1, []byte(key))
		switch _, is := kept[key]; {
		case err != nil:
			t.Fatal(err)
		case begun && b != nil:
			t.Fatalf("key %s was dropped, and is there", key)
		case !begun && (b == nil || is):
			t.Fatalf("key %s is not there without a drop, kept: %v", key, is)
		case begun && !is && i >= dropOldKeys/2:
			t.Fatalf("key %s is lost: nobody else has it", key)
		}
	}
	if want := int64(20 + dropOldKeys); !begun {
		eventually(t, "counted", func() bool { return s.Stats().Keys == want })
	} else {
		eventually(t, "counted", func() bool { st := s.Stats(); return st.Keys == 20 && st.StandIns == int64(len(kept)) })
	}
}

// A put that is taken as soon as the partition may be used again is claimed, and in the
// tree: the end of the drop takes nothing of it away.
func TestAWriteAtTheEndOfADropStaysWhole(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		mustPut(t, s, 1, "old", "v")
		slow(d, 20*time.Millisecond)
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() { // a batch is always on its way
			defer close(stopped)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				_ = start(s, putAt(2, 1000, fmt.Sprint(i), "v")).wait()
			}
		}()
		defer func() { close(stop); <-stopped }()
		for round := range uint64(20) {
			if err := adopt(s, 5+round, 1); err != nil {
				t.Fatal(err)
			}
			var under []*outcome
			for len(s.Dropping()) > 0 {
				under = append(under, start(s, putAt(1, 5+round, "new", "v")))
				time.Sleep(50 * time.Microsecond)
			}
			under = append(under, start(s, putAt(1, 5+round, "new", "v")))
			for _, o := range under {
				if o.wait() == nil && !hasDot(s.ClockOf(1), o.dot) {
					t.Fatalf("round %d: %v was acknowledged, and the clock does not claim it", round, o.dot)
				}
			}
			wantTree(t, s, 1)
			if r := get(t, s, 1, "new"); len(r.Siblings) != 1 {
				t.Fatalf("round %d: the key has %d siblings", round, len(r.Siblings))
			}
		}
	})
}

func hasDot(c store.Clock, d version.Dot) bool { return c.Has(d) }

// Of a dot log that was about to be written when the drop began, nothing is left.
func TestNoBlockOfTheDotLogComesBehindADrop(t *testing.T) {
	for _, handOver := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			d := disk.New(1)
			o := small()
			o.HandOver = handOver
			s := open(t, d.Open(), o)
			slow(d, 100*time.Millisecond)
			first := start(s, blind(2, "x", "v")) // the batch that the others wait for
			var all []*outcome
			for i := range 600 { // more than a block, in one batch with the drop
				all = append(all, start(s, blind(1, fmt.Sprintf("k%d", i), "v")))
			}
			synctest.Wait() // they are in the queue
			if err := errors.Join(adopt(s, 5, 1), first.wait()); err != nil {
				t.Fatal(err)
			}
			var dots []version.Dot
			for _, o := range all {
				if err := o.wait(); err != nil {
					t.Fatal(err)
				}
				dots = append(dots, o.dot)
			}
			handOverAll(s)
			dropped(t, s)
			slow(d, 0)
			for range 2 {
				wantGone(t, s, 1, nil, dots)
				d.Kill()
				_ = s.Close() // of a dead disk
				s = open(t, d.Open(), o)
			}
		})
	}
}
